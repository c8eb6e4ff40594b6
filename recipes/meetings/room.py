"""How a simulated meeting sounds: one room, a place for each speaker, one microphone, noise; block by block.

Memory holds a block of ten seconds and the few utterances that sound in it, whatever the meeting's length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from diffusion_asr.audio.files import Samples
from recipes.embedded.augment import coloured_noise
from recipes.meetings.plan import Plan, Rng
from recipes.meetings.voices import RATE

_BLOCK = 10 * RATE
_LEVEL = 0.05  # root mean square of speech: two at once stay below full scale
_BEFORE = 20  # samples of a response kept before the direct sound


def responses(speakers: list[str], echo: float, rng: Rng) -> dict[str, NDArray[np.float32]]:
    """Impulse responses of one shoebox room by the image method (pyroomacoustics), one for each place.

    The direct sound has height 1 at ``_BEFORE``, so that what is said keeps its time.
    """
    import pyroomacoustics as pra

    size = rng.uniform([3.5, 3.0, 2.4], [8.0, 6.0, 3.2])
    absorption, order = pra.inverse_sabine(echo, size)
    room = pra.ShoeBox(size, fs=RATE, materials=pra.Material(min(absorption, 0.99)), max_order=min(order, 17))
    table = np.array([size[0] / 2, size[1] / 2, 0.8])
    around = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(len(speakers)) / len(speakers)
    for angle in around:
        reach = rng.uniform(0.7, 0.42 * min(size[:2]))
        height = rng.uniform(1.1, 1.4)
        room.add_source([table[0] + reach * np.cos(angle), table[1] + reach * np.sin(angle), height])
    room.add_microphone(table)
    room.compute_rir()
    out = {}
    for n, name in enumerate(speakers):
        response = np.pad(np.asarray(room.rir[0][n], np.float32), (_BEFORE, 0))
        direct = int(np.abs(response).argmax())
        out[name] = response[direct - _BEFORE :][: round(echo * RATE)] / response[direct]
    return out


def render(plan: Plan) -> tuple[dict[str, Any], Iterator[Samples]]:
    """What was drawn (levels, room), and (samples,) blocks at 16 kHz."""
    rng = np.random.default_rng([plan.settings.seed, 1])
    speakers = sorted({each.speaker for each in plan.placed})
    room = responses(speakers, plan.settings.echo, rng)
    levels = {name: round(float(rng.uniform(-3, 3)), 2) for name in speakers}
    colour = float(rng.uniform(0.5, 2))
    # Periodic by construction, so that half a minute can go on for ever without a seam.
    noise = (_LEVEL * 10 ** (-plan.settings.snr / 20) * coloured_noise(30 * RATE, rng, colour)).astype(
        np.float32
    )
    about = {"decibels": levels, "noise_exponent": round(colour, 3)}
    return about, _blocks(plan, room, levels, noise)


def _blocks(
    plan: Plan, room: dict[str, NDArray[np.float32]], levels: dict[str, float], noise: Samples
) -> Iterator[Samples]:
    waiting = list(plan.placed)
    sounding: list[tuple[int, Samples]] = []
    for first in range(0, round(plan.duration * RATE), _BLOCK):
        last = min(first + _BLOCK, round(plan.duration * RATE))
        block = np.take(noise, np.arange(first, last), mode="wrap")
        while waiting and waiting[0].start * RATE < last:
            each = waiting.pop(0)
            dry = each.utterance.samples()
            gain = _LEVEL * 10 ** (levels[each.speaker] / 20) / (float(np.sqrt(np.mean(dry**2))) + 1e-9)
            wet = gain * fftconvolve(dry, room[each.speaker])
            sounding.append((round(each.start * RATE) - _BEFORE, wet.astype(np.float32)))
        for start, wet in sounding:
            a, b = max(first, start), min(last, start + len(wet))
            if b > a:
                block[a - first : b - first] += wet[a - start : b - start]
        sounding = [(start, wet) for start, wet in sounding if start + len(wet) > last]
        yield np.clip(block, -1.0, 1.0).astype(np.float32)
