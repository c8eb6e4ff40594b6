"""Sound files and arrays in, 16 kHz mono float32 blocks out, with memory bounded by the block.

libsndfile (`soundfile`) decodes what holds plain samples (wav, aiff, caf, …), FFmpeg's libraries (`av`) what
comes in packets (mp3, ogg, flac, m4a, mp4, webm, …); the content decides, not the name. Channels are
averaged, rates are converted by soxr. Levels are left alone: full scale is 1.0, and float files that go
somewhat over it stay as they are.

A file that breaks off is decoded as far as it goes, with an `AudioWarning`; anything that is not sound, or
sound that cannot be right (NaN, infinity, floats on an integer scale), is an `AudioError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np

from diffusion_asr.audio.layout import Layout, Window, find_layout
from diffusion_asr.audio.mixing import mix_down
from diffusion_asr.audio.notes import AudioWarning
from diffusion_asr.audio.pcm import NotPcmError, open_pcm
from diffusion_asr.audio.samples import (
    MAX_CHANNELS,
    PIECE,
    SAMPLE_RATE,
    Piece,
    Samples,
    as_frames,
    check_format,
    conform,
    join,
    resample,
)
from diffusion_asr.audio.sources import Readable, Source, StrPath, open_source
from diffusion_asr.audio.stream import Stream
from diffusion_asr.errors import AudioError

__all__ = [
    "MAX_CHANNELS", "SAMPLE_RATE", "AudioInfo", "AudioWarning", "Samples", "StrPath",
    "convert_to_channels", "convert_to_mono", "estimate_duration", "probe_file", "read_audio", "read_blocks",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a sound file says about itself.

    Attributes:
        duration: Seconds, as its header says (a file that breaks off has less).
        sample_rate: Hz, before conversion to 16 kHz.
        channels: Number of channels, before mixing.
        format: Container and coding, such as ``WAV/PCM_16`` or ``MATROSKA/OPUS``.
    """

    duration: float
    sample_rate: int
    channels: int
    format: str


def probe_file(source: Readable | Source, track: int | None = None) -> AudioInfo:
    """Reads what a sound file says about itself (it is decoded to count its samples if nothing tells).

    Raises:
        AudioError: If there is no such file or it is not sound that can be read.
    """
    with _opened(open_source(source), track) as stream:
        frames = stream.frames
        if frames is None:
            frames = sum(map(len, conform(stream.pieces, stream.rate, 1)))
        return AudioInfo(frames / stream.rate, stream.rate, stream.channels, stream.format)


def estimate_duration(source: Readable | Source, track: int | None = None) -> float:
    """Seconds that a sound file is likely to have, without decoding it.

    Raises:
        AudioError: As `probe_file`.
    """
    with _opened(open_source(source), track) as stream:
        return stream.likely


def read_audio(source: Readable | Source, track: int | None = None) -> Samples:
    """Reads a whole (short) file: (samples,) float32 mono at 16 kHz, of length 0 if it holds no sound.

    Raises:
        AudioError: As `read_blocks`.
    """
    return join(read_blocks(source, track=track))


def read_blocks(
    source: Readable | Source, seconds: float = 30.0, channel: int | None = None, track: int | None = None
) -> Iterator[Samples]:
    """Streams a file of any length as blocks of (samples,) float32 mono at 16 kHz.

    Every block holds exactly ``seconds`` but for the last; a file without sound gives no block. The source is
    checked at the call, the contents as they are read.

    Args:
        source: A path, the bytes of a sound file, or a file opened in binary (read from its start).
        seconds: Length of a block.
        channel: Only this channel, counted from 0; None is the mean of all.
        track: Of several audio tracks this one, counted from 1; None is the file's default.

    Raises:
        AudioError: If there is no such file, it is not sound that can be read, or a sample is NaN, infinite
            or far outside [-1, 1]; the message names the file and the remedy.

    Warns:
        AudioWarning: If the file breaks off, is damaged or has gaps (the blocks hold what is there), if one
            of several tracks was chosen, or a channel turned round.
    """
    size = round(seconds * SAMPLE_RATE)
    if size < 1:
        raise ValueError(f"a block of {seconds} s holds no sample: give seconds > 0")
    return _blocks(open_source(source), size, channel, track)


def convert_to_mono(samples: Any, sample_rate: float = SAMPLE_RATE) -> Samples:
    """Turns an array in memory into (samples,) float32 mono at 16 kHz.

    Args:
        samples: Numpy array or torch tensor, (samples,) or (channels, samples), the layout of soundfile
            (samples, channels) too: the smaller axis (at most 8) is the channels. Floats are taken as they
            are, int16, int32 and uint8 are scaled to [-1, 1].
        sample_rate: Hz of ``samples``.

    Raises:
        AudioError: If the shape, type, rate or a value cannot be right.
    """
    array = as_frames(samples)
    check_format("the array", sample_rate)
    if array.size == 0:
        return np.zeros(0, np.float32)
    pieces = (array[first : first + PIECE] for first in range(0, len(array), PIECE))
    return join(resample(mix_down(pieces, sample_rate, "the array"), sample_rate))


def convert_to_channels(samples: Any) -> list[Samples]:
    """Each channel of an array in memory, (samples,) float32 at its own rate; see `convert_to_mono`.

    Raises:
        AudioError: If the shape or type cannot be right.
    """
    return list(as_frames(samples).T)


@contextmanager
def _opened(source: Source, track: int | None) -> Iterator[Stream]:
    """All files that are joined in one, as one stream in the format of the first."""
    with source.opened() as file, ExitStack() as stack:
        layout = find_layout(file)
        first, *others = layout.parts
        stream = stack.enter_context(_part(file, first, source.name, track, layout.is_cut and not others))
        if not others:
            yield stream
            return
        pieces = _joined(stream, file, layout, source.name, track)
        likely = stream.likely * layout.parts[-1][1] / first[1]
        yield Stream(stream.rate, stream.channels, stream.format, None, pieces, likely)


def _joined(first: Stream, file: BinaryIO, layout: Layout, name: str, track: int | None) -> Iterator[Piece]:
    yield from first.pieces
    for part in layout.parts[1:]:
        is_cut = layout.is_cut and part == layout.parts[-1]
        with _part(file, part, name, track, is_cut) as stream:
            yield from stream.pieces


@contextmanager
def _part(
    file: BinaryIO, span: tuple[int, int], name: str, track: int | None, is_cut: bool
) -> Iterator[Stream]:
    """Opens one file: with libsndfile if it reads it whole, else with FFmpeg."""
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(open_pcm(_window(file, span), name))
        except NotPcmError as error:
            from diffusion_asr.audio.containers import open_container  # a tenth of a second, for few files

            window = _window(file, span)
            is_mp3 = str(error) in ("MP3", "MPEG")
            stream = stack.enter_context(open_container(window, name, track, is_mp3, is_cut))
        else:
            check_format(name, stream.rate, stream.channels)
            if track not in (None, 1):
                raise AudioError(f"{name}: has no audio track {track}, it has one")
        yield stream


def _window(file: BinaryIO, span: tuple[int, int]) -> BinaryIO:
    return cast("BinaryIO", Window(file, *span))


def _blocks(source: Source, size: int, channel: int | None, track: int | None) -> Iterator[Samples]:
    with _opened(source, track) as stream:
        if channel is not None and not 0 <= channel < stream.channels:
            raise AudioError(f"{source.name}: has no channel {channel + 1}, it has {stream.channels}")
        frames = conform(stream.pieces, stream.rate, stream.channels)
        held, count = list[Samples](), 0
        for piece in resample(mix_down(frames, stream.rate, source.name, channel), stream.rate):
            held.append(piece)
            count += len(piece)
            while count >= size:
                joined = join(held)
                yield joined[:size]
                held, count = [joined[size:]], count - size
        if count:
            yield join(held)
