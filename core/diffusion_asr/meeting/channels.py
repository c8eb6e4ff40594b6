"""Recordings with one speaker per channel, such as telephone calls: the channels are the diarization.

A microphone hears the others a little. Where another channel is far louder, speech in a channel is taken
for that, or everything would be written down twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffusion_asr.audio.files import SAMPLE_RATE, Samples
from diffusion_asr.audio.levels import level_blocks
from diffusion_asr.audio.spans import find_speech
from diffusion_asr.audio.speech import CHUNK
from diffusion_asr.audio.windows import Detector
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import Diarization, Stage
from diffusion_asr.meeting.recording import read_track

_CROSSTALK = 12.0  # dB by which another channel must be louder
_SPEECH = 0.35  # probability of speech from which another channel counts
_AROUND = 8  # chunks (0.25 s) on either side that loudness is measured over
_STRIDE = 1000 * CHUNK  # samples measured at a time
Probabilities = NDArray[np.float32]


def name_speaker(channel: int) -> str:
    """The name of whoever talks in a channel, counted from 0."""
    return f"CHANNEL_{channel + 1}"


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """What is heard in one channel.

    Attributes:
        track: (samples,) at 16 kHz.
        probabilities: (chunks,) how likely its owner speaks, for every 32 ms.
        crosstalk: (chunks,) bool, where somebody else is heard.
    """

    track: Samples
    probabilities: Probabilities
    crosstalk: NDArray[np.bool_]

    def blocks(self) -> Iterator[Samples]:
        """The track in blocks, silent where somebody else is heard."""
        first = 0
        for block in read_track(self.track):
            chunks = (first + np.arange(len(block))) // CHUNK
            block[self.crosstalk[chunks]] = 0.0
            first += len(block)
            yield block


def detect_speech(tracks: Sequence[Samples], detector: Detector, stage: Stage) -> list[Channel]:
    """Tells speech from crosstalk in every channel."""
    found = []
    for n, track in enumerate(tracks):
        stage("diarization", n, len(tracks))
        found.append(
            np.concatenate(
                [np.zeros(0, np.float32), *detector.probabilities(level_blocks(read_track(track)))]
            )
        )
    stage("diarization", len(tracks), len(tracks))
    levels = [_level(track) for track in tracks]
    voices = [np.where(_near(p >= _SPEECH), v, -np.inf) for p, v in zip(found, levels, strict=True)]
    longest = max(map(len, voices))
    voices = [np.pad(v, (0, longest - len(v)), constant_values=-np.inf) for v in voices]
    out = []
    for n, (track, own, level) in enumerate(zip(tracks, found, levels, strict=True)):
        loudest = np.max([voice for k, voice in enumerate(voices) if k != n], axis=0)[: len(own)]
        crosstalk = level < loudest - _CROSSTALK
        out.append(Channel(track, np.where(crosstalk, np.float32(0.0), own), crosstalk))
    return out


def find_turns(channels: Sequence[Channel]) -> Diarization:
    """The speech in each channel, as its owner's turns."""
    return Diarization(
        tuple(
            Turn(start / SAMPLE_RATE, end / SAMPLE_RATE, name_speaker(n))
            for n, channel in enumerate(channels)
            for start, end in find_speech(channel.probabilities, length=len(channel.track))
        )
    )


class KnownSpeech:
    """A detector that has listened already; see ``windows.Detector``."""

    def __init__(self, probabilities: Probabilities) -> None:
        self._known = probabilities

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        """What is known about each block, in order."""
        read = told = 0
        for block in blocks:
            read += len(block)
            yield self._known[told : read // CHUNK]
            told = read // CHUNK
        yield self._known[told:]


def _level(track: Samples) -> NDArray[np.float64]:
    """Loudness around each chunk in dB, (chunks,)."""
    energy = [
        np.square(np.pad(block, (0, -len(block) % CHUNK)).astype(np.float64)).reshape(-1, CHUNK).mean(axis=1)
        for block in (np.array(track[n : n + _STRIDE]) for n in range(0, len(track), _STRIDE))
    ]
    return np.asarray(10 * np.log10(_summed(np.concatenate([np.zeros(0), *energy])) + 1e-12))


def _near(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a flag is set nearby."""
    return _summed(flags.astype(np.float64)) > 0.5


def _summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums over the chunks around each."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    return np.asarray(total[np.minimum(at + _AROUND + 1, len(values))] - total[np.maximum(at - _AROUND, 0)])
