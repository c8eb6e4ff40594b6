"""Meetings: who said what, in which language.

>>> from diffusion_asr.meeting import MeetingOptions, SpeakerCount, transcribe_meeting
>>> meeting = transcribe_meeting("meeting.wav", options=MeetingOptions(speakers=SpeakerCount(2)))
>>> for segment in meeting.transcript.segments:
...     print(segment.speaker, segment.text)
"""

from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import (
    Diarization,
    DiarizationError,
    Diarizer,
    KnownTurns,
    SpeakerCount,
    Stage,
)
from diffusion_asr.meeting.engine import (
    DEFAULT_ORDER,
    ORDERS,
    MeetingOptions,
    MeetingWarning,
    Order,
    transcribe_meeting,
)
from diffusion_asr.meeting.journal import ResumeError
from diffusion_asr.meeting.offline import make_offline_diarizer
from diffusion_asr.meeting.result import MeetingResult, SegmentTrace
from diffusion_asr.meeting.rttm import read_rttm

__all__ = [
    "DEFAULT_ORDER",
    "ORDERS",
    "Diarization",
    "DiarizationError",
    "Diarizer",
    "KnownTurns",
    "MeetingOptions",
    "MeetingResult",
    "MeetingWarning",
    "Order",
    "ResumeError",
    "SegmentTrace",
    "SpeakerCount",
    "Stage",
    "Turn",
    "make_offline_diarizer",
    "read_rttm",
    "transcribe_meeting",
]
