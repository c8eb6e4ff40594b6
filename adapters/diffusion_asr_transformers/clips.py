"""What transformers' users hand over as sound, and how it goes to core."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.audio.sources import is_readable
from diffusion_asr.errors import AudioError

_KEYS = {"raw", "array", "sampling_rate", "path", "bytes", "stride"}  # of a clip; others are the caller's


def is_clip(inputs: Any) -> bool:
    """Whether it is one recording, and not a list, a data set or an iterator of some."""
    one = isinstance(inputs, Mapping | np.ndarray | Tensor) or is_readable(inputs)
    return one or _is_decoder(inputs) or _is_decoded(inputs)


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
        return {"source": inputs.data, "sample_rate": inputs.sample_rate}
    if isinstance(inputs, str) and inputs.startswith(("http://", "https://")):
        raise AudioError(f"{inputs}: nothing is fetched from the network; download it first")
    if not is_clip(inputs) and not is_numbers(inputs):
        raise AudioError(f"{type(inputs).__name__} is no sound: give a path, samples or a dictionary")
    return {"source": inputs, "sample_rate": SAMPLE_RATE}


def find_extras(inputs: Any) -> dict[str, list[Any]]:
    """What else a dictionary of samples holds: it comes out again beside the text, as in stock pipelines."""
    if not isinstance(inputs, Mapping) or "audio" in inputs:
        return {}
    return {name: [value] for name, value in inputs.items() if name not in _KEYS}


def iterate_clips(inputs: Any) -> Iterator[Any] | None:
    """The recordings of an iterator or a data set, one at a time; None for what holds none."""
    if isinstance(inputs, Iterable):
        return iter(inputs)
    if hasattr(inputs, "__getitem__") and hasattr(inputs, "__len__"):  # torch's data sets, KeyDataset
        return (inputs[number] for number in range(len(inputs)))
    return None


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
    samples = next((inputs[name] for name in ("raw", "array") if inputs.get(name) is not None), None)
    if samples is not None and "sampling_rate" in inputs:
        return {"source": samples, "sample_rate": inputs["sampling_rate"]}
    stored = next((inputs[name] for name in ("bytes", "path") if inputs.get(name)), None)
    if samples is None and stored is not None:
        return open_clip(stored)
    raise AudioError('a dictionary needs "array" (or "raw") and "sampling_rate", or "path" or "bytes"')


def _is_decoder(inputs: Any) -> bool:
    """A torchcodec ``AudioDecoder``, which also reads like a dictionary in ``datasets``."""
    return hasattr(inputs, "get_all_samples")


def _is_decoded(inputs: Any) -> bool:
    """Torchcodec's ``AudioSamples``."""
    return isinstance(getattr(inputs, "data", None), Tensor) and hasattr(inputs, "sample_rate")
