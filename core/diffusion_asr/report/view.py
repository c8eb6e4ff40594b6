"""What the page shows, as plain values: speakers with their shares, blocks of words, turns, replays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Protocol

from diffusion_asr import formats
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from diffusion_asr.meeting import MeetingResult

_PAUSE = 4.0  # seconds of silence after which the same speaker gets a new block
_LONGEST = 60.0  # seconds of a block: a lecture wants paragraphs too
_MOST_STEPS = 40  # of a replay; a segment that took more is shown in evenly spread ones
OVERLAPPED, GLUED = 1, 2  # flags of a word


class Replay(Protocol):
    """How a stretch of the recording was denoised; `diffusion_asr.meeting.SegmentTrace` is one.

    Attributes:
        start: Seconds.
        end: Seconds.
        steps: The canvas as text after each step; the first is noise.
    """

    @property
    def start(self) -> float: ...  # noqa: D102
    @property
    def end(self) -> float: ...  # noqa: D102
    @property
    def steps(self) -> tuple[str, ...]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class View:
    """The page's title and its data, ready for JSON."""

    title: str
    payload: dict[str, Any]


def build_view(meeting: MeetingResult | Transcript, replays: Sequence[Replay] = ()) -> View:
    """Everything that the page shows but for the sound."""
    if isinstance(meeting, Transcript):
        transcript, turns, traces = meeting, _own_turns(meeting), tuple(replays)
        source, duration = meeting.source, meeting.duration
    else:
        transcript, turns, traces = meeting.transcript, list(meeting.turns), (*meeting.traces, *replays)
        source, duration = meeting.source, meeting.duration
    words = [word for segment in transcript.segments for word in _words(segment)]
    names = _in_order_of_appearance(turns, (*transcript.segments, *words))
    index = {name: n for n, name in enumerate(names)}
    title = _title(source)
    payload = {
        "source": title if source else None,
        "name": PurePosixPath(title).stem or title,
        "duration": max([round(duration, 3), *(word.end for word in words)]),
        "speakers": _speakers(names, turns, words),
        "turns": [[round(t.start, 3), round(t.end, 3), index[t.speaker]] for t in turns]
        if names
        else [[round(s.start, 3), round(s.end, 3), 0] for s in transcript.segments],
        "blocks": [_block(block, index) for block in _blocks(transcript.segments)],
        "cues": _cues(transcript, index),
        "languages": list(dict.fromkeys(s.language for s in transcript.segments if s.language)),
        "replays": [_replay(trace) for trace in traces if len(trace.steps) > 1],
    }
    return View(title, payload)


def _title(source: str | None) -> str:
    """The recording's file name, without a folder of either kind of system."""
    return PureWindowsPath(PurePosixPath(source).name).name if source else "Transcript"


def _own_turns(transcript: Transcript) -> list[Turn]:
    """A transcript that already has speakers knows their turns."""
    return [Turn(s.start, s.end, s.speaker) for s in transcript.segments if s.speaker is not None]


def _words(segment: Segment) -> tuple[Word, ...]:
    """A segment without word times is one long word, so that it can be clicked too."""
    return segment.words or (Word(segment.text, segment.start, segment.end, speaker=segment.speaker),)


def _in_order_of_appearance(turns: Iterable[Turn], spoken: Iterable[Segment | Word]) -> list[str]:
    talked = [(t.start, t.speaker) for t in turns]
    talked += [(s.start, s.speaker) for s in spoken if s.speaker is not None]
    return list(dict.fromkeys(name for _, name in sorted(talked)))


def _speakers(names: Sequence[str], turns: Iterable[Turn], words: Iterable[Word]) -> list[dict[str, Any]]:
    """Each speaker's seconds (where two talk, both count), share of all seconds, and words."""
    seconds, spoken = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    for turn in turns:
        seconds[turn.speaker] += turn.end - turn.start
    for word in words:
        if word.speaker is not None:
            spoken[word.speaker] += 1
    total = sum(seconds.values()) or 1.0
    return [
        {
            "name": n,
            "seconds": round(seconds[n], 2),
            "share": round(seconds[n] / total, 4),
            "words": spoken[n],
        }
        for n in names
    ]


def _blocks(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Segments that read as one paragraph: same speaker and language, no long pause, not too long."""
    block: list[Segment] = []
    for segment in segments:
        if not segment.text and not segment.words:
            continue
        if block and not _goes_on(block, segment):
            yield block
            block = []
        block.append(segment)
    if block:
        yield block


def _goes_on(block: list[Segment], segment: Segment) -> bool:
    last = block[-1]
    same = (segment.speaker, segment.language) == (last.speaker, last.language)
    return same and segment.start - last.end < _PAUSE and segment.end - block[0].start < _LONGEST


def _block(segments: Sequence[Segment], index: dict[str, int]) -> dict[str, Any]:
    words = [word for segment in segments for word in _words(segment)]
    glued = [False, *(join_words(pair) == pair[0].text + pair[1].text for pair in pairwise(words))]
    speaker = segments[0].speaker
    return {
        "speaker": -1 if speaker is None else index[speaker],
        "language": segments[0].language,
        "words": [_word(word, joined) for word, joined in zip(words, glued, strict=True)],
        "parts": [_part(segment) for segment in segments],
    }


def _part(segment: Segment) -> list[Any]:
    """A segment of a block: its times, how many of the block's words, and whether they have times."""
    start, end = round(segment.start, 3), round(segment.end, 3)
    return [start, end, len(_words(segment)), bool(segment.words)]


def _cues(transcript: Transcript, index: dict[str, int]) -> list[list[Any]]:
    """Subtitles as the project writes them, but for the names, which the reader may change.

    WebVTT marks each name, so it can be taken out of what was rendered.
    """
    plain = replace(transcript, segments=tuple(map(_numbered(index), transcript.segments)))
    (cues,) = formats.parse(formats.render(plain, "vtt"), "vtt")
    return [
        [round(cue.start, 3), round(cue.end, 3), -1 if cue.speaker is None else int(cue.speaker), cue.text]
        for cue in cues.segments
    ]


def _numbered(index: dict[str, int]) -> Callable[[Segment], Segment]:
    """A segment whose speakers are numbers, which no format changes."""

    def number(name: str | None) -> str | None:
        return None if name is None else str(index[name])

    def change(segment: Segment) -> Segment:
        words = tuple(replace(word, speaker=number(word.speaker)) for word in segment.words)
        return replace(segment, words=words, speaker=number(segment.speaker))

    return change


def _word(word: Word, glued: bool) -> list[Any]:
    flags = (OVERLAPPED if word.overlapped else 0) | (GLUED if glued else 0)
    return [
        word.text,
        round(word.start, 3),
        round(word.end, 3),
        None if word.confidence is None else round(float(word.confidence), 3),
        None if word.speaker_confidence is None else round(float(word.speaker_confidence), 3),
        flags,
    ]


def _replay(trace: Replay) -> dict[str, Any]:
    last = len(trace.steps) - 1
    count = min(last, _MOST_STEPS - 1)
    kept = [round(n * last / count) for n in range(count + 1)]
    return {
        "start": round(trace.start, 3),
        "end": round(trace.end, 3),
        "numbers": kept,
        "steps": [trace.steps[n] for n in kept],
    }
