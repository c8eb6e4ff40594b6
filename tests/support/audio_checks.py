"""What the tests of sound files share: a warning is an error, and the sine is told by its sound."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from diffusion_asr.audio.files import AudioWarning
from tests.support.audio_files import peak_hertz


@pytest.fixture(autouse=True)
def no_surprise() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)
        yield


def assert_is_the_sine(samples: np.ndarray, seconds: float, slack: int = 1) -> None:
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert abs(len(samples) - seconds * 16_000) <= slack
    assert peak_hertz(samples) == pytest.approx(440, abs=4)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.06)
