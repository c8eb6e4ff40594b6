"""The seam between listening and writing: what every decoder takes and gives.

Whoever adds a decoder writes a class with ``languages`` and ``decode`` (``docs/extending.md``); recogniser,
adapters, meetings and the command line know no more of it than this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.options import DecodingOptions, Start
from diffusion_asr.errors import LanguageError
from diffusion_asr.languages import AUTO
from diffusion_asr.transcript import Word

__all__ = [
    "AUTO",
    "UNDETERMINED",
    "ClipDecoder",
    "Decoded",
    "Decoder",
    "DecodingOptions",
    "Hypothesis",
    "PassKind",
    "Start",
    "TraceStep",
    "check_languages",
]
UNDETERMINED = "und"  # ISO 639's word for a language that nobody has told
PassKind = Literal["parallel", "causal"]


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One pass over one clip's canvas.

    Attributes:
        kind: "parallel": every place may change; "causal": a pass of a decoder that reads left to right.
        step: Its number, from 1.
        canvas: (L,) ids that went in.
        predicted: (L,) ids that came out.
        confidence: (L,) their probabilities.
        accepted: (L,) bool, kept for the next pass.
    """

    kind: PassKind
    step: int
    canvas: Tensor
    predicted: Tensor
    confidence: Tensor
    accepted: Tensor


@dataclass(frozen=True, slots=True)
class Decoded:
    """One clip's text as a canvas in time, and what it cost.

    Attributes:
        canvas: (L,) token ids, 0 is null; runs of the same token are one (``canvas.collapse_canvas``).
        confidence: (L,) probability of each slot's token.
        slot_times: (L,) seconds from the clip's start to each slot's centre.
        slot_seconds: Length of a slot.
        parallel_passes: Calls of a network in which every place of the canvas may change.
        causal_passes: Passes of a decoder that goes from left to right.
        timing_passes: Passes that tell word times only; ``steps`` does not bound them.
        lead: Seconds by which the slots run ahead of what is heard in them; None is the model's usual lead
            (``Calibration.lag``).
        starts: Seconds at which the canvas's tokens begin; empty where only the slots tell.
        trace: Every decoding pass, if it was asked for.
    """

    canvas: Tensor
    confidence: Tensor
    slot_times: Tensor
    slot_seconds: float
    parallel_passes: int
    causal_passes: int = 0
    timing_passes: int = 0
    lead: float | None = None
    starts: tuple[float, ...] = ()
    trace: tuple[TraceStep, ...] = ()

    @property
    def passes(self) -> int:
        """All that ``DecodingOptions.steps`` bounds."""
        return self.parallel_passes + self.causal_passes


class Decoder(Protocol):
    """Acoustic memory to canvases."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it writes."""
        ...

    def decode(
        self, memory: AcousticMemory, languages: Sequence[str], options: DecodingOptions
    ) -> list[Decoded]:
        """Decode a batch: one result a clip, the same as if the clip were alone.

        Args:
            memory: B clips.
            languages: One code for each; ``UNDETERMINED`` where nobody has told it.
            options: How.
        """
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a recogniser made of one clip.

    Attributes:
        text: The words as written.
        words: With times in seconds from the clip's start, and confidence.
        language: The language that it was decoded in.
        confidence: Mean probability of the words; 0 for an empty clip.
        decoded: Canvas, passes taken and (if asked for) the trace.
    """

    text: str
    words: tuple[Word, ...]
    language: str
    confidence: float
    decoded: Decoded


class ClipDecoder(Protocol):
    """A decoder of one clip at a time, which is a ``Decoder`` by inheriting this.

    In a padded batch a clip would be rounded in another way, and its text would depend on its neighbours.
    """

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        ...

    def decode_clip(
        self, memory: AcousticMemory, language: str, options: DecodingOptions, clip: int
    ) -> Decoded:
        """Decode the only clip of ``memory``, which was number ``clip`` of the call."""
        ...

    def decode(
        self, memory: AcousticMemory, languages: Sequence[str], options: DecodingOptions
    ) -> list[Decoded]:
        """See ``Decoder.decode``; clip by clip."""
        check_languages(languages, self.languages, len(memory))
        return [self.decode_clip(memory.clip(n), code, options, n) for n, code in enumerate(languages)]


def check_languages(given: Sequence[str], known: Sequence[str], clips: int) -> None:
    """Raise ``LanguageError`` unless there is a known language for each clip."""
    if len(given) != clips:
        raise LanguageError(f"{len(given)} languages for {clips} clips; give one, or one for each")
    if unknown := sorted(set(given) - set(known)):
        raise LanguageError(f"unknown language {unknown[0]!r}; this model knows {', '.join(known)}")
