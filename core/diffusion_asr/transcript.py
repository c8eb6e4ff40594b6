"""What a recogniser returns: frozen value types, times in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from diffusion_asr.languages import is_spaced


@dataclass(frozen=True, slots=True)
class Word:
    """One word (in Mandarin: one character or Latin word) with its place in time.

    Attributes:
        text: The word as written, without surrounding spaces, punctuation attached.
        start: Seconds from the start of the recording.
        end: Seconds, not before ``start``.
        confidence: Probability in [0, 1] that the word is right, or None if unknown.
        speaker: Label of the speaker, or None.
        speaker_confidence: In [0, 1], how sure it is that ``speaker`` said it, or None if unknown.
        overlapped: Somebody else talks at the same time.
    """

    text: str
    start: float
    end: float
    confidence: float | None = None
    speaker: str | None = None
    speaker_confidence: float | None = None
    overlapped: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech in one language by (at most) one labelled speaker."""

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    language: str | None = None
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """All segments of one recording, in order of start time."""

    segments: tuple[Segment, ...] = ()
    duration: float = 0.0
    source: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The whole text on one line; a space between segments unless the script has none."""
        pieces: list[str] = []
        for segment in self.segments:
            if pieces and segment.text and is_spaced(segment.language):
                pieces.append(" ")
            pieces.append(segment.text)
        return "".join(pieces).strip()

    @property
    def language(self) -> str | None:
        """The language that covers most of the time, or None."""
        spans: dict[str, float] = {}
        for segment in self.segments:
            if segment.language is not None:
                spans[segment.language] = spans.get(segment.language, 0.0) + segment.end - segment.start
        return max(spans, key=lambda name: spans[name]) if spans else None

    @property
    def words(self) -> Iterator[Word]:
        """Every word, in order."""
        return (word for segment in self.segments for word in segment.words)
