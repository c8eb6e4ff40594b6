"""Imports SpeechBrain, or says how to install it; our errors as SpeechBrain's kind."""

from __future__ import annotations

from diffusion_asr.errors import DiffusionASRError, ToolkitMissingError

try:
    import speechbrain as _speechbrain
except ImportError as error:
    raise ToolkitMissingError(
        f"SpeechBrain cannot be imported ({error}): pip install 'diffusion-asr[speechbrain]'"
    ) from error

VERSION: str = _speechbrain.__version__


class RecognitionError(DiffusionASRError, ValueError):
    """What went wrong, in our words: a ``ValueError``, as SpeechBrain raises for bad input."""
