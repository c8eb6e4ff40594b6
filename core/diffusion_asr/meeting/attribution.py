"""Who said which word: speaker turns joined with words. Pure functions; nothing here needs a toolkit.

A word belongs to the speaker who talks for most of it. A word that falls between turns goes to the nearer
turn if that is within ``limit`` seconds, else to nobody. Attribution reads the *exclusive* view of a
diarization, in which one person at a time has the floor; the overlapping view marks words where two talk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby

from diffusion_asr.text.spacing import join_words as text_of
from diffusion_asr.transcript import Segment, Transcript, Word

LIMIT = 0.5  # seconds between a word and a turn that it may still belong to
_INSTANT = 0.02  # a word without length is looked up in this many seconds around its time


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """Someone talks from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    speaker: str


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who said a word.

    Attributes:
        speaker: Label, or None for nobody known.
        confidence: Share of the word in which this speaker has the floor; for a word between turns it falls
            from 0.5 next to the turn to 0 at the limit.
        overlapped: Someone else talks during the word too.
    """

    speaker: str | None
    confidence: float
    overlapped: bool = False


class TurnIndex:
    """Turns in order, so that those near a moment are found without walking through all of them."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        self._turns = sorted(turn for turn in turns if turn.end > turn.start)
        self._starts = [turn.start for turn in self._turns]
        # Turns may overlap, so ends are not in order; the latest end so far is.
        self._latest = list(accumulate((turn.end for turn in self._turns), max))

    def during(self, start: float, end: float) -> dict[str, float]:
        """Seconds that each speaker talks between ``start`` and ``end``."""
        spoken: dict[str, float] = {}
        first, last = bisect_left(self._latest, start), bisect_left(self._starts, end)
        for turn in self._turns[first:last]:
            shared = min(end, turn.end) - max(start, turn.start)
            if shared > 0.0:
                spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + shared
        return spoken

    def nearest(self, start: float, end: float) -> tuple[str, float] | None:
        """The speaker nearest to a silent stretch, and the seconds between; the earlier if equal."""
        following = bisect_left(self._starts, end)
        around: list[tuple[float, str]] = []
        if following:
            latest = self._latest[following - 1]
            before = self._turns[bisect_left(self._latest, latest)]
            around.append((max(0.0, start - before.end), before.speaker))
        if following < len(self._turns):
            after = self._turns[following]
            around.append((max(0.0, after.start - end), after.speaker))
        if not around:
            return None
        gap, speaker = min(around, key=lambda pair: pair[0])
        return speaker, gap


def make_exclusive(turns: Iterable[Turn]) -> list[Turn]:
    """One speaker at a time: who talks first keeps the floor until done.

    For diarizers that give no exclusive view. What a second speaker says in between goes with the first.
    """
    out: list[Turn] = []
    for turn in sorted(turns):
        start = max(turn.start, out[-1].end) if out else turn.start
        if turn.end > start:
            out.append(replace(turn, start=start))
    return out


def find_speakers(
    words: Iterable[Word], turns: Iterable[Turn], overlapping: Iterable[Turn] = (), limit: float = LIMIT
) -> list[Attribution]:
    """Who said each word.

    Args:
        words: With times in seconds, in any order.
        turns: The exclusive view (overlapping turns work; the one who talks longer in the word wins).
        overlapping: The overlapping view, to mark words where several talk.
        limit: Seconds to the nearest turn above which nobody said the word.

    Raises:
        ValueError: ``limit`` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit must be 0 or more seconds, not {limit}")
    floor, crowd = TurnIndex(turns), TurnIndex(overlapping)
    return [_attribute(word, floor, crowd, limit) for word in words]


def _attribute(word: Word, floor: TurnIndex, crowd: TurnIndex, limit: float) -> Attribution:
    start, end = _span(word)
    talking = floor.during(start, end)
    if talking:
        speaker = max(talking, key=lambda name: talking[name])
        others = crowd.during(start, end).keys() - {speaker}
        return Attribution(speaker, min(1.0, round(talking[speaker] / (end - start), 4)), bool(others))
    near = floor.nearest(start, end)
    if near is None or near[1] > limit:
        return Attribution(None, 0.0)
    speaker, gap = near
    return Attribution(speaker, round(0.5 * (1 - gap / limit), 4) if limit else 0.5)


def _span(word: Word) -> tuple[float, float]:
    """When a word is said, never shorter than an instant."""
    if word.end - word.start >= _INSTANT:
        return word.start, word.end
    middle = (word.start + word.end) / 2
    return middle - _INSTANT / 2, middle + _INSTANT / 2


def split_segment(segment: Segment, speakers: Sequence[str | None]) -> list[Segment]:
    """A segment cut at the words where the speaker changes.

    Args:
        segment: With words.
        speakers: One for each word; None is nobody known.

    Raises:
        ValueError: Not one speaker for each word.
    """
    words = [replace(w, speaker=s) for w, s in zip(segment.words, speakers, strict=True)]
    parts = [tuple(run) for _, run in groupby(words, key=lambda word: word.speaker)]
    if len(parts) == 1:
        return [replace(segment, words=parts[0], speaker=parts[0][0].speaker)]
    return [
        replace(segment, start=p[0].start, end=p[-1].end, text=text_of(p), words=p, speaker=p[0].speaker)
        for p in parts
    ]


def attribute_words(
    transcript: Transcript, turns: Iterable[Turn], limit: float = LIMIT, overlapping: Iterable[Turn] = ()
) -> Transcript:
    """A transcript in which every word and segment has its speaker (None: nobody known).

    Args:
        transcript: A segment without words is kept whole, for whoever talks during most of it.
        turns: The exclusive view of a diarization of the same recording.
        limit: As in ``find_speakers``.
        overlapping: The overlapping view, to mark words where several talk.

    Raises:
        ValueError: ``limit`` is negative.
    """
    if limit < 0:
        raise ValueError(f"limit must be 0 or more seconds, not {limit}")
    floor, crowd = TurnIndex(turns), TurnIndex(overlapping)
    segments: list[Segment] = []
    for segment in transcript.segments:
        units = segment.words or (Word(segment.text, segment.start, segment.end),)
        found = [_attribute(word, floor, crowd, limit) for word in units]
        speakers = [a.speaker for a in found]
        if segment.words:
            words = tuple(_marked(w, a) for w, a in zip(units, found, strict=True))
            segments += split_segment(replace(segment, words=words), speakers)
        else:
            segments.append(replace(segment, speaker=speakers[0]))
    return replace(transcript, segments=tuple(segments))


def assign_speaker(segment: Segment, speaker: str | None, floor: TurnIndex, crowd: TurnIndex) -> Segment:
    """A segment whose speaker is known from elsewhere; turns only tell how sure that is for each word.

    Args:
        segment: With words.
        speaker: Who said all of it; None is nobody known.
        floor: The exclusive view.
        crowd: The overlapping view.
    """

    def marked(word: Word) -> Word:
        if speaker is None:
            return _marked(word, Attribution(None, 0.0))
        start, end = _span(word)
        share = min(1.0, round(floor.during(start, end).get(speaker, 0.0) / (end - start), 4))
        return _marked(word, Attribution(speaker, share, bool(crowd.during(start, end).keys() - {speaker})))

    return replace(segment, speaker=speaker, words=tuple(marked(word) for word in segment.words))


def _marked(word: Word, found: Attribution) -> Word:
    return replace(
        word, speaker=found.speaker, speaker_confidence=found.confidence, overlapped=found.overlapped
    )
