"""Imports pyannote.audio with its telemetry off, or says how to install it."""

from __future__ import annotations

import os

from diffusion_asr.errors import ToolkitMissingError

# pyannote.audio writes its own default ("true") here when it is imported and asks again at every use:
# assigning, not setdefault, also silences a pyannote.audio that was imported before us.
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"

try:
    import pyannote.audio as _pyannote_audio
except ImportError as error:
    raise ToolkitMissingError(
        f"pyannote.audio cannot be imported ({error}): pip install 'diffusion-asr[pyannote]'"
    ) from error

VERSION: str = _pyannote_audio.__version__
