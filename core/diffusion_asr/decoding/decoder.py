"""What every decoder takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusion_asr.decoding.canvas import Denoised
from diffusion_asr.transcript import Word

Init = Literal["draft", "noise"]


AUTO = "auto"


SEED = 0  # default noise: a transcription without an explicit generator is repeatable


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the denoiser made of one clip.

    Attributes:
        text: The words as written.
        words: With times in seconds from the clip's start, and confidence.
        language: The language that it was decoded in.
        confidence: Mean probability of the words; 0 for an empty clip.
        denoised: Canvas, steps taken and (if asked for) the trace.
    """

    text: str
    words: tuple[Word, ...]
    language: str
    confidence: float
    denoised: Denoised
