"""Makes the sound files, good and bad, that the audio tests read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile as sf
from av import AudioFrame, VideoFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffusion_asr.audio.spans import VadOptions

Probabilities = NDArray[np.float32]  # of speech, a chunk after another
SPEECH = Path(__file__).parents[3] / "shared/data/speech"


def sine(seconds: float, rate: int, channels: int = 1, hertz: float = 440.0) -> NDArray[np.float32]:
    """(frames, channels) at half of full scale."""
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32], rate: int, kind: str = "WAV/PCM_16") -> Path:
    """Writes (frames, channels) as container/coding and returns the path."""
    container, coding = kind.split("/")
    sf.write(path, samples, rate, format=container, subtype=coding)
    return path


def cut(path: Path, share: float) -> Path:
    """Keeps only the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def patched_wav(path: Path, offset: int, layout: str, value: int) -> Path:
    """A one-second sine at 16 kHz with one number of its 44-byte header replaced."""
    write(path, sine(1.0, 16_000), 16_000)
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, value)
    path.write_bytes(data)
    return path


@dataclass(frozen=True)
class Track:
    """Sound to go into a container: (frames, channels), its first sample at ``start`` seconds."""

    samples: NDArray[np.float32]
    rate: int
    coding: str
    start: float = 0.0
    is_default: bool = False
    holes: tuple[tuple[float, float], ...] = ()  # (from, to) in seconds: not written
    title: str = ""


def mux(path: Path, *tracks: Track, video: float = 0.0, kind: str | None = None) -> Path:
    """Writes a container that soundfile cannot, with ``video`` seconds of black picture."""
    with av.open(str(path), "w", format=kind) as container:
        picture = _add_picture(container) if video else None
        streams = [container.add_stream(t.coding, rate=t.rate, layout=_layout(t)) for t in tracks]
        for stream, track in zip(streams, tracks, strict=True):
            assert isinstance(stream, AudioStream)
            stream.disposition = Disposition.default if track.is_default else Disposition(0)
            if track.title:
                stream.metadata["title"] = track.title
        if picture is not None:
            _write_picture(container, picture, video)
        for stream, track in zip(streams, tracks, strict=True):
            assert isinstance(stream, AudioStream)
            _write_sound(container, stream, track)
    return path


def _layout(track: Track) -> str:
    return {1: "mono", 2: "stereo"}[track.samples.shape[1]]


def _add_picture(container: OutputContainer) -> VideoStream:
    picture = container.add_stream("mpeg4", rate=5)
    assert isinstance(picture, VideoStream)
    picture.width = picture.height = 64
    picture.pix_fmt = "yuv420p"
    return picture


def _write_picture(container: OutputContainer, picture: VideoStream, seconds: float) -> None:
    for n in range(round(5 * seconds)):
        frame = VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), "yuv420p")
        frame.pts, frame.time_base = n, Fraction(1, 5)
        container.mux(picture.encode(frame))
    container.mux(picture.encode(None))


def _write_sound(container: OutputContainer, stream: AudioStream, track: Track) -> None:
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(track.samples.T), "fltp", _layout(track))
    frame.sample_rate, frame.pts, frame.time_base = track.rate, 0, Fraction(1, track.rate)
    resampler = av.AudioResampler(
        stream.codec_context.format.name, _layout(track), track.rate, stream.frame_size
    )
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    for packet in [p for one in [*frames, None] for p in stream.encode(one)]:
        assert packet.pts is not None
        at = float(packet.pts * packet.time_base)
        if any(first <= at < last for first, last in track.holes):
            continue
        moved = round(track.start / packet.time_base)
        packet.pts += moved
        packet.dts = packet.pts
        container.mux(packet)


def join_files(path: Path, *files: Path) -> Path:
    """One after another, as ``cat`` does."""
    path.write_bytes(b"".join(file.read_bytes() for file in files))
    return path


def peak_hertz(samples: NDArray[np.float32], rate: int = 16_000) -> float:
    """The frequency at which a signal is strongest."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate / len(samples))


def real_speech(seconds: float) -> NDArray[np.float32]:
    """Some real speech at 16 kHz, or nothing where there is none."""
    pieces: list[NDArray[np.float32]] = []
    for file in sorted(SPEECH.glob("en_ljspeech/*.opus"))[:50]:
        if sum(map(len, pieces)) >= seconds * 16_000:
            break
        pieces.append(sf.read(file, dtype="float32")[0])
    return np.concatenate([np.zeros(0, np.float32), *pieces])[: round(seconds * 16_000)]


def numbered(length: int) -> NDArray[np.float32]:
    """NDArray[np.float32] that tell where they are (exact in float32 below 2**24)."""
    return np.arange(length, dtype=np.float32)


def cut_up(samples: NDArray[np.float32], size: int) -> Iterator[NDArray[np.float32]]:
    """Consecutive blocks of ``size`` samples."""
    return (samples[first : first + size] for first in range(0, len(samples), size))


def noisy_sweep() -> NDArray[np.float32]:
    """Five seconds of a swelling sweep in noise."""
    generator = np.random.default_rng(0)
    sweep = np.sin(np.cumsum(np.linspace(0.01, 2, 5 * 16_000))) * np.sin(np.arange(5 * 16_000) / 3000)
    return (sweep * 0.5 + generator.normal(0, 0.05, len(sweep))).astype(np.float32)


vad_options = st.builds(
    VadOptions,
    min_speech=st.sampled_from([0.0, 0.125, 0.25]),
    min_silence=st.sampled_from([0.0, 0.125, 0.25, 0.5]),
    padding=st.sampled_from([0.0, 0.03125, 0.125, 0.25, 0.5]),
)
