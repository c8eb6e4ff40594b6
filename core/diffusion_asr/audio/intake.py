"""A recording on its way to a recogniser: read once, and what of it was used is kept in mind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from diffusion_asr.audio import files as audio
from diffusion_asr.audio.levels import FRAME, measure_frames
from diffusion_asr.audio.notes import warn
from diffusion_asr.audio.samples import SAMPLE_RATE, Samples
from diffusion_asr.audio.sources import is_readable, open_source

_SILENT = -75.0  # dB below full scale: nothing to hear
_AUDIBLE = 20.0  # dB: what is this much softer than the recording's loud parts is its background
_MUCH = 1 / 3  # of what is audible
_LONG = 5.0  # seconds of it that are worth a note


class Intake:
    """One recording; iterating over it gives its blocks of 16 kHz samples.

    Attributes:
        name: Its file's, or None.
        likely: Seconds that it says it has.
    """

    def __init__(self, source: Any, sample_rate: float = SAMPLE_RATE, track: int | None = None) -> None:
        """Open a path, a file's bytes, an open file, or samples; see `audio.files`.

        Raises:
            AudioError: It cannot be read.
        """
        self._samples = 0
        self._levels = bytearray()  # dB below full scale, a byte for 32 ms: 110 kB an hour
        self._rest = np.zeros(0, np.float32)
        self._used: list[tuple[float, float]] = []
        self._blocks: Iterable[Samples]
        if is_readable(source):
            given = open_source(source)
            self.likely = audio.estimate_duration(given, track)
            self.name, self._blocks = given.title, audio.read_blocks(given, track=track)
        else:
            samples = audio.convert_to_mono(source, sample_rate)
            self.name, self._blocks, self.likely = None, [samples], len(samples) / SAMPLE_RATE

    def __iter__(self) -> Iterator[Samples]:
        for block in self._blocks:
            self._samples += len(block)
            self._measure(block)
            yield block

    @property
    def seconds(self) -> float:
        """Read so far."""
        return self._samples / SAMPLE_RATE

    def use(self, start: float, end: float) -> None:
        """Remember that words came of this stretch."""
        self._used.append((start, end))

    def tell_unused(self) -> None:
        """Warn if much of what can be heard gave no word."""
        levels = -np.frombuffer(self._levels, np.uint8).astype(np.float32)
        if not len(levels):
            return
        audible = levels > max(_SILENT, float(np.percentile(levels, 95)) - _AUDIBLE)
        unused = audible.copy()
        for start, end in self._used:
            unused[int(start * SAMPLE_RATE / FRAME) : int(np.ceil(end * SAMPLE_RATE / FRAME))] = False
        heard, lost = (float(flags.sum()) * FRAME / SAMPLE_RATE for flags in (audible, unused))
        if lost < max(_LONG, _MUCH * heard):
            return
        first = float(unused.argmax()) * FRAME / SAMPLE_RATE
        name = self.name or "the recording"
        warn(
            f"{name}: {lost:.0f} s of {heard:.0f} s that are not silent gave no words, "
            f"from {first:.1f} s on: music or noise, or speech that was not found"
        )

    def _measure(self, block: Samples) -> None:
        self._rest = np.concatenate([self._rest, block])
        whole = len(self._rest) // FRAME * FRAME
        decibels = -20 * np.log10(measure_frames(self._rest) + 1e-9)
        self._levels += np.clip(decibels, 0, 255).astype(np.uint8).tobytes()
        self._rest = self._rest[whole:]
