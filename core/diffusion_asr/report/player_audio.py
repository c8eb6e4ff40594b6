"""The recording as the page needs it: peaks to draw and, unless it is too long, an MP3 to play.

Both come from one pass over blocks, so memory holds the MP3 (14 MB an hour), never the samples.
"""

from __future__ import annotations

import io
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from diffusion_asr.audio import files as audio
from diffusion_asr.audio.files import SAMPLE_RATE, StrPath

EMBED_LIMIT = 30_000_000  # bytes of MP3: two hours
_PEAK_RATE = 50  # a second
_MOST_PEAKS = 500_000  # in the page; a longer recording is drawn more coarsely
# The only coding that every browser plays, phones too; this level is 32 kbit/s at 16 kHz.
_CODING = {
    "format": "MP3",
    "subtype": "MPEG_LAYER_III",
    "compression_level": 0.85,
    "bitrate_mode": "CONSTANT",
}


@dataclass(frozen=True, slots=True)
class PlayerAudio:
    """A recording, made ready.

    Attributes:
        path: Where it is.
        duration: Seconds.
        peaks: One byte for each ``1 / peak_rate`` seconds; 255 is the loudest peak of the recording.
        peak_rate: Peaks a second.
        embedded: MP3, or None if it would be larger than the limit.
        kind: MIME type of what is played.
    """

    path: Path
    duration: float
    peaks: bytes
    peak_rate: float
    embedded: bytes | None
    kind: str


def prepare_audio(path: StrPath, limit: int = EMBED_LIMIT, track: int | None = None) -> PlayerAudio:
    """Read a recording once.

    Args:
        path: Any sound that `diffusion_asr.audio.files` reads.
        limit: Bytes of MP3 that may be embedded.
        track: Of its audio tracks this one, from 1; None is its default.

    Raises:
        AudioError: It cannot be read.
    """
    encoder = _Encoder(limit)
    peaks: list[NDArray[np.float32]] = []
    samples, step = 0, SAMPLE_RATE // _PEAK_RATE
    for block in audio.read_blocks(path, track=track):  # 30 s, a whole number of peaks
        samples += len(block)
        encoder.write(block)
        padded = np.pad(block, (0, -len(block) % step))
        peaks.append(np.abs(padded).reshape(-1, step).max(axis=1))
    values, rate = _thinned(np.concatenate([np.zeros(0, np.float32), *peaks]))
    embedded = encoder.finish()
    kind = "audio/mpeg" if embedded is not None else mimetypes.guess_type(Path(path).name)[0] or ""
    return PlayerAudio(Path(path), samples / SAMPLE_RATE, _as_bytes(values), rate, embedded, kind)


def _thinned(peaks: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    by = -(-len(peaks) // _MOST_PEAKS) or 1
    padded = np.pad(peaks, (0, -len(peaks) % by))
    return padded.reshape(-1, by).max(axis=1), _PEAK_RATE / by


def _as_bytes(peaks: NDArray[np.float32]) -> bytes:
    loudest = float(peaks.max(initial=0.0)) or 1.0
    return np.round(255 * peaks / loudest).astype(np.uint8).tobytes()


class _Encoder:
    """MP3 in memory, given up as soon as it is too large or if libsndfile cannot write it."""

    def __init__(self, limit: int) -> None:
        self._limit, self._buffer = limit, io.BytesIO()
        self._file: Any = None
        if limit > 0 and _CODING["format"] in sf.available_formats():
            self._file = sf.SoundFile(self._buffer, "w", SAMPLE_RATE, 1, **_CODING)

    def write(self, block: audio.Samples) -> None:
        if self._file is None:
            return
        self._file.write(np.clip(block, -1.0, 1.0))
        if self._buffer.tell() > self._limit:
            self._file.close()
            self._file, self._buffer = None, io.BytesIO()

    def finish(self) -> bytes | None:
        if self._file is None:
            return None
        self._file.close()
        data = self._buffer.getvalue()
        return data if len(data) <= self._limit else None
