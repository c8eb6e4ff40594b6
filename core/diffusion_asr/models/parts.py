"""What a loaded model consists of."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from diffusion_asr.acoustics.encoder import Encoder
from diffusion_asr.acoustics.language import LanguagePosterior
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.decoder import Decoder
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Parts:
    """A model's parts; any of them may be another one (``dataclasses.replace``).

    Attributes:
        encoder: Waveforms to acoustic memory.
        decoder: Acoustic memory to canvases.
        vocabulary: Spells the canvases' tokens.
        name: Of the model.
        version: Of the model.
        calibration: From probabilities to confidence, and by how much canvases run ahead.
        language: Which language is spoken; None where nothing detects it.
        denoiser: What toolkits fine-tune; None where the decoder has no canvas denoiser.
    """

    encoder: Encoder
    decoder: Decoder
    vocabulary: Vocabulary
    name: str
    version: str
    calibration: Calibration = field(default_factory=Calibration)
    language: LanguagePosterior | None = None
    denoiser: CanvasDenoiser | None = None

    @property
    def modules(self) -> list[nn.Module]:
        """The networks whose weights make the model what it is."""
        inside = [getattr(self.decoder, name, None) for name in ("denoiser", "refiner")]
        letters = getattr(getattr(self.decoder, "letters", None), "canvas", None)
        parts = (self.encoder, self.denoiser, self.language, *inside, letters)
        return list(dict.fromkeys(part for part in parts if isinstance(part, nn.Module)))
