"""Sound files and arrays in, 16 kHz mono float32 blocks out, with memory bounded by the block.

libsndfile (`soundfile`) decodes wav, flac, ogg, opus, mp3 and their kin; what it does not know (m4a, mp4,
webm, …) is streamed through the `ffmpeg` binary if there is one. Channels are averaged, rates are converted
by soxr. Levels are left alone: full scale is 1.0, and float files that go somewhat over it stay as they are.

A file that breaks off is decoded as far as it goes, with an `AudioWarning`; anything that is not sound, or
sound that cannot be right (NaN, infinity, floats on an integer scale), is an `AudioError`.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from diffusion_asr.errors import AudioError

Samples = NDArray[np.float32]
StrPath = str | os.PathLike[str]

SAMPLE_RATE = 16_000
MAX_CHANNELS = 8  # more columns than this in an array are a batch, not channels
_FILE_CHANNELS = 64  # microphone arrays exist; a header that says more than this lies
_RATES = (4_000, 768_000)
_MAX_PEAK = 64.0  # 36 dB over full scale: no mix gets there, integers stored as floats do
_INTEGERS = {"int16": (0, 2**15), "int32": (0, 2**31), "uint8": (128, 2**7)}  # value of silence, full scale
_PIECE = 1 << 15  # frames decoded at a time

# libsndfile's log is the only place where it tells that a file is shorter than its header says.
_DECLARED = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_SHORT = re.compile(r"lacks an end-of-stream|ended unexpectedly|not match value from 'ds64'")
_HIDDEN_SOUND = re.compile(r"Unknown chunk marker|Have 0 marker|ended unexpectedly")
_UNKNOWN_SIZE = 0x7FFF_0000  # writers to a pipe put a size this large (or larger) for "until the end"

# Containers only: no playlists, which could name other files, and nothing that takes noise for mp3.
_CONTAINERS = "mov,matroska,webm,aac,asf,avi,flv,amr,mpeg,mpegts,ape,wv,tta,caf,aiff,wav,w64,ogg,flac,ac3"
_CONVERT = "convert it first with ffmpeg -i INPUT -ac 1 -ar 16000 output.wav"


class AudioWarning(UserWarning):
    """The audio was read, but the file is damaged or cut short."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a sound file says about itself.

    Attributes:
        duration: Seconds, as its header says (a file that breaks off has less).
        sample_rate: Hz, before conversion to 16 kHz.
        channels: Number of channels, before mixing.
        format: Container and coding, such as ``WAV/PCM_16``, or ``ffmpeg`` if libsndfile does not know it.
    """

    duration: float
    sample_rate: int
    channels: int
    format: str


@dataclass(frozen=True, slots=True)
class _Stream:
    """An open file: its pieces are (frames, channels) float32; ``frames`` is None if nothing tells it."""

    rate: int
    channels: int
    format: str
    frames: int | None
    pieces: Iterator[Samples]


def probe_file(path: StrPath) -> AudioInfo:
    """Reads what a sound file says about itself (a file for ffmpeg is decoded to count its samples).

    Raises:
        AudioError: If there is no such file or it is not sound that can be read.
    """
    with _open(_checked(path)) as stream:
        frames = stream.frames if stream.frames is not None else sum(len(piece) for piece in stream.pieces)
        return AudioInfo(frames / stream.rate, stream.rate, stream.channels, stream.format)


def read_audio(path: StrPath) -> Samples:
    """Reads a whole (short) file: (samples,) float32 mono at 16 kHz, of length 0 if it holds no sound.

    Raises:
        AudioError: As `read_blocks`.
    """
    return _joined(read_blocks(path))


def read_blocks(path: StrPath, seconds: float = 30.0, channel: int | None = None) -> Iterator[Samples]:
    """Streams a file of any length as blocks of (samples,) float32 mono at 16 kHz.

    Every block holds exactly ``seconds`` but for the last; a file without sound gives no block. The path is
    checked at the call, the contents as they are read.

    Args:
        path: A sound file.
        seconds: Length of a block.
        channel: Only this channel, counted from 0; None is the mean of all.

    Raises:
        AudioError: If there is no such file, it is not sound that can be read, or a sample is NaN, infinite
            or far outside [-1, 1]; the message names the file and the remedy.

    Warns:
        AudioWarning: If the file breaks off; the blocks hold what is there.
    """
    size = round(seconds * SAMPLE_RATE)
    if size < 1:
        raise ValueError(f"a block of {seconds} s holds no sample: give seconds > 0")
    return _blocks(_checked(path), size, channel)


def convert_to_mono(samples: Any, sample_rate: int = SAMPLE_RATE) -> Samples:
    """Turns an array in memory into (samples,) float32 mono at 16 kHz.

    Args:
        samples: Numpy array or torch tensor, (samples,) or (channels, samples), the layout of soundfile
            (samples, channels) too: the smaller axis (at most 8) is the channels. Floats are taken as they
            are, int16, int32 and uint8 are scaled to [-1, 1].
        sample_rate: Hz of ``samples``.

    Raises:
        AudioError: If the shape, type, rate or a value cannot be right.
    """
    array = _as_frames(samples)
    if array.size == 0:
        return np.zeros(0, np.float32)
    _check_format("the array", sample_rate, 1)
    return _joined(_resampled(_mono([array], sample_rate, "the array"), sample_rate))


def convert_to_channels(samples: Any) -> list[Samples]:
    """Each channel of an array in memory, (samples,) float32 at its own rate; see `convert_to_mono`.

    Raises:
        AudioError: If the shape or type cannot be right.
    """
    return list(_as_frames(samples).T)


def _as_frames(samples: Any) -> Samples:
    """(frames, channels) float32 from either layout."""
    array = _as_float(samples)
    if array.ndim not in (1, 2):
        raise AudioError(f"an array of shape {array.shape}: expected (samples,) or (channels, samples)")
    array = np.atleast_2d(array)
    array = array.T if array.shape[0] <= array.shape[1] else array
    if array.size and array.shape[1] > MAX_CHANNELS:
        raise AudioError(f"an array of shape {array.shape} looks like a batch: give one clip at a time")
    return array


def _as_float(samples: Any) -> Samples:
    """Any number type to float32 at full scale 1.0, without importing torch to recognise its tensors."""
    if hasattr(samples, "detach"):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    array = np.asarray(samples)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32, copy=False)
    if array.dtype.name not in _INTEGERS:
        raise AudioError(f"samples of type {array.dtype}: give float32 in [-1, 1], int16, int32 or uint8")
    offset, scale = _INTEGERS[array.dtype.name]
    return ((array.astype(np.float64) - offset) / scale).astype(np.float32)


def _checked(path: StrPath) -> Path:
    """The absolute path (so a leading '-' is no option), once it is sure to be a file with bytes."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):
        raise AudioError(f"{path}: this program does not use the network: download the file first")
    try:
        file = Path(path).absolute()
        status = file.stat()
        if file.is_dir():
            raise AudioError(f"{path}: is a folder: give the sound files in it")
        if not file.is_file():
            raise AudioError(f"{path}: is not a regular file: save the sound to a file first")
        if status.st_size == 0:
            raise AudioError(f"{path}: is empty (0 bytes): copy or record it again")
        with file.open("rb"):
            return file
    except FileNotFoundError:
        raise AudioError(f"{path}: there is no such file: check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be opened ({reason}): check its name and permissions") from error


def _check_format(name: object, rate: int, channels: int) -> None:
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"{name}: {rate} Hz cannot be its sample rate (4 to 768 kHz can): {_CONVERT}")
    if not 1 <= channels <= _FILE_CHANNELS:
        raise AudioError(f"{name}: its header says {channels} channels, which cannot be right: {_CONVERT}")


@contextmanager
def _open(path: Path) -> Iterator[_Stream]:
    """Opens with libsndfile if that finds sound, else with ffmpeg."""
    name = os.fsencode(path) if os.name == "posix" else str(path)  # bytes: any name that the disk can hold
    try:
        file = sf.SoundFile(name)
    except (sf.LibsndfileError, TypeError) as error:  # TypeError: a .raw file has no header
        reason = getattr(error, "error_string", "headerless raw samples").rstrip(".")
    else:
        with file:
            log = file.extra_info
            if file.frames or not _HIDDEN_SOUND.search(log):
                _check_format(path, file.samplerate, file.channels)
                pieces = _decoded(file, path, _is_cut_short(log))
                coding = f"{file.format}/{file.subtype}"
                yield _Stream(file.samplerate, file.channels, coding, file.frames, pieces)
                return
        reason = "its header says that there are no samples"
    with _ffmpeg(path, reason) as stream:
        _check_format(path, stream.rate, stream.channels)
        yield stream


def _is_cut_short(log: str) -> bool:
    sizes = [(int(declared), int(found)) for declared, found in _DECLARED.findall(log)]
    lies = any(found + 8 < declared < _UNKNOWN_SIZE for declared, found in sizes)
    return lies or _CUT_SHORT.search(log) is not None


def _decoded(file: Any, path: Path, cut_short: bool) -> Iterator[Samples]:
    """Pieces from libsndfile, up to the end or to the place where the decoder gives up."""
    # soundfile seeks after each read of a seekable file, and mp3 is not sample-exact after a seek.
    file.seekable = lambda: False
    frames = 0
    while True:
        piece = np.empty((_PIECE, file.channels), np.float32)
        try:
            count = len(file.read(out=piece))
        except sf.LibsndfileError as error:
            count = max(file.tell() - frames, 0)  # what was decoded before the damage
            cut_short = True
            if frames + count == 0:
                raise AudioError(f"{path}: is damaged from the start ({error}): copy it again") from error
        if count:
            yield piece[:count]
        frames += count
        if count < _PIECE:
            break
    cut_short = cut_short or _is_cut_short(file.extra_info)  # some Ogg files are found out only at the end
    if cut_short or frames < file.frames - file.samplerate // 10:  # mp3's own count is an estimate
        _warn(f"{path}: breaks off after {frames / file.samplerate:.1f} s; what comes before is used")


@contextmanager
def _ffmpeg(path: Path, reason: str) -> Iterator[_Stream]:
    """Decodes the first audio track in a child process; closing the context ends it."""
    binary = shutil.which("ffmpeg")
    if binary is None:
        raise AudioError(
            f"{path}: cannot be read as sound ({reason}). If it is m4a, mp4, webm or the like, "
            f"install ffmpeg; otherwise {_CONVERT}"
        )
    command = [binary, "-nostdin", "-hide_banner", "-v", "error", "-protocol_whitelist", "file,pipe"]
    command += ["-format_whitelist", _CONTAINERS, "-i", f"file:{path}", "-map", "0:a:0"]
    command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]  # au: the simplest header with rate and channels
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, bufsize=_PIECE
        )
        assert process.stdout is not None
        try:
            header = process.stdout.read(24)
            if len(header) < 24:
                process.wait()
                raise AudioError(
                    f"{path}: is not sound that can be read (libsndfile: {reason}; ffmpeg: "
                    f"{_last_line(complaints)}): give a sound file, or {_CONVERT}"
                )
            offset, _, _, rate, channels = struct.unpack(">4x5I", header)
            process.stdout.read(offset - 24)
            yield _Stream(rate, channels, "ffmpeg", None, _piped(process, channels, path, complaints))
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def _piped(process: subprocess.Popen[bytes], channels: int, path: Path, complaints: Any) -> Iterator[Samples]:
    assert process.stdout is not None
    while data := process.stdout.read(4 * channels * _PIECE):
        whole = data[: len(data) - len(data) % (4 * channels)]
        yield np.frombuffer(whole, ">f4").astype(np.float32).reshape(-1, channels)
    code = process.wait()
    complaint = _last_line(complaints)
    if code:
        raise AudioError(f"{path}: ffmpeg stopped with {code} ({complaint}): repair the file, or {_CONVERT}")
    if complaint:
        _warn(f"{path}: is damaged (ffmpeg: {complaint}); what could be decoded is used")


def _last_line(complaints: Any) -> str:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    known = [line for line in lines if "matches no streams" in line or "not on whitelist" in line]
    if known:
        return "it has no audio track" if "matches no streams" in known[0] else "not a sound format"
    return lines[-1] if lines else ""


def _blocks(path: Path, size: int, channel: int | None) -> Iterator[Samples]:
    with _open(path) as stream:
        if channel is not None and not 0 <= channel < stream.channels:
            raise AudioError(f"{path}: has no channel {channel + 1}, it has {stream.channels}")
        held, count = list[Samples](), 0
        for piece in _resampled(_mono(stream.pieces, stream.rate, path, channel), stream.rate):
            held.append(piece)
            count += len(piece)
            while count >= size:
                joined = _joined(held)
                yield joined[:size]
                held, count = [joined[size:]], count - size
        if count:
            yield _joined(held)


def _mono(
    pieces: Iterable[Samples], rate: int, name: object, channel: int | None = None
) -> Iterator[Samples]:
    """(frames, channels) pieces to (frames,) means or one channel, checked for values that no sound has."""
    start = 0
    for piece in pieces:
        peak = np.abs(piece).max(initial=0.0)
        if not peak <= _MAX_PEAK:  # NaN is not <= anything
            where = int(np.argmax(~(np.abs(piece) <= _MAX_PEAK).all(axis=1)))
            value = next(v for v in piece[where] if not abs(v) <= _MAX_PEAK)
            if np.isfinite(value):
                remedy = "floats must be in [-1, 1]: divide by 32768 if they were 16-bit integers"
            else:
                remedy = "repair the program that wrote it, or put zeros there"
            raise AudioError(f"{name}: a sample is {value:g} at {(start + where) / rate:.3f} s: {remedy}")
        start += len(piece)
        if piece.shape[1] == 1 or channel is not None:
            yield piece[:, channel or 0]
        else:
            yield piece.mean(axis=1, dtype=np.float32)


def _resampled(pieces: Iterable[Samples], rate: int) -> Iterator[Samples]:
    """Mono pieces at ``rate`` to pieces at 16 kHz: round(frames · 16000 / rate) samples in all."""
    if rate == SAMPLE_RATE:
        yield from pieces
        return
    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32")
    for piece in pieces:
        yield stream.resample_chunk(np.ascontiguousarray(piece))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _joined(pieces: Iterable[Samples]) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def _warn(message: str) -> None:
    warnings.warn(message, AudioWarning, stacklevel=2)
