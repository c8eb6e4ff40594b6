"""What a meeting's transcription returns: frozen value types, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.transcript import Segment, Transcript


@dataclass(frozen=True, slots=True)
class SegmentTrace:
    """How one stretch of the meeting was denoised, for people to watch.

    Attributes:
        start: Seconds from the start of the recording.
        end: Seconds.
        steps: Text of the first canvas (noise, or nothing if decoding began with a draft), then of the
            canvas after every denoising step.
    """

    start: float
    end: float
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MeetingResult:
    """Who said what in one recording.

    Attributes:
        transcript: Segments of one speaker each; words with speaker, confidences and overlap mark.
        turns: The diarization for display: people may talk at the same time.
        exclusive: The diarization that words were attributed by: one speaker at a time.
        duration: Seconds of the whole recording.
        source: Its path, or None for samples in memory.
        traces: The denoising of every stretch that was decoded, if it was asked for.
    """

    transcript: Transcript
    turns: tuple[Turn, ...] = ()
    exclusive: tuple[Turn, ...] = ()
    duration: float = 0.0
    source: str | None = None
    traces: tuple[SegmentTrace, ...] = ()

    @property
    def speakers(self) -> tuple[str, ...]:
        """Everybody who talks, in the order in which they begin."""
        return tuple(dict.fromkeys(turn.speaker for turn in sorted(self.turns)))

    @property
    def diarization(self) -> Transcript:
        """Who speaks when, as segments without text: what the meeting's RTTM holds."""
        segments = tuple(Segment(turn.start, turn.end, "", speaker=turn.speaker) for turn in self.turns)
        return Transcript(segments, self.transcript.duration, self.source)
