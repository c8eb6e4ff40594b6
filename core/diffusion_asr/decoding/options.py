"""How to decode: one frozen value from the command line to the decoder. Imports nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

Start = Literal["null", "noise"]
STARTS: tuple[Start, ...] = ("null", "noise")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodingOptions:
    """How to decode; one value that goes whole from the command line to the decoder.

    A language that is written by letters (Hindi in canvas-base) takes one pass and reads no first canvas.

    Attributes:
        steps: At most so many passes in all; None goes on until the text has settled.
        max_steps: The limit where ``steps`` is None; None is the decoder's own.
        verify: Whether a decoder that can do either verifies its draft from left to right; False writes the
            whole text in parallel passes. None verifies where ``steps`` is None.
        start: The first canvas: "null" (nothing is known), uniform "noise", or token ids for each clip.
        entropy_bound: Nats of entropy that a denoising step accepts; None is the decoder's own.
        temperature: Of the tokens that go on to the next step, which are drawn; 0 takes the likeliest, None
            is the decoder's own way.
        seed: Of the noise: the same seed gives the same text.
        trace: Keep every pass in ``Decoded.trace``.

    Example:
        >>> DecodingOptions(steps=4, start="noise").changed(seed=1).seed
        1
    """

    steps: int | None = None
    max_steps: int | None = None
    verify: bool | None = None
    start: Start | tuple[tuple[int, ...], ...] = "null"
    entropy_bound: float | None = None
    temperature: float | None = None
    seed: int = 0
    trace: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "max_steps"):
            given = getattr(self, name)
            if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
                raise ValueError(
                    f"{name} must be a whole number of passes, 1 or more (or None), not {given!r}"
                )
        if self.verify is not None and not isinstance(self.verify, bool):
            raise ValueError(f"verify must be True, False or None, not {self.verify!r}")
        if isinstance(self.start, str) and self.start not in STARTS:
            raise ValueError(f"start must be 'null', 'noise' or canvases of token ids, not {self.start!r}")
        for name in ("entropy_bound", "temperature"):
            given = getattr(self, name)
            if given is not None and not (given >= 0 and math.isfinite(given)):
                raise ValueError(f"{name} must be a number of 0 or more (or None), not {given!r}")

    def changed(self, **changes: Any) -> DecodingOptions:
        """The same options but for ``changes``, by name.

        Raises:
            TypeError: A name that is none of the options.
            ValueError: A value that makes no sense.
        """
        known = [field.name for field in fields(self)]
        if unknown := sorted(set(changes) - set(known)):
            raise TypeError(f"unknown decoding options: {', '.join(unknown)}; there are {', '.join(known)}")
        return replace(self, **changes) if changes else self

    @property
    def verifies(self) -> bool:
        """Whether the text is verified from left to right, by a decoder that can do either."""
        return self.steps is None if self.verify is None else self.verify

    def limit(self, own: int) -> int:
        """The most passes that a clip may take, where a decoder's ``own`` limit is this."""
        return self.steps or self.max_steps or own
