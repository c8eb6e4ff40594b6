"""An open recording, on its way through the decoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diffusion_asr.audio.samples import Piece


@dataclass(frozen=True, slots=True)
class Stream:
    """An open file.

    Attributes:
        rate: Hz at its start.
        channels: At its start.
        format: Container and coding, such as ``WAV/PCM_16``.
        frames: In all, at ``rate``; None if nothing tells it.
        pieces: What is in it.
        likely: Seconds in all, as far as one can tell without decoding.
    """

    rate: int
    channels: int
    format: str
    frames: int | None
    pieces: Iterator[Piece]
    likely: float
