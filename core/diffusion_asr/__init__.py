"""diffusion-asr: multilingual speech recognition with a discrete-diffusion decoder."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing's own would have to be imported, and this has to be done at once
if TYPE_CHECKING:
    from typing import Any

    from diffusion_asr.acoustics.encoder import AcousticMemory
    from diffusion_asr.decoding.decoder import Hypothesis
    from diffusion_asr.decoding.options import DecodingOptions
    from diffusion_asr.errors import AudioError, DiffusionASRError, FormatError, LanguageError, ModelError
    from diffusion_asr.recognizer import Recognizer
    from diffusion_asr.transcript import Segment, Transcript, Word

# Nothing is imported before it is used: `import diffusion_asr` and `--help` do not load torch.
_WHERE = {
    "AcousticMemory": "acoustics.encoder",
    "AudioError": "errors",
    "DecodingOptions": "decoding.options",
    "DiffusionASRError": "errors",
    "FormatError": "errors",
    "Hypothesis": "decoding.decoder",
    "LanguageError": "errors",
    "ModelError": "errors",
    "Recognizer": "recognizer",
    "Segment": "transcript",
    "Transcript": "transcript",
    "Word": "transcript",
}
__version__ = "0.1.0"
__all__ = [
    "AcousticMemory",
    "AudioError",
    "DecodingOptions",
    "DiffusionASRError",
    "FormatError",
    "Hypothesis",
    "LanguageError",
    "ModelError",
    "Recognizer",
    "Segment",
    "Transcript",
    "Word",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'diffusion_asr' has no attribute {name!r}")
    return getattr(import_module(f"diffusion_asr.{_WHERE[name]}"), name)
