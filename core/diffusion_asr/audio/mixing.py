"""Channels to one: their mean, after channels in opposite phase were turned round.

A microphone with crossed wires, or a "karaoke" effect, inverts one channel: the plain mean of two such
channels is silence. Polarity is inaudible, so a channel is turned whenever it runs against the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from diffusion_asr.audio.notes import warn
from diffusion_asr.audio.samples import Samples
from diffusion_asr.errors import AudioError

_MAX_PEAK = 64.0  # 36 dB over full scale: no mix gets there, integers stored as floats do
_OPPOSITE = 0.5  # correlation from which channels run together, or against each other


def mix_down(
    pieces: Iterable[Samples], rate: float, name: object, channel: int | None = None
) -> Iterator[Samples]:
    """(frames, channels) pieces to (frames,): their mean, or one channel, checked as sound.

    Raises:
        AudioError: A sample is NaN, infinite or far outside [-1, 1].

    Warns:
        AudioWarning: A channel was turned round.
    """
    start, phases = 0, _Phases()
    for piece in pieces:
        if not len(piece):
            continue
        _check_values(piece, start, rate, name)
        start += len(piece)
        if piece.shape[1] == 1 or channel is not None:
            yield piece[:, channel or 0]
        else:
            yield (piece * phases.follow(piece)).mean(axis=1, dtype=np.float32)
    if phases.turned:
        listed = ", ".join(str(n + 1) for n in sorted(phases.turned))
        warn(f"{name}: channel {listed} is in opposite phase to the others; it was turned before mixing")


def _check_values(piece: Samples, start: int, rate: float, name: object) -> None:
    peak = np.abs(piece).max(initial=0.0)
    if peak <= _MAX_PEAK:  # NaN is not <= anything
        return
    where = int(np.argmax(~(np.abs(piece) <= _MAX_PEAK).all(axis=1)))
    value = next(v for v in piece[where] if not abs(v) <= _MAX_PEAK)
    if np.isfinite(value):
        remedy = "floats must be in [-1, 1]: divide by 32768 if they were 16-bit integers"
    else:
        remedy = "repair the program that wrote it, or put zeros there"
    raise AudioError(f"{name}: a sample is {value:g} at {(start + where) / rate:.3f} s: {remedy}")


class _Phases:
    """The sign of each channel, kept until the sound clearly says otherwise."""

    def __init__(self) -> None:
        self.turned: set[int] = set()  # channels that were ever turned
        self._signs = np.ones(0, np.float32)
        self._reference = 0

    def follow(self, piece: Samples) -> NDArray[np.float32]:
        """(channels,) signs for this piece."""
        if not len(self._signs):
            self._signs = np.ones(piece.shape[1], np.float32)
        sound = piece - piece.mean(axis=0, dtype=np.float64)
        products = sound.T @ sound  # (channels, channels)
        energy = np.diag(products)
        if energy[self._reference] <= 1e-3 * energy.max():  # it fell silent, or was from the start
            self._reference = int(energy.argmax())
        shared = np.sqrt(energy * energy[self._reference])
        against = products[self._reference] * self._signs[self._reference]
        correlation = np.divide(against, shared, out=np.zeros_like(energy), where=shared > 0)
        self._signs[correlation > _OPPOSITE] = 1.0
        self._signs[correlation < -_OPPOSITE] = -1.0
        self.turned |= {int(n) for n in np.flatnonzero(self._signs < 0)}
        return self._signs
