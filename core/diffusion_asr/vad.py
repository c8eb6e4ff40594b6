"""Speech detection: Silero VAD 6 in plain torch, with the weights that the `silero-vad` package carries.

The network (Silero Team, MIT licence, https://github.com/snakers4/silero-vad) looks at 512 new samples, or
32 ms, and 64 old ones at a time: magnitudes of a short-time Fourier transform, four convolutions, one LSTM
step, one probability. Only the LSTM needs the chunks in order; the rest runs for a whole block at once.

The weights are read from the package's safetensors file; its ONNX and JIT files hold another training of the
same network (no better on the AMI meetings that we tried). The package itself is never imported, because that
sets torch to one thread for the whole process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.audio import SAMPLE_RATE, Samples
from diffusion_asr.errors import ModelError

CHUNK = 512  # samples per probability
_CONTEXT = 64  # samples of the chunk before that the network sees too
_BATCH = 1024  # chunks (33 s) through the network at a time, so that a huge block needs no huge tensors
_WEIGHTS = "data/silero_vad_16k.safetensors"
_HIDDEN = 128

Span = tuple[int, int]
State = tuple[Tensor, Tensor]


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


class _Silero(nn.Module):
    """The 16 kHz network; submodules are named as in the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(_HIDDEN, _HIDDEN)
        self.final_conv = nn.Conv1d(_HIDDEN, 1, 1)

    def forward(self, chunks: Tensor, state: State) -> tuple[Tensor, State]:
        """Probabilities (N,) of N consecutive chunks (N, 64 + 512), and the LSTM state after them."""
        spectrum = self.stft_conv(F.pad(chunks, (0, _CONTEXT), "reflect").unsqueeze(1))  # (N, 258, 4)
        real, imaginary = spectrum.chunk(2, dim=1)
        x = torch.sqrt(real**2 + imaginary**2)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(layer(x))
        hidden, state = self.lstm(
            x.transpose(1, 2).reshape(-1, 1, _HIDDEN), state
        )  # time first, batch of one
        return torch.sigmoid(self.final_conv(F.relu(hidden).transpose(1, 2))).flatten(), state


class SpeechDetector:
    """Tells for every 32 ms how likely someone speaks; one detector serves any number of recordings."""

    def __init__(self, weights: Path | None = None) -> None:
        """Loads the weights of the installed `silero-vad` package, or another copy of its safetensors file.

        Raises:
            ModelError: If the file is missing or holds another network.
        """
        file = _bundled_weights() if weights is None else weights
        try:
            tensors = load_file(file)
            # The file has the weights of a cell; nn.LSTM is four times as fast as a loop over one.
            renamed = {
                k.replace("lstm_cell.", "lstm.") + "_l0" * ("lstm" in k): v for k, v in tensors.items()
            }
            self._network = _Silero().eval().requires_grad_(False)
            self._network.load_state_dict(renamed)
        except Exception as error:  # safetensors and torch each raise kinds of their own
            raise ModelError(
                f"{file}: not the weights of Silero VAD 6: pip install 'silero-vad>=6.2.1'"
            ) from error

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[NDArray[np.float32]]:
        """Streams speech probabilities of one recording.

        Args:
            blocks: Consecutive (samples,) float32 blocks at 16 kHz, of any lengths.

        Yields:
            For each block, the (chunks,) probabilities that it completes: chunk ``i`` of the recording is its
            samples ``512 · i`` to ``512 · (i + 1)``. A last incomplete chunk is filled with zeros.
        """
        state = (torch.zeros(1, 1, _HIDDEN), torch.zeros(1, 1, _HIDDEN))
        held = np.zeros(_CONTEXT, np.float32)  # the context, then samples that fill no chunk yet
        for block in blocks:
            held = np.concatenate([held, block])
            count = (len(held) - _CONTEXT) // CHUNK
            probabilities, state = self._run(held, count, state)
            held = held[count * CHUNK :]
            yield probabilities
        rest = len(held) - _CONTEXT
        if rest:
            yield self._run(np.pad(held, (0, CHUNK - rest)), 1, state)[0]

    def _run(self, held: Samples, count: int, state: State) -> tuple[NDArray[np.float32], State]:
        """The first ``count`` chunks of ``held``, which begins with their context."""
        found = [np.zeros(0, np.float32)]
        with torch.inference_mode(), _one_thread():
            for first in range(0, count, _BATCH):
                last = min(first + _BATCH, count)
                piece = torch.from_numpy(held[first * CHUNK : last * CHUNK + _CONTEXT])
                probabilities, state = self._network(piece.unfold(0, CHUNK + _CONTEXT, CHUNK), state)
                found.append(probabilities.numpy())
        return np.concatenate(found), state


@contextmanager
def _one_thread() -> Iterator[None]:
    """Operations this small are slower on two threads, and a hundred times slower if the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _bundled_weights() -> Path:
    package = find_spec("silero_vad")  # finds the folder without running the package
    if package is None or not package.submodule_search_locations:
        raise ModelError(
            "speech detection needs the weights in the silero-vad package: pip install silero-vad"
        )
    return Path(package.submodule_search_locations[0]) / _WEIGHTS


def speech_spans(
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
