"""Quiet recordings made as loud as others, before anything listens to them.

Detectors and encoders were trained on speech at usual levels: 40 dB less, and most words are missed. The gain
of each section of 10 s comes from its loudest 0.3 s, so neither pauses nor clicks decide it; it is never
below 1, so recordings at usual levels stay as they are. Sections are joined by ramps inside the quieter one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from diffusion_asr.audio.samples import SAMPLE_RATE, Samples

FRAME = 512  # samples over which loudness is measured, as long as a detector's chunk
_SECTION = 10 * SAMPLE_RATE
_SHORTEST = 2 * SAMPLE_RATE  # a shorter section goes with the one before
_LOUDEST = 10  # frames (0.3 s) that are at least as loud as a section's loudness
_RAMP = SAMPLE_RATE // 2
_TARGET = 10 ** (-24 / 20)  # RMS; speech at usual levels is louder
_MOST = 10 ** (50 / 20)


def level_blocks(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """A recording in sections of up to 10 s, quiet ones amplified; 10 s more than that is held.

    Args:
        blocks: Consecutive (samples,) float32 blocks at 16 kHz.
    """
    before = gain = 1.0
    held: Samples | None = None
    for section in _sections(blocks):
        following = gain if held is not None and len(section) < _SHORTEST else _measure_gain(section)
        if held is None:
            before = following
        else:
            yield _amplified(held, before, gain, following)
            before = gain
        held, gain = section, following
    if held is not None:
        yield _amplified(held, before, gain, gain)


def measure_frames(samples: Samples) -> NDArray[np.float64]:
    """RMS of each 32 ms without its mean, (frames,); what is left over at the end is not measured."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return np.asarray(frames.std(axis=1, dtype=np.float64))


def _measure_gain(section: Samples) -> float:
    levels = np.sort(measure_frames(section))[::-1]
    if not len(levels):
        return 1.0
    loudness = levels[min(_LOUDEST, len(levels) // 2)]
    return float(np.clip(_TARGET / loudness, 1.0, _MOST)) if loudness > 0 else 1.0


def _amplified(section: Samples, before: float, gain: float, following: float) -> Samples:
    """A section with its gain, but where its neighbours are louder: there it starts and ends with theirs."""
    if gain == 1.0:
        return section
    ramp = min(_RAMP, len(section) // 2)
    gains = np.full(len(section), gain, np.float32)
    if ramp:
        gains[:ramp] = np.geomspace(min(before, gain), gain, ramp)
        gains[-ramp:] = np.geomspace(gain, min(following, gain), ramp)
    return np.asarray(np.clip(section * gains, -1.0, 1.0), np.float32)


def _sections(blocks: Iterable[Samples]) -> Iterator[Samples]:
    held: list[Samples] = []
    count = 0
    for block in blocks:
        first = 0
        while first < len(block):
            piece = block[first : first + _SECTION - count]
            held.append(piece)
            count += len(piece)
            first += len(piece)
            if count == _SECTION:
                yield held[0] if len(held) == 1 else np.concatenate(held)
                held, count = [], 0
    if held:
        yield held[0] if len(held) == 1 else np.concatenate(held)
