"""Cuts a recording of any length into windows of speech that a recogniser can take, while it is read.

A window is a contiguous stretch of the recording: speech with the short pauses in it. Windows never overlap
and every sample that the detector calls speech is in one, so no word is lost or doubled where they join.
About two windows of audio are held at a time, whatever the length of the recording. Quiet sections are
amplified first (`audio.levels`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffusion_asr.audio.files import SAMPLE_RATE, Samples
from diffusion_asr.audio.levels import level_blocks
from diffusion_asr.audio.spans import Span, SpanFinder, VadOptions
from diffusion_asr.audio.speech import CHUNK

_SAME_PROBABILITY = 0.05  # chunks this near to the least likely speech are told apart by loudness


class Detector(Protocol):
    """What `pack_windows` needs from a speech detector; `audio.speech.SpeechDetector` is one."""

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[NDArray[np.float32]]:
        """Lazily yields speech probabilities, one for each 512 samples, as the blocks come."""
        ...


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How speech is packed into windows.

    Attributes:
        max_window: Seconds; no window is longer.
        max_pause: Seconds; a longer pause always ends a window.
        vad: What counts as speech.
    """

    max_window: float = 30.0
    max_pause: float = 2.0
    vad: VadOptions = field(default_factory=VadOptions)

    def __post_init__(self) -> None:
        if self.max_window < 1.0 or self.max_pause < 0.0:
            raise ValueError(f"max_window must be 1 s or more, max_pause 0 s or more, not {self}")


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A stretch of a recording that holds speech.

    Attributes:
        start: Seconds from the start of the recording to the first sample.
        samples: (samples,) float32 at 16 kHz, amplified where they were quiet.
    """

    start: float
    samples: Samples

    @property
    def end(self) -> float:
        """Seconds from the start of the recording to the end of the last sample."""
        return self.start + len(self.samples) / SAMPLE_RATE


def pack_windows(
    blocks: Iterable[Samples], detector: Detector, options: WindowOptions | None = None
) -> Iterator[Window]:
    """Yields the windows of speech of one recording, in order; none if nobody speaks.

    Args:
        blocks: Consecutive (samples,) float32 blocks at 16 kHz, as `audio.files.read_blocks` gives.
        detector: Tells where there is speech.
        options: Lengths, pauses and what counts as speech.
    """
    options = options or WindowOptions()
    limit = int(options.max_window * SAMPLE_RATE)
    recording = _Recording()
    finder = SpanFinder(options.vad)
    packer = _Packer(limit, int(options.max_pause * SAMPLE_RATE))

    for probabilities in detector.probabilities(recording.recorded(level_blocks(blocks))):
        recording.judge(probabilities)
        complete = list(_packed(finder.push(probabilities), recording, packer, limit))
        while finder.open_since is not None and finder.now - finder.open_since > limit:
            cut = recording.quietest(finder.open_since, limit)
            complete += packer.add(finder.split(cut))
        if finder.open_since is not None:
            complete += packer.make_room((finder.open_since, finder.now))
        elif packer.is_left_behind(finder.settled):
            complete += packer.flush()
        for span in complete:
            yield recording.window(span)
        recording.forget(finder.settled if packer.start is None else packer.start)

    left = finder.finish(recording.end)
    for span in [*_packed(left, recording, packer, limit), *packer.flush()]:
        yield recording.window(span)


def _packed(spans: Iterable[Span], recording: _Recording, packer: _Packer, limit: int) -> Iterator[Span]:
    """Packs spans that have ended, cut to the limit first; yields the windows that this completes."""
    for start, end in spans:
        while end - start > limit:
            cut = recording.quietest(start, limit)
            yield from packer.add((start, cut))
            start = cut
        yield from packer.add((start, end))


class _Packer:
    """Gathers spans for the next window; all numbers are samples."""

    def __init__(self, limit: int, max_pause: int) -> None:
        self._limit = limit
        self._max_pause = max_pause
        self._spans: list[Span] = []

    @property
    def start(self) -> int | None:
        """Where the next window begins, None if nothing is gathered."""
        return self._spans[0][0] if self._spans else None

    def add(self, span: Span) -> list[Span]:
        """Takes a span of at most the limit; returns the windows that end before it."""
        complete = self.make_room(span)
        self._spans.append(span)
        return complete

    def make_room(self, span: Span) -> list[Span]:
        """Returns the windows that must end before ``span`` for it to fit, cut at the longest pauses."""
        if self.is_left_behind(span[0]):
            return self.flush()
        complete: list[Span] = []
        while self._spans and span[1] - self._spans[0][0] > self._limit:
            complete += self.flush(self._longest_pause(span[0]))
        return complete

    def is_left_behind(self, next_start: int) -> bool:
        """Whether the pause from the last span to ``next_start`` is too long for one window."""
        return bool(self._spans) and next_start - self._spans[-1][1] > self._max_pause

    def flush(self, count: int | None = None) -> list[Span]:
        """Makes the first ``count`` spans (or all) a window."""
        head, self._spans = self._spans[:count], self._spans[len(self._spans[:count]) :]
        return [(head[0][0], head[-1][1])] if head else []

    def _longest_pause(self, next_start: int) -> int:
        """How many spans come before the longest pause, if possible one in the later half of a window."""
        starts = [start for start, _ in self._spans[1:]] + [next_start]
        ends = [end for _, end in self._spans]
        late = [k for k, end in enumerate(ends) if end - self._spans[0][0] >= self._limit // 2]
        return 1 + max(late or range(len(ends)), key=lambda k: (starts[k] - ends[k], k))


class _Recording:
    """The part of the recording that is still needed: its samples and their speech probabilities."""

    def __init__(self) -> None:
        self.end = 0  # samples read so far
        self._pieces: list[Samples] = []
        self._first_sample = 0
        self._probabilities = np.zeros(0, np.float32)
        self._first_chunk = 0

    def recorded(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """Passes blocks on and remembers them."""
        for block in blocks:
            self._pieces.append(block)
            self.end += len(block)
            yield block

    def judge(self, probabilities: NDArray[np.float32]) -> None:
        """Remembers the speech probabilities of the next chunks."""
        self._probabilities = np.concatenate([self._probabilities, probabilities])

    def forget(self, before: int) -> None:
        """Drops what lies before this sample."""
        while self._pieces and self._first_sample + len(self._pieces[0]) <= before:
            self._first_sample += len(self._pieces.pop(0))
        chunks = max(0, before // CHUNK - self._first_chunk)
        self._probabilities = self._probabilities[chunks:]
        self._first_chunk += chunks

    def window(self, span: Span) -> Window:
        """The samples of a span that is still remembered."""
        return Window(span[0] / SAMPLE_RATE, self._samples(*span))

    def quietest(self, start: int, limit: int) -> int:
        """The best sample to cut speech without a pause: in the last third of ``limit`` after ``start``."""
        first = -(-(start + limit * 2 // 3) // CHUNK)
        last = (start + limit) // CHUNK
        nearby = self._probabilities[first - 1 - self._first_chunk : last + 1 - self._first_chunk]
        smooth = np.convolve(nearby, np.full(3, 1 / 3), "valid")[: last - first]
        samples = self._samples(first * CHUNK, last * CHUNK)
        samples = np.pad(samples, (0, (last - first) * CHUNK - len(samples))).reshape(-1, CHUNK)
        loudness = np.square(samples).sum(axis=1)[: len(smooth)]
        loudness[smooth > smooth.min() + _SAME_PROBABILITY] = np.inf
        return (first + int(loudness.argmin())) * CHUNK + CHUNK // 2

    def _samples(self, start: int, end: int) -> Samples:
        joined = np.concatenate([np.zeros(0, np.float32), *self._pieces])
        return joined[start - self._first_sample : max(0, end - self._first_sample)].copy()
