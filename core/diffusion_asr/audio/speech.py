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
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.audio.files import Samples
from diffusion_asr.errors import ModelError

CHUNK = 512  # samples per probability
_CONTEXT = 64  # samples of the chunk before that the network sees too
_BATCH = 1024  # chunks (33 s) through the network at a time, so that a huge block needs no huge tensors
_WEIGHTS = "data/silero_vad_16k.safetensors"
_HIDDEN = 128

State = tuple[Tensor, Tensor]


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
