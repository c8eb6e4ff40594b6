"""From probabilities of speech to spans of it, as Silero's get_speech_timestamps makes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.audio.speech import CHUNK

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class VadOptions:
    """How probabilities become spans of speech; the rules are those of Silero's get_speech_timestamps.

    Attributes:
        threshold: Speech begins with a chunk of at least this probability.
        exit_threshold: Speech can only end with a chunk below this; None is ``threshold`` − 0.15.
        min_speech: Seconds; speech that is not longer is dropped.
        min_silence: Seconds below ``exit_threshold`` (but for chunks between the two) that end speech.
        padding: Seconds added on both sides, at most half of the pause between two spans.
    """

    threshold: float = 0.5
    exit_threshold: float | None = None
    min_speech: float = 0.1
    min_silence: float = 0.2
    padding: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.threshold < 1.0:
            raise ValueError(
                f"0 < exit_threshold ≤ threshold < 1 does not hold: {self.low}, {self.threshold}"
            )
        if min(self.min_speech, self.min_silence, self.padding) < 0.0:
            raise ValueError("min_speech, min_silence and padding are seconds and cannot be negative")

    @property
    def low(self) -> float:
        """The probability below which speech can end."""
        return max(self.threshold - 0.15, 0.01) if self.exit_threshold is None else self.exit_threshold


def find_speech(
    probabilities: NDArray[np.float32], options: VadOptions | None = None, length: int | None = None
) -> list[Span]:
    """The spans of speech in a whole recording: (first sample, sample after the last), padded, in order.

    Args:
        probabilities: (chunks,), from `SpeechDetector.probabilities`.
        options: The rules.
        length: Samples of the recording; None means that its last chunk is complete.
    """
    finder = SpanFinder(options)
    length = len(probabilities) * CHUNK if length is None else length
    spans = finder.push(probabilities) + finder.finish(length)
    return [(start, min(end, length)) for start, end in spans]


class SpanFinder:
    """`speech_spans` for probabilities that come bit by bit, where endless speech can be cut."""

    def __init__(self, options: VadOptions | None = None) -> None:
        options = options or VadOptions()
        self._high, self._low = options.threshold, options.low
        self._min_speech = options.min_speech * SAMPLE_RATE
        self._min_silence = options.min_silence * SAMPLE_RATE
        self._padding = int(options.padding * SAMPLE_RATE)
        self._now = 0  # sample after the last chunk seen
        self._start: int | None = None  # of the speech that goes on, without padding
        self._silent_since: int | None = None  # where that speech ends if only silence follows
        self._open: int | None = None  # its padded start (or where it was cut) once it is sure to stay
        self._last: Span | None = None  # the span before, its end without padding, not given out yet
        self._floor = 0  # everything before this was given out

    @property
    def now(self) -> int:
        """The sample after the last chunk seen."""
        return self._now

    @property
    def open_since(self) -> int | None:
        """The first sample of the span that goes on; None if there is none that is sure to stay."""
        return self._open

    @property
    def settled(self) -> int:
        """The sample before which no span that is still to come begins."""
        if self._last is not None:
            return self._last[0]
        if self._open is not None:
            return self._open
        return max(self._floor, (self._now if self._start is None else self._start) - self._padding)

    def push(self, probabilities: NDArray[np.float32]) -> list[Span]:
        """Takes the next (chunks,) probabilities; returns the spans that are complete now."""
        done: list[Span] = []
        for probability in probabilities.tolist():
            self._step(probability)
            if self._start is not None and self._open is None and self._silent_since is None:
                done += self._confirm(self._start, self._now)
            # Speech from here on is too far off to share the pause.
            next_start = self._now if self._start is None else self._start
            if self._last is not None and next_start >= self._last[1] + 2 * self._padding:
                done += self._release(self._padding)
        return done

    def split(self, sample: int) -> Span:
        """Cuts the span that goes on at ``sample``; returns the part before, the rest goes on."""
        start = self._open
        assert start is not None
        assert start < sample <= self._now
        self._open = self._floor = sample
        return start, sample

    def finish(self, length: int) -> list[Span]:
        """Returns the spans that are left when the recording ends after ``length`` samples."""
        done: list[Span] = []
        if self._start is not None:
            if self._open is None:
                done += self._confirm(self._start, length)
            self._close(min(length, self._now))
        if self._last is not None:
            done += self._release(min(self._padding, max(0, length - self._last[1])))
        return done

    def _step(self, probability: float) -> None:
        here = self._now
        self._now += CHUNK
        if probability >= self._high:
            self._silent_since = None
            if self._start is None:
                self._start = here
        elif probability < self._low and self._start is not None:
            if self._silent_since is None:
                self._silent_since = here
            if here - self._silent_since >= self._min_silence:
                self._close(self._silent_since)

    def _confirm(self, start: int, end: int) -> list[Span]:
        """Once speech is long enough to stay: it shares the pause with the span before, which is complete."""
        if end - start <= self._min_speech:
            return []
        share, done = self._padding, []
        if self._last is not None:
            share = min(self._padding, (start - self._last[1]) // 2)
            done = self._release(share)
        self._open = max(self._floor, start - share)
        return done

    def _close(self, end: int) -> None:
        if self._open is not None:
            self._last = (self._open, end)
        self._start = self._silent_since = self._open = None

    def _release(self, padding: int) -> list[Span]:
        assert self._last is not None
        start, end = self._last[0], self._last[1] + padding
        self._last = None
        if end <= start:  # cut in the silence after its last word
            return []
        self._floor = end
        return [(start, end)]
