"""Samples in memory: any number type and layout to float32 frames, any rate to 16 kHz."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from diffusion_asr.errors import AudioError

Samples = NDArray[np.float32]

SAMPLE_RATE = 16_000
MAX_CHANNELS = 8  # more columns than this in an array are a batch, not channels
PIECE = 1 << 15  # frames handled at a time
CONVERT = "convert it first with ffmpeg -i INPUT -ac 1 -ar 16000 output.wav"
_FILE_CHANNELS = 64  # microphone arrays exist; a header that says more than this lies
_RATES = (4_000, 768_000)
_INTEGERS = {"int16": (0, 2**15), "int32": (0, 2**31), "uint8": (128, 2**7)}  # value of silence, full scale


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Consecutive frames of a recording: (frames, channels) float32 at ``rate`` Hz."""

    samples: Samples
    rate: int


def check_format(name: object, rate: Any, channels: int = 1) -> None:
    """Raise ``AudioError`` for a rate or a number of channels that no sound has."""
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real):
        raise AudioError(f"{name}: its sample rate is {rate!r}: give a number of Hz, such as 16000")
    if not _RATES[0] <= float(rate) <= _RATES[1]:
        raise AudioError(f"{name}: {rate} Hz cannot be its sample rate (4 to 768 kHz can): {CONVERT}")
    if not 1 <= channels <= _FILE_CHANNELS:
        raise AudioError(f"{name}: its header says {channels} channels, which cannot be right: {CONVERT}")


def is_clip_list(value: Any) -> bool:
    """Whether this is several recordings and not one: a list or tuple of anything but numbers."""
    return isinstance(value, list | tuple) and any(not _is_number(entry) for entry in value)


def as_frames(samples: Any) -> Samples:
    """(frames, channels) float32 from (samples,), (channels, samples) or (samples, channels).

    Raises:
        AudioError: If the shape or type cannot be right.
    """
    if is_clip_list(samples):
        raise AudioError("a list of clips: give one clip at a time (channels are the rows of one array)")
    array = as_float(samples)
    if array.ndim not in (1, 2):
        raise AudioError(f"an array of shape {array.shape}: expected (samples,) or (channels, samples)")
    array = np.atleast_2d(array)
    array = array.T if array.shape[0] <= array.shape[1] else array
    if array.size and array.shape[1] > MAX_CHANNELS:
        raise AudioError(f"an array of shape {array.shape} looks like a batch: give one clip at a time")
    return array


def as_float(samples: Any) -> Samples:
    """Any number type to float32 at full scale 1.0, without importing torch to recognise its tensors."""
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    array = np.asarray(samples)
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):  # infinity is told as such, with its place
            return array.astype(np.float32, copy=False)
    if array.dtype.name not in _INTEGERS:
        raise AudioError(f"samples of type {array.dtype}: give float32 in [-1, 1], int16, int32 or uint8")
    offset, scale = _INTEGERS[array.dtype.name]
    return ((array.astype(np.float64) - offset) / scale).astype(np.float32)


def conform(pieces: Iterable[Piece], rate: int, channels: int) -> Iterator[Samples]:
    """(frames, channels) at one rate, of a recording that may change its rate and channels on the way."""
    before: int | None = None
    resampler: Any = None
    for piece in pieces:
        if piece.rate != before:
            if resampler is not None:
                yield _last(resampler, channels)
            resampler = None
            if piece.rate != rate:
                resampler = soxr.ResampleStream(piece.rate, rate, channels, dtype="float32")
            before = piece.rate
        samples = _with_channels(piece.samples, channels)
        if resampler is not None:
            samples = resampler.resample_chunk(np.ascontiguousarray(samples)).reshape(-1, channels)
        yield samples
    if resampler is not None:
        yield _last(resampler, channels)


def resample(pieces: Iterable[Samples], rate: float) -> Iterator[Samples]:
    """Mono pieces at ``rate`` to pieces at 16 kHz: round(frames · 16000 / rate) samples in all."""
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    for piece in pieces:
        yield stream.resample_chunk(np.ascontiguousarray(piece))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def join(pieces: Iterable[Samples]) -> Samples:
    """All pieces as one array."""
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) or (getattr(value, "shape", None) == ())


def _last(resampler: Any, channels: int) -> Samples:
    end: Samples = resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)
    return end.reshape(-1, channels)


def _with_channels(samples: Samples, channels: int) -> Samples:
    if samples.shape[1] == channels:
        return samples
    return np.repeat(samples.mean(axis=1, dtype=np.float32, keepdims=True), channels, axis=1)
