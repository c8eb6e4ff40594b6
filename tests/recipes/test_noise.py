"""The disturbances of the noise benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.benchmark.noise import at_snr, babble, disturbances, disturbed, table
from recipes.embedded.evaluate import Clip, Score


@pytest.fixture
def clips() -> list[Clip]:
    rng = np.random.default_rng(0)
    return [
        Clip((0.1 * rng.standard_normal(8_000 + 100 * n)).astype(np.float32), f"text {n}", "en", "set")
        for n in range(6)
    ]


@pytest.mark.parametrize("decibels", [20.0, 0.0, -10.0])
def test_the_ratio_of_powers_is_what_was_asked_for(decibels: float) -> None:
    rng = np.random.default_rng(1)
    speech = (0.05 * rng.standard_normal(16_000)).astype(np.float32)
    noise = (3 * rng.standard_normal(16_000)).astype(np.float32)
    mixed = at_snr(speech, noise, decibels).astype(np.float64)
    basis = np.stack([speech, noise]).astype(np.float64).T
    (own, added), *_ = np.linalg.lstsq(basis, mixed, rcond=None)
    ratio = np.mean((own * speech) ** 2) / np.mean((added * noise) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(decibels, abs=0.1)
    assert float(np.abs(mixed).max()) <= 1


def test_babble_is_of_others(clips: list[Clip]) -> None:
    loud = [Clip(c.samples * (1000 if n == 0 else 1), c.text, c.lang, c.source) for n, c in enumerate(clips)]
    speech = loud[0].samples
    voices = babble(speech, loud[:1] + loud[1:2], np.random.default_rng(0))
    assert voices.shape == speech.shape
    again = np.correlate(np.resize(np.tile(loud[1].samples, 2), 3 * len(speech)), voices, "valid").max()
    assert again > 0.5 * np.sqrt(np.sum(voices**2) * np.sum(loud[1].samples ** 2))


def test_every_disturbance_can_be_repeated_and_keeps_the_length(clips: list[Clip]) -> None:
    for name, change in disturbances(clips).items():
        once, again = (disturbed(clips[1], name, change).samples for _ in range(2))
        assert np.array_equal(once, again)
        assert once.shape == clips[1].samples.shape
        assert once.dtype == np.float32
        assert bool(np.isfinite(once).all())
        assert np.array_equal(once, clips[1].samples) == (name == "clean")


def test_table_shows_both_systems() -> None:
    ours, theirs = Score((1, 1), (10, 10)), Score((4, 0), (10, 10))
    assert "| en | 2 | 10.0 [10, 10] / 20.0 |" in table({"en": {"clean": (ours, theirs)}})
