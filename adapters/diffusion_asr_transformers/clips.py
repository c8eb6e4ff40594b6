"""What transformers' users hand over as sound, and how it goes to core."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from diffusion_asr.audio.files import SAMPLE_RATE, Samples, read_audio
from diffusion_asr.errors import AudioError

_BYTES = (bytes, bytearray, memoryview)
_FILES = (str, os.PathLike, *_BYTES)
_KEYS = (
    "raw",
    "array",
    "sampling_rate",
    "path",
    "bytes",
    "stride",
)  # of a dictionary; others are the caller's


def is_clip(inputs: Any) -> bool:
    """Whether it is one recording, and not a list, a data set or an iterator of some."""
    one = isinstance(inputs, (*_FILES, Mapping, np.ndarray, Tensor))
    return one or hasattr(inputs, "read") or _is_decoder(inputs) or _is_decoded(inputs)


def is_numbers(inputs: Any) -> bool:
    """Whether a list holds a clip's samples in place of clips."""
    return (
        isinstance(inputs, list | tuple) and bool(inputs) and isinstance(inputs[0], float | int | np.number)
    )


def open_clip(inputs: Any) -> dict[str, Any]:
    """One recording as ``Recognizer.transcribe`` takes it: ``source``, and ``sample_rate`` where it is told.

    Args:
        inputs: A path, an open file or a file's bytes; samples at 16 kHz; a dictionary with "array" or "raw"
            and "sampling_rate", or with "bytes" or "path"; a row of a data set's audio column, decoded or a
            torchcodec decoder; or a whole row, with its sound under "audio".

    Raises:
        AudioError: None of these.
    """
    if isinstance(inputs, Mapping):
        return _open_dictionary(inputs)
    if _is_decoder(inputs):
        inputs = inputs.get_all_samples()
    if _is_decoded(inputs):
        return {"source": inputs.data, "sample_rate": _check_rate(inputs.sample_rate)}
    if isinstance(inputs, str) and inputs.startswith(("http://", "https://")):
        raise AudioError(f"{inputs}: nothing is fetched from the network; download it first")
    if not is_clip(inputs) and not is_numbers(inputs):
        raise AudioError(f"{type(inputs).__name__} is no sound: give a path, samples or a dictionary")
    if hasattr(inputs, "read"):
        inputs = _read_file(inputs)
    if isinstance(inputs, _BYTES):
        inputs = _read_bytes(inputs)
    if is_numbers(inputs):
        inputs = np.asarray(inputs, np.float32)
    return {"source": inputs, "sample_rate": SAMPLE_RATE}


def find_extras(inputs: Any) -> dict[str, list[Any]]:
    """What else a dictionary of samples holds: it comes out again beside the text, as in stock pipelines."""
    if not isinstance(inputs, Mapping) or "audio" in inputs:
        return {}
    return {name: [value] for name, value in inputs.items() if name not in _KEYS}


def list_clips(inputs: Any) -> list[Any]:
    """A batch as a list, one clip as a list of one; rows of a (clips, samples) array are clips."""
    if isinstance(inputs, np.ndarray | Tensor):
        return [inputs] if inputs.ndim == 1 else list(inputs)
    if is_clip(inputs) or is_numbers(inputs) or not isinstance(inputs, Iterable):
        return [inputs]
    return list(inputs)


def _open_dictionary(inputs: Mapping[str, Any]) -> dict[str, Any]:
    if "audio" in inputs:  # a whole row of a data set
        return open_clip(inputs["audio"])
    samples = inputs.get("raw", inputs.get("array"))
    if samples is not None and "sampling_rate" in inputs:
        return {"source": _as_samples(samples), "sample_rate": _check_rate(inputs["sampling_rate"])}
    stored = next((inputs[name] for name in ("bytes", "path") if inputs.get(name)), None)
    if samples is None and stored is not None:
        return open_clip(stored)
    raise AudioError('a dictionary needs "array" (or "raw") and "sampling_rate", or "path" or "bytes"')


def _read_file(file: Any) -> bytes:
    """All bytes of an open file, from where it stands."""
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # closed, or sound read as text
        raise AudioError(f"the open file cannot be read ({error}): open it with mode 'rb'") from error
    if not isinstance(data, bytes):
        raise AudioError("the open file gives text: open it with mode 'rb'")
    return data


def _read_bytes(data: bytes | bytearray | memoryview) -> Samples:
    """(samples,) at 16 kHz of a file's bytes, of any container that core reads."""
    with tempfile.NamedTemporaryFile(prefix="clip-") as file:
        file.write(data)
        file.flush()
        try:
            return read_audio(file.name)
        except AudioError as error:
            raise AudioError(str(error).replace(file.name, f"the {len(data)} bytes")) from error


def _as_samples(samples: Any) -> Any:
    """Lists of numbers are an array; what ``datasets`` writes without a format are lists."""
    return np.asarray(samples, np.float32) if isinstance(samples, list | tuple) else samples


def _check_rate(rate: Any) -> int:
    try:
        return int(rate)
    except (TypeError, ValueError) as error:
        raise AudioError(f"a sampling rate of {rate!r}: give Hz as a whole number") from error


def _is_decoder(inputs: Any) -> bool:
    """A torchcodec ``AudioDecoder``, which also reads like a dictionary in ``datasets``."""
    return hasattr(inputs, "get_all_samples")


def _is_decoded(inputs: Any) -> bool:
    """Torchcodec's ``AudioSamples``."""
    return isinstance(getattr(inputs, "data", None), Tensor) and hasattr(inputs, "sample_rate")
