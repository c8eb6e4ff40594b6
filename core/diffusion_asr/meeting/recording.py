"""A recording on its way through several passes: decoded once to 16 kHz, kept on disk, mapped into memory."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffusion_asr.audio import files as audio
from diffusion_asr.audio.files import SAMPLE_RATE, Samples
from diffusion_asr.audio.sources import is_readable, open_source
from diffusion_asr.errors import AudioError

_BLOCK = 30 * SAMPLE_RATE  # as `audio.read_blocks` gives: the same blocks give the same windows
_SAME = 0.999  # channels with this correlation carry the same sound


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A recording that can be read several times.

    Attributes:
        tracks: One (samples,) float32 array at 16 kHz: the mix; or one for each channel.
        source: The path, or None for samples in memory.
    """

    tracks: tuple[Samples, ...]
    source: str | None

    @property
    def duration(self) -> float:
        """Seconds."""
        return max(len(track) for track in self.tracks) / SAMPLE_RATE

    @property
    def digest(self) -> str:
        """Tells whether two recordings are the same, sample by sample."""
        found = hashlib.sha256()
        for track in self.tracks:
            for block in read_track(track):
                found.update(np.ascontiguousarray(block).view(np.uint8).data)
            found.update(b"next track")
        return found.hexdigest()


def read_track(track: Samples) -> Iterator[Samples]:
    """A track in pieces of 30 s that are in memory."""
    for n in range(0, len(track), _BLOCK):
        yield np.array(track[n : n + _BLOCK])
        release_pages(track)


def release_pages(track: Samples) -> None:
    """Lets go of the pages of a mapped file that were read; they are read again if need be."""
    mapped = getattr(track, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


@contextmanager
def open_recording(
    source: Any, sample_rate: int = SAMPLE_RATE, channels: bool = False, track: int | None = None
) -> Iterator[Recording]:
    """Decodes a recording for several passes; its temporary file (230 MB an hour and track) goes at the end.

    Args:
        source: A path, a file's bytes, an open file, or samples (samples,) or (channels, samples).
        sample_rate: Of ``source`` if it is samples.
        channels: One track for each channel instead of the mix.
        track: Of a file's audio tracks this one, from 1; None is its default.

    Raises:
        AudioError: Unreadable audio, or channels that are not one microphone each.
    """
    name: str | None = None
    with ExitStack() as stack:
        if is_readable(source):
            given = open_source(source)
            wanted = range(audio.probe_file(given, track).channels) if channels else (None,)
            tracks = tuple(
                stack.enter_context(_mapped(audio.read_blocks(given, channel=n, track=track))) for n in wanted
            )
            name = given.title
        else:
            rows = audio.convert_to_channels(source) if channels else [source]
            tracks = tuple(audio.convert_to_mono(row, sample_rate) for row in rows)
        if channels:
            _check_channels(tracks, name or "the samples")
        yield Recording(tracks, name)


@contextmanager
def _mapped(pieces: Iterable[Samples]) -> Iterator[Samples]:
    """Samples in a temporary file, mapped into memory."""
    with tempfile.TemporaryFile(prefix="diffusion-asr-") as file:
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).data)
        file.flush()
        count = file.tell() // 4
        # "c": copy on write, for torch wants memory that can be written to
        yield np.memmap(file, np.float32, "c", shape=(count,)) if count else np.zeros(0, np.float32)


def _check_channels(tracks: tuple[Samples, ...], name: str) -> None:
    remedy = "leave out --channels-as-speakers (channels_as_speakers=True)"
    if len(tracks) < 2:
        raise AudioError(f"{name}: has one channel, so its channels cannot be speakers: {remedy}")
    if len(tracks) > audio.MAX_CHANNELS:
        raise AudioError(
            f"{name}: {len(tracks)} channels are more than {audio.MAX_CHANNELS} speakers: {remedy}"
        )
    for n, track in enumerate(tracks[1:], start=2):
        if _same_sound(tracks[0], track):
            raise AudioError(f"{name}: channels 1 and {n} carry the same sound, not a speaker each: {remedy}")


def _same_sound(a: Samples, b: Samples) -> bool:
    products = np.zeros(3)
    for x, y in zip(read_track(a), read_track(b), strict=False):
        one, other = x[: len(y)].astype(np.float64), y[: len(x)].astype(np.float64)
        products += (one @ other, one @ one, other @ other)
    shared, first, second = products
    return bool(first * second > 0 and abs(shared) / np.sqrt(first * second) > _SAME)
