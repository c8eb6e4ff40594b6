"""Windows of speech out of a recording of any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffusion_asr.audio.files import Samples
from diffusion_asr.audio.spans import VadOptions, find_speech
from diffusion_asr.audio.speech import CHUNK, SpeechDetector
from diffusion_asr.audio.windows import Window, WindowOptions, pack_windows
from tests.support.audio_files import Probabilities, cut_up, numbered, real_speech, sine, vad_options

RATE = 16_000


class Fake:
    """A detector that knows the answer."""

    def __init__(self, probabilities: Probabilities) -> None:
        self.answer = probabilities

    def probabilities(self, blocks: Iterable[Samples]) -> Iterator[Probabilities]:
        read = told = 0
        for block in blocks:
            read += len(block)
            yield self.answer[told : read // CHUNK]
            told = read // CHUNK
        yield self.answer[told:]


def speech(*parts: tuple[float, float]) -> Probabilities:
    """Probabilities from (seconds, probability) pairs."""
    pieces = [np.full(round(seconds * RATE / CHUNK), value, np.float32) for seconds, value in parts]
    return np.concatenate(pieces)


def run(
    probabilities: Probabilities, options: WindowOptions | None = None, size: int = 480_000
) -> list[Window]:
    blocks = cut_up(numbered(len(probabilities) * CHUNK), size)
    return list(pack_windows(blocks, Fake(probabilities), options))


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector()


@pytest.fixture(scope="module")
def spoken() -> Samples:
    samples = real_speech(90)
    if not len(samples):
        pytest.skip("no speech on this machine")
    return samples


@pytest.mark.parametrize("bad", [{"max_window": 0.0}, {"max_pause": -1.0}])
def test_lengths_that_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        WindowOptions(vad=VadOptions(), **bad)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 300), st.floats(0, 1, width=32)), min_size=1, max_size=25),
    st.integers(0, 511),
    st.sampled_from([1.0, 3.0, 10.0, 30.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([1_000, 30_011, 480_000, 10**9]),
    vad_options,
)
def test_every_sample_of_speech_is_in_one_window(
    parts: list[tuple[int, float]], missing: int, limit: float, pause: float, size: int, vad: VadOptions
) -> None:
    probabilities = np.array([p for n, p in parts for _ in range(n)], np.float32)
    length = len(probabilities) * CHUNK - missing
    options = WindowOptions(limit, pause, vad)
    found = list(pack_windows(cut_up(numbered(length), size), Fake(probabilities), options))
    covered = np.zeros(length, int)
    before = 0
    for window in found:
        start = round(window.start * RATE)
        assert 0 < len(window.samples) <= limit * RATE
        assert start >= before
        np.testing.assert_array_equal(window.samples, np.arange(start, start + len(window.samples)))
        covered[start : start + len(window.samples)] += 1
        before = start + len(window.samples)
    for start, end in find_speech(probabilities, vad, length):
        assert (covered[start:end] == 1).all()
    assert covered.max(initial=0) <= 1
    assert bool(found) == bool(find_speech(probabilities, vad, length))


def test_short_pauses_stay_and_long_ones_part() -> None:
    found = run(speech((1, 0), (3, 1), (1, 0), (3, 1), (4, 0), (2, 1), (1, 0)))
    assert [(round(w.start, 1), round(w.end, 1)) for w in found] == [(0.8, 8.2), (11.8, 14.2)]


def test_a_full_window_ends_at_its_longest_late_pause() -> None:
    found = run(speech((5, 1), (1.8, 0), (12, 1), (1.2, 0), (5, 1), (0.6, 0), (9, 1)))
    assert round(found[0].end, 1) == 19.0
    assert round(found[1].start, 1) == 19.8


def test_endless_speech_is_cut_where_it_is_least_likely() -> None:
    found = run(speech((24, 1), (0.1, 0.6), (60, 1)))
    assert found[0].end == pytest.approx(24.05, abs=0.05)
    assert found[1].start == found[0].end


def test_endless_speech_of_one_probability_is_cut_where_it_is_quiet() -> None:
    probabilities = speech((80, 1))
    samples = sine(len(probabilities) * CHUNK / RATE, RATE)[:, 0]
    samples[26 * RATE : 26 * RATE + 2000] *= 0.01
    found = list(pack_windows([samples], Fake(probabilities)))
    assert found[0].end == pytest.approx(26.06, abs=0.07)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_little_is_held(probability: float, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusion_asr.audio import windows as longform

    most = 0
    forget = longform._Recording.forget

    def spy(recording: longform._Recording, before: int) -> None:
        nonlocal most
        most = max(most, sum(map(len, recording._pieces)))
        forget(recording, before)

    monkeypatch.setattr(longform._Recording, "forget", spy)
    probabilities = speech((900, probability))
    total = sum(len(w.samples) for w in run(probabilities))
    assert total == (len(probabilities) * CHUNK if probability else 0)
    assert most <= 60 * RATE


def test_windows_come_while_the_recording_goes_on() -> None:
    probabilities = speech((5, 1), (60, 0))
    read = 0

    def blocks() -> Iterator[Samples]:
        nonlocal read
        for block in cut_up(numbered(len(probabilities) * CHUNK), RATE):
            read += len(block)
            yield block

    next(pack_windows(blocks(), Fake(probabilities)))
    assert read <= 21 * RATE  # two sections of which the level is measured


@pytest.mark.parametrize("kind", ["nothing", "zeros", "white", "loud", "quiet", "sine", "hum"])
def test_no_window_without_speech(detector: SpeechDetector, kind: str) -> None:
    generator = np.random.default_rng(0)
    count = 40 * RATE
    made: dict[str, NDArray[np.float64] | Samples] = {
        "nothing": np.zeros(0),
        "zeros": np.zeros(count),
        "white": generator.normal(0, 0.1, count),
        "loud": generator.uniform(-1, 1, count),
        "quiet": generator.normal(0, 1e-3, count),
        "sine": sine(40, RATE)[:, 0],
        "hum": np.sign(sine(40, RATE, hertz=50)[:, 0]) * 0.1,
    }
    assert list(pack_windows([made[kind].astype(np.float32)], detector)) == []


def test_real_speech_with_silence_around(detector: SpeechDetector, spoken: Samples) -> None:
    silence = np.zeros(10 * RATE, np.float32)
    found = list(pack_windows([silence, spoken, silence], detector))
    assert 9.5 < found[0].start < 10.5
    assert 10 + len(spoken) / RATE - 1 < found[-1].end < 10 + len(spoken) / RATE + 0.6
    assert sum(len(w.samples) for w in found) > 0.9 * len(spoken)
    assert all(len(w.samples) <= 30 * RATE for w in found)
