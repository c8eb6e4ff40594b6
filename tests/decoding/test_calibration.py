"""From log-probabilities to confidence, and from a canvas's time to that of the sound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from diffusion_asr.decoding.calibration import RAMP, Calibration, shift_to_speech


@given(st.floats(-1e6, 0), st.floats(0, 100), st.floats(-100, 100))
def test_calibrated_confidence_is_a_probability(x: float, a: float, b: float) -> None:
    assert 0 <= Calibration(a, b)(x) <= 1


@given(st.floats(-50, 0), st.floats(-50, 0), st.floats(0, 10), st.floats(-10, 10))
def test_confidence_rises_with_the_probability(x: float, y: float, a: float, b: float) -> None:
    scale = Calibration(a, b)
    assert scale(min(x, y)) <= scale(max(x, y))


@given(st.floats(0, 30), st.floats(0, 30), st.floats(0, 1))
def test_a_lag_keeps_the_order_of_times(x: float, y: float, lag: float) -> None:
    assert shift_to_speech(min(x, y), lag) <= shift_to_speech(max(x, y), lag) + 1e-9
    assert shift_to_speech(0.0, lag) == 0.0
    assert shift_to_speech(RAMP + x, lag) == RAMP + x + lag
