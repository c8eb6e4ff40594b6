"""DER and speaker counts of a diarization pipeline, by pyannote.metrics (no collar, with overlap)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from diffusion_asr.meeting.attribution import Turn
from recipes.diarization.data import Recording

from pyannote.core import Annotation, Segment, Timeline  # isort: skip
from pyannote.metrics.diarization import DiarizationErrorRate  # isort: skip


@dataclass(frozen=True)
class Score:
    """One recording's errors; seconds."""

    name: str
    speakers: int
    found: int
    missed: float
    false_alarm: float
    confusion: float
    total: float

    @property
    def der(self) -> float:
        """Diarization error rate in percent."""
        return 100 * (self.missed + self.false_alarm + self.confusion) / self.total


def annotation(turns: Iterable[Turn]) -> Annotation:
    """Turns as pyannote has them."""
    made = Annotation()
    for number, turn in enumerate(turns):
        made[Segment(turn.start, turn.end), number] = turn.speaker
    return made


def score(recording: Recording, diarization: Annotation) -> Score:
    """Errors over the whole recording, silence included."""
    whole = Timeline([Segment(0.0, len(recording.samples) / 16_000)])
    part = DiarizationErrorRate()(annotation(recording.turns), diarization, uem=whole, detailed=True)
    return Score(
        recording.name,
        recording.speakers,
        len(diarization.labels()),
        part["missed detection"],
        part["false alarm"],
        part["confusion"],
        part["total"],
    )


def evaluate(pipeline: Any, recordings: Iterable[Recording]) -> list[tuple[Score, Score]]:
    """Each recording with the count given, and unaided."""
    pairs = []
    pipeline.training = True  # pyannote then keeps embeddings in the file, for the second run
    for recording in recordings:
        file = recording.as_file()
        given = pipeline(file, num_speakers=recording.speakers).speaker_diarization
        alone = pipeline(file).speaker_diarization
        pairs.append((score(recording, given), score(recording, alone)))
    pipeline.training = False
    return pairs


def pooled(scores: list[Score]) -> tuple[float, float]:
    """DER over all seconds, and the share with the right count, in percent."""
    errors = sum(s.missed + s.false_alarm + s.confusion for s in scores)
    right = sum(s.found == s.speakers for s in scores)
    return 100 * errors / sum(s.total for s in scores), 100 * right / len(scores)
