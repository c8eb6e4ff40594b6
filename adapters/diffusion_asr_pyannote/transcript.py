"""What the pipeline returns: a transcript, and beside it what pyannote's own diarizations return."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from diffusion_asr.meeting import MeetingResult
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.transcript import Segment, Transcript
from diffusion_asr_pyannote import toolkit as _toolkit  # noqa: F401 - telemetry off first

from pyannote.audio.pipelines.speaker_diarization import DiarizeOutput  # isort: skip
from pyannote.core import Annotation  # isort: skip
from pyannote.core import Segment as Span  # isort: skip


@dataclass(frozen=True, slots=True)
class SpeakerTranscript(Transcript):
    """A transcript whose words and segments have speakers, beside the diarization that it was joined with.

    It can stand where a script expects pyannote's ``DiarizeOutput`` (pyannote.audio 4) or takes the turns of
    an ``Annotation`` (3.1).

    Attributes:
        speaker_diarization: pyannote ``Annotation`` in which turns may overlap.
        exclusive_speaker_diarization: pyannote ``Annotation`` with one speaker at a time; words were
            attributed by it.
        speaker_embeddings: (speakers, dimension) in the order of ``speaker_diarization.labels()``, NaN for a
            speaker without one; None if the diarization gave none.
    """

    speaker_diarization: Any = None
    exclusive_speaker_diarization: Any = None
    speaker_embeddings: NDArray[Any] | None = None

    def __eq__(self, other: object) -> bool:
        """Whether all is the same, number by number."""
        if not isinstance(other, SpeakerTranscript):
            return NotImplemented
        names = [field.name for field in fields(self) if field.name != "speaker_embeddings"]
        mine, theirs = self.speaker_embeddings, other.speaker_embeddings
        if mine is None or theirs is None:
            alike = mine is theirs
        else:
            alike = np.array_equal(mine, theirs, equal_nan=True)
        return alike and all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]  # annotations have none

    def serialize(self) -> dict[str, Any]:
        """Plain values for JSON: pyannote's "diarization" and "exclusive_diarization", and "transcript"."""
        output = DiarizeOutput(self.speaker_diarization, self.exclusive_speaker_diarization)
        found: dict[str, Any] = output.serialize()
        return {**found, "transcript": [_plain(segment) for segment in self.segments]}

    def itertracks(self, yield_label: bool = False) -> Iterator[tuple[Any, ...]]:
        """As ``speaker_diarization.itertracks``: each turn, its track and, if wanted, its speaker."""
        tracks: Iterator[tuple[Any, ...]] = self.speaker_diarization.itertracks(yield_label=yield_label)
        return tracks

    def labels(self) -> list[str]:
        """The speakers, as ``speaker_diarization.labels``."""
        return list(self.speaker_diarization.labels())

    @property
    def uri(self) -> str | None:
        """Name of the recording."""
        uri: str | None = self.speaker_diarization.uri
        return uri

    def get_timeline(self, copy: bool = True) -> Any:
        """As ``speaker_diarization.get_timeline``: when anybody talks."""
        return self.speaker_diarization.get_timeline(copy=copy)

    def label_duration(self, label: str) -> float:
        """As ``speaker_diarization.label_duration``: seconds that a speaker talks."""
        return float(self.speaker_diarization.label_duration(label))

    def write_rttm(self, file: TextIO) -> None:
        """As ``speaker_diarization.write_rttm``."""
        self.speaker_diarization.write_rttm(file)


def _plain(segment: Segment) -> dict[str, Any]:
    words = [
        {
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "speaker": word.speaker,
            "text": word.text,
            "confidence": word.confidence,
        }
        for word in segment.words
    ]
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "speaker": segment.speaker,
        "language": segment.language,
        "text": segment.text,
        "words": words,
    }


def make_transcript(
    meeting: MeetingResult, uri: str, embeddings: dict[str, NDArray[Any]]
) -> SpeakerTranscript:
    """A meeting as the pipeline returns it.

    Args:
        meeting: What core found.
        uri: Name of the recording.
        embeddings: Of speakers by name, (dimension,) each; may be empty.
    """
    plain = {field.name: getattr(meeting.transcript, field.name) for field in fields(Transcript)}
    everybody = _annotation(meeting.turns, uri)
    return SpeakerTranscript(
        **plain,
        speaker_diarization=everybody,
        exclusive_speaker_diarization=_annotation(meeting.exclusive, uri),
        speaker_embeddings=_rows(everybody.labels(), embeddings),
    )


def _annotation(turns: Iterable[Turn], uri: str) -> Annotation:
    made = Annotation(uri=uri)
    for number, turn in enumerate(turns):
        made[Span(turn.start, turn.end), number] = turn.speaker
    return made


def _rows(labels: list[str], embeddings: dict[str, NDArray[Any]]) -> NDArray[Any] | None:
    if not embeddings:
        return None
    missing = np.full_like(next(iter(embeddings.values())), np.nan, dtype=float)
    return np.stack([embeddings.get(label, missing) for label in labels]) if labels else missing[None][:0]
