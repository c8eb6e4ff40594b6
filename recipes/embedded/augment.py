"""Make one clip sound like many recordings: speed, room, noise, band, codec, level. Seeded per clip."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

import numpy as np
import soundfile as sf
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

RATE = 16_000
Array = np.ndarray
Rng = np.random.Generator


def speed(x: Array, rng: Rng, low: float = 0.85, high: float = 1.18) -> Array:
    """Resample: tempo, pitch and formants move together, which makes another speaker.

    A long clip is not slowed beyond 29.5 s.
    """
    low = max(low, len(x) / (29.5 * RATE))
    factor = float(rng.uniform(low, max(low, high)))
    return np.asarray(soxr.resample(x, RATE * factor, RATE), dtype=np.float32)


def coloured_noise(n: int, rng: Rng, exponent: float | None = None) -> Array:
    """Noise with a 1/f^exponent power spectrum: 0 white, 1 pink, 2 brown. Unit RMS."""
    exponent = float(rng.uniform(0, 2)) if exponent is None else exponent
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20) ** (exponent / 2)
    noise = np.fft.irfft(spectrum, n)
    return np.asarray(noise / (noise.std() + 1e-9), dtype=np.float32)


def hum(n: int, rng: Rng) -> Array:
    """Mains hum: a fundamental of 50 or 60 Hz with falling harmonics. Unit RMS."""
    t = np.arange(n) / RATE
    base = rng.choice([50.0, 60.0])
    parts = [
        np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) * rng.uniform(0, 1 / k) for k in range(1, 12)
    ]
    wave = np.sum(parts, axis=0)
    return np.asarray(wave / (wave.std() + 1e-9), dtype=np.float32)


def music(n: int, rng: Rng) -> Array:
    """Chords of decaying harmonic notes. Unit RMS."""
    out = np.zeros(n, np.float32)
    step = int(RATE * rng.uniform(0.2, 0.7))
    for start in range(0, n, step):
        t = np.arange(min(4 * step, n - start)) / RATE
        for _ in range(int(rng.integers(1, 4))):
            pitch = 440 * 2 ** ((rng.integers(40, 84) - 69) / 12)
            for k in range(1, 6):
                if pitch * k < 7000:
                    envelope = np.exp(-t * rng.uniform(1, 6)) / k
                    out[start : start + len(t)] += envelope * np.sin(2 * np.pi * pitch * k * t)
    return np.asarray(out / (out.std() + 1e-9), dtype=np.float32)


@functools.cache
def rooms(count: int = 64) -> tuple[Array, ...]:
    """Impulse responses of random shoebox rooms by the image method (pyroomacoustics)."""
    import pyroomacoustics as pra

    rng = np.random.default_rng(7)
    responses = []
    for _ in range(count):
        size = rng.uniform([2.5, 2.5, 2.3], [9, 7, 3.5])
        absorption, order = pra.inverse_sabine(float(rng.uniform(0.25, 0.8)), size)
        room = pra.ShoeBox(size, fs=RATE, materials=pra.Material(absorption), max_order=min(order, 12))
        room.add_source(rng.uniform(0.5, size - 0.5))
        room.add_microphone(rng.uniform(0.5, size - 0.5))
        room.compute_rir()
        response = np.asarray(room.rir[0][0], dtype=np.float32)
        responses.append(response[np.abs(response).argmax() - 20 :][: RATE // 2])
    return tuple(r for r in responses if len(r) > 50)


def reverb(x: Array, rng: Rng) -> Array:
    """Convolve with a random room; the direct path stays where it was."""
    response = rooms()[int(rng.integers(len(rooms())))]
    return np.asarray(fftconvolve(x, response)[: len(x)] / (np.abs(response).max() + 1e-9), dtype=np.float32)


def add_noise(x: Array, rng: Rng, low_db: float = 3, high_db: float = 30) -> Array:
    """Add noise, hum or music at a random signal-to-noise ratio."""
    source: Callable[[int, Rng], Array] = (coloured_noise, coloured_noise, coloured_noise, hum, music)[
        int(rng.integers(5))
    ]
    level = (np.sqrt(np.mean(x**2)) + 1e-6) * 10 ** (-rng.uniform(low_db, high_db) / 20)
    return np.asarray(x + level * source(len(x), rng), dtype=np.float32)


def telephone(x: Array, rng: Rng) -> Array:
    """A telephone's band and code, or only a random low-pass."""
    if rng.random() < 0.5:
        sos = butter(4, float(rng.uniform(3000, 7000)), "lowpass", fs=RATE, output="sos")
        return np.asarray(sosfilt(sos, x), dtype=np.float32)
    return narrow_band(x)


def narrow_band(x: Array) -> Array:
    """300 to 3400 Hz and eight-bit mu-law."""
    band = sosfilt(butter(4, [300, 3400], "bandpass", fs=RATE, output="sos"), x)
    band = np.clip(band / (np.abs(band).max() + 1e-9), -1, 1)
    coded = np.round(np.sign(band) * np.log1p(255 * np.abs(band)) / np.log(256) * 127) / 127
    return np.asarray(np.sign(coded) * (256 ** np.abs(coded) - 1) / 255, dtype=np.float32)


def codec(x: Array, rng: Rng) -> Array:
    """Through MP3 or Vorbis at a low quality and back."""
    kind, subtype = (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"))[int(rng.integers(2))]
    buffer = io.BytesIO()
    level = float(rng.uniform(0.5, 0.95))
    with sf.SoundFile(buffer, "w", RATE, 1, subtype, format=kind, compression_level=level) as out:
        out.write(np.clip(x, -1, 1))
    buffer.seek(0)
    decoded, _ = sf.read(buffer, dtype="float32")
    return np.asarray(np.pad(decoded, (0, max(0, len(x) - len(decoded))))[: len(x)], dtype=np.float32)


def augment(x: Array, seed: int, strength: float = 1.0) -> Array:
    """One random recording of ``x``; a quarter of all clips stay clean but for level and speed."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.8 * strength:
        x = speed(x, rng)
    if rng.random() > 0.25:
        for chance, effect in ((0.35, reverb), (0.5, add_noise), (0.12, telephone), (0.12, codec)):
            if rng.random() < chance * strength:
                x = effect(x, rng)
    peak = float(np.abs(x).max()) + 1e-9
    return np.asarray(x / peak * 10 ** rng.uniform(-1.5, 0), dtype=np.float32)


def non_speech(seconds: float, rng: Rng) -> Array:
    """Something without words: silence, noise, hum or music, at any level."""
    n = int(seconds * RATE)
    kind = int(rng.integers(6))
    if kind == 0:
        return np.zeros(n, np.float32)
    wave = (coloured_noise, coloured_noise, hum, music, music)[kind - 1](n, rng)
    return np.asarray(np.clip(wave * 10 ** rng.uniform(-3.5, -0.7), -1, 1), dtype=np.float32)
