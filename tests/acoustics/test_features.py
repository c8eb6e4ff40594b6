"""Log-mel features against the reference implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_asr.acoustics.features import HOP, N_MELS, PADDED_SAMPLES, LogMel, compute_mel_filters
from tests.support.audio_files import noisy_sweep
from tests.support.tiny import noise

LENGTHS = (
    1, 2, 100, 159, 160, 161, 199, 200, 201, 202, 399, 400, 401, 1000, 1600, 12_345, 16_000, 79_999,
    PADDED_SAMPLES - 201, PADDED_SAMPLES - 1, PADDED_SAMPLES, PADDED_SAMPLES + 1, PADDED_SAMPLES + 160,
    PADDED_SAMPLES + 12_345,
)  # fmt: skip


@pytest.fixture(scope="module")
def theirs() -> Any:
    return pytest.importorskip("transformers").WhisperFeatureExtractor()


@pytest.fixture(scope="module")
def ours() -> LogMel:
    return LogMel()


def sound(length: int) -> NDArray[np.float32]:
    """Sweeps, noise and digital silence, so that the floor of 8 decades under the peak is reached."""
    pattern = np.concatenate([noisy_sweep(), np.zeros(8000, np.float32)])
    return np.tile(pattern, length // len(pattern) + 1)[:length]


def reference(theirs: Any, samples: NDArray[np.float32]) -> Tensor:
    """Their features; 30 s and less are padded to 30 s, as they always are."""
    longer = len(samples) > PADDED_SAMPLES
    found: Tensor = theirs(
        samples, sampling_rate=16_000, return_tensors="pt", truncation=not longer,
        padding="longest" if longer else "max_length",
    ).input_features[0]  # fmt: skip
    return found


def features(ours: LogMel, samples: NDArray[np.float32]) -> Tensor:
    mel, frames = ours(torch.from_numpy(samples)[None])
    assert frames.tolist() == [max(1, len(samples) // HOP)]
    assert mel.shape == (1, N_MELS, int(frames))
    return mel[0]  # type: ignore[no-any-return]


def test_filters_are_theirs(theirs: Any) -> None:
    expected = torch.from_numpy(np.asarray(theirs.mel_filters, np.float32)).T
    torch.testing.assert_close(compute_mel_filters(), expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("length", LENGTHS)
def test_features_are_theirs(theirs: Any, ours: LogMel, length: int) -> None:
    mel = features(ours, sound(length))
    expected = reference(theirs, sound(length))[:, : mel.shape[1]]
    torch.testing.assert_close(mel, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("length", [400, 1000, 1599, 16_159])
@pytest.mark.parametrize("seed", range(3))
def test_short_noise_is_theirs(theirs: Any, ours: LogMel, length: int, seed: int) -> None:
    samples = noise(2, seed)[:length]
    mel = features(ours, samples)
    expected = reference(theirs, samples)[:, : mel.shape[1]]
    torch.testing.assert_close(mel, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1e-8, 1.0])
def test_constant_levels_are_theirs(theirs: Any, ours: LogMel, level: float) -> None:
    samples = np.full(16_000, level, np.float32)
    mel = features(ours, samples)
    # The last frames see the step down to the padding, whose spectrum differs by rounding alone.
    torch.testing.assert_close(mel, reference(theirs, samples)[:, :100], atol=1e-4, rtol=0)


def test_silence_is_flat_and_finite(ours: LogMel) -> None:
    mel = features(ours, np.zeros(8000, np.float32))
    assert torch.isfinite(mel).all()
    assert mel.min() == mel.max() == -1.5  # log10 of 1e-10, scaled


def test_a_loud_end_that_fills_no_hop_counts_for_the_peak(theirs: Any, ours: LogMel) -> None:
    samples = np.concatenate([noise(1.0) * 1e-4, np.full(150, 0.9, np.float32)]).astype(np.float32)
    mel = features(ours, samples)
    torch.testing.assert_close(mel, reference(theirs, samples)[:, : mel.shape[1]], atol=1e-4, rtol=0)


def test_a_batch_is_its_clips(ours: LogMel) -> None:
    lengths = [1, 150, 4000, 16_000, 16_159, PADDED_SAMPLES - 7, PADDED_SAMPLES, PADDED_SAMPLES + 500]
    batch = torch.zeros(len(lengths), max(lengths))
    for row, length in zip(batch, lengths, strict=True):
        row[:length] = torch.from_numpy(sound(length))
    mel, frames = ours(batch, torch.tensor(lengths))
    assert mel.shape == (len(lengths), N_MELS, max(lengths) // HOP)
    for clip, n, length in zip(mel, frames.tolist(), lengths, strict=True):
        torch.testing.assert_close(clip[:, :n], features(ours, sound(length)), atol=1e-5, rtol=0)
        if n < clip.shape[1]:
            assert clip[:, n:].min() == clip[:, n:].max()  # the clip's floor
            assert clip[:, n:].max() <= clip[:, :n].min() + 1e-6


def test_a_loud_end_in_a_batch(ours: LogMel) -> None:
    """Frames past a clip's end see its last samples too; they must not move its floor."""
    loud = np.concatenate([noise(1.0) * 1e-4, np.full(150, 0.9, np.float32)]).astype(np.float32)
    batch = torch.zeros(2, 20_000)
    batch[0, : len(loud)] = torch.from_numpy(loud)
    mel, frames = ours(batch, torch.tensor([len(loud), 20_000]))
    torch.testing.assert_close(mel[0, :, : int(frames[0])], features(ours, loud), atol=1e-5, rtol=0)


def test_input_is_left_alone(ours: LogMel) -> None:
    samples = torch.from_numpy(sound(PADDED_SAMPLES + 10))[None]
    before = samples.clone()
    ours(samples)
    assert torch.equal(samples, before)
