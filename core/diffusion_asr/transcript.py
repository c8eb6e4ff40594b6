"""What a recogniser returns: frozen value types, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field

from diffusion_asr.languages import is_spaced, is_wide


def join_lines(text: str) -> str:
    """A text without line ends: a space for each, but none between wide letters such as Hanzi."""
    joined, *others = text.splitlines() or [""]
    for line in filter(None, map(str.strip, others)):
        glued = not joined or (is_wide(joined[-1]) and is_wide(line[0]))
        joined = joined.rstrip() + line if glued else f"{joined.rstrip()} {line}"
    return joined


def _are_glued(text: str, line: str, language: str | None) -> bool:
    """Whether no space stands between two texts; in an unknown language, only between wide letters."""
    wide = (is_wide(text[-1]), is_wide(line[0]))
    return all(wide) if language is None else any(wide) and not is_spaced(language)


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
        text = ""
        for segment in self.segments:
            line = join_lines(segment.text)
            text += line if not text or not line or _are_glued(text, line, segment.language) else f" {line}"
        return text.strip()

    @property
    def language(self) -> str | None:
        """The language that covers most of the time, or None."""
        spans: dict[str, float] = {}
        for segment in self.segments:
            if segment.language is not None:
                spans[segment.language] = spans.get(segment.language, 0.0) + segment.end - segment.start
        return max(spans, key=lambda name: spans[name]) if spans else None

    @property
    def words(self) -> tuple[Word, ...]:
        """Every word, in order."""
        return tuple(word for segment in self.segments for word in segment.words)
