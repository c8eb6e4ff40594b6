"""Speech detection: Silero VAD 6 in ONNX Runtime.

The network (Silero Team, MIT licence, https://github.com/snakers4/silero-vad) looks at 512 new samples, or
32 ms, and 64 old ones at a time: magnitudes of a short-time Fourier transform, four convolutions, one LSTM
step, one probability. Only the LSTM needs the chunks in order; the rest runs for a whole block at once.

``silero_vad_16k.onnx`` beside this file holds the weights of the ``silero-vad`` package's safetensors file;
``python -m recipes.speech_detection`` writes it. Operations this small are slower on two threads, and a
hundred times slower if the cores are busy. A session has its own number of threads, one here, where torch
only knows a number for the whole process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from diffusion_asr.audio.files import Samples
from diffusion_asr.audio.quiet_runtime import ort
from diffusion_asr.errors import REINSTALL, ModelError

CHUNK = 512  # samples per probability
CONTEXT = 64  # samples of the chunk before that the network sees too
HIDDEN = 128  # width of the LSTM
NETWORK = Path(__file__).with_name("silero_vad_16k.onnx")
_SHA256 = "05f9815027b341a1a6f32ea1a468a49c4f94be715eb8aa2b5f09a0588ca84922"
_BATCH = 1024  # chunks (33 s) through the network at a time, so that a huge block needs no huge tensors
_INPUTS = {"chunks": ["N", CONTEXT + CHUNK], "hidden": [1, 1, HIDDEN], "cell": [1, 1, HIDDEN]}
_OUTPUTS = {"probabilities": ["N"], "next_hidden": [1, 1, HIDDEN], "next_cell": [1, 1, HIDDEN]}

State = tuple[NDArray[np.float32], NDArray[np.float32]]  # of the LSTM: hidden and cell, (1, 1, 128) each


class SpeechDetector:
    """Tells for every 32 ms how likely someone speaks.

    One detector serves any number of recordings and threads at the same time: what it knows of a recording is
    in the iterator of `probabilities`, and nothing outside of it is changed.
    """

    def __init__(self, network: Path | None = None) -> None:
        """Loads the network.

        Args:
            network: A file that ``python -m recipes.speech_detection`` wrote from other weights; None is the
                one of this package, whose sha256 is checked.

        Raises:
            ModelError: The file is missing, damaged or holds another network.
        """
        self._network = network
        self._session = _load(NETWORK, _SHA256) if network is None else _load(network)

    def __reduce__(self) -> tuple[type[SpeechDetector], tuple[Path | None]]:
        """Go to another process by the file: ONNX Runtime's session cannot."""
        return SpeechDetector, (self._network,)

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[NDArray[np.float32]]:
        """Streams speech probabilities of one recording.

        Args:
            blocks: Consecutive (samples,) float32 blocks at 16 kHz, of any lengths.

        Yields:
            For each block, the (chunks,) probabilities that it completes: chunk ``i`` of the recording is its
            samples ``512 · i`` to ``512 · (i + 1)``. A last incomplete chunk is filled with zeros.
        """
        state = (np.zeros((1, 1, HIDDEN), np.float32), np.zeros((1, 1, HIDDEN), np.float32))
        held = np.zeros(CONTEXT, np.float32)  # the context, then samples that fill no chunk yet
        for block in blocks:
            held = np.concatenate([held, block])
            count = (len(held) - CONTEXT) // CHUNK
            probabilities, state = self._run(held, count, state)
            held = held[count * CHUNK :]
            yield probabilities
        rest = len(held) - CONTEXT
        if rest:
            yield self._run(np.pad(held, (0, CHUNK - rest)), 1, state)[0]

    def _run(self, held: Samples, count: int, state: State) -> tuple[NDArray[np.float32], State]:
        """The first ``count`` chunks of ``held``, which begins with their context."""
        found = [np.zeros(0, np.float32)]
        for first in range(0, count, _BATCH):
            last = min(first + _BATCH, count)
            piece = held[first * CHUNK : last * CHUNK + CONTEXT]
            chunks = np.ascontiguousarray(sliding_window_view(piece, CHUNK + CONTEXT)[::CHUNK])
            fed = {"chunks": chunks, "hidden": state[0], "cell": state[1]}
            probabilities, *state_after = self._session.run(list(_OUTPUTS), fed)
            state = (state_after[0], state_after[1])
            found.append(probabilities)
        return np.concatenate(found), state


def _load(file: Path, sha256: str | None = None) -> Any:
    try:
        data = _read(file, sha256)
        session = ort.InferenceSession(data, _one_thread(), providers=["CPUExecutionProvider"])
        _check(session)
    except Exception as error:  # ONNX Runtime raises kinds of its own
        fix = REINSTALL if file == NETWORK else "Write it by python -m recipes.speech_detection."
        raise ModelError(f"{file}: not the network of speech detection ({error}). {fix}") from error
    return session


def _read(file: Path, sha256: str | None) -> bytes:
    """The bytes to load, so that nothing else is loaded than what was checked."""
    data = file.read_bytes()
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("its sha256 is not the expected one")
    return data


def _check(session: Any) -> None:
    ends = session.get_inputs(), session.get_outputs()
    shapes = [{value.name: value.shape for value in values} for values in ends]
    if shapes != [_INPUTS, _OUTPUTS]:
        raise ValueError(f"inputs and outputs are {shapes}")


def _one_thread() -> Any:
    """Options of a session that computes in the thread that calls it and starts no other."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
