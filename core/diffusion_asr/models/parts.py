"""What a loaded model consists of."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_asr.acoustics.encoder import WhisperEncoder
from diffusion_asr.acoustics.language import Draft, LanguagePosterior
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.causal.model import EditDenoiser
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Parts:
    """A model's parts, as a checkpoint holds them."""

    encoder: WhisperEncoder
    denoiser: CanvasDenoiser
    language: LanguagePosterior
    vocabulary: Vocabulary
    calibration: Calibration
    name: str
    version: str
    draft: Draft
    refiner: EditDenoiser | None = None
