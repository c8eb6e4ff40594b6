"""Speaker-attributed transcripts and offline diarization for pyannote.audio.

>>> from pyannote.audio import Pipeline
>>> from diffusion_asr_pyannote import MEETING
>>> transcript = Pipeline.from_pretrained(MEETING)("meeting.wav", num_speakers=2)

Importing this package turns pyannote.audio's telemetry off.
"""

from pathlib import Path

from diffusion_asr.errors import ToolkitMissingError
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr_pyannote import toolkit as _toolkit  # telemetry off before pyannote.audio is imported
from diffusion_asr_pyannote.diarization import OfflineDiarization
from diffusion_asr_pyannote.diarizer import PipelineInputError, PyannoteDiarizer, meeting_diarizer, turns_of
from diffusion_asr_pyannote.pipeline import SpeakerAttributedTranscription
from diffusion_asr_pyannote.transcript import SpeakerTranscript

TOOLKIT = "pyannote.audio"
TOOLKIT_VERSION = _toolkit.VERSION
MEETING = Path(__file__).parent / "meeting"
"""Folder for ``Pipeline.from_pretrained``: offline diarization and canvas-base."""
OFFLINE_DIARIZATION = Path(__file__).parent / "offline"
"""Folder for ``Pipeline.from_pretrained``: the diarization alone."""

__all__ = [
    "MEETING",
    "OFFLINE_DIARIZATION",
    "TOOLKIT",
    "TOOLKIT_VERSION",
    "OfflineDiarization",
    "PipelineInputError",
    "PyannoteDiarizer",
    "SpeakerAttributedTranscription",
    "SpeakerTranscript",
    "ToolkitMissingError",
    "Turn",
    "meeting_diarizer",
    "turns_of",
]
