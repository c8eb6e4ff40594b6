"""Quiet sound, and channels that cancel."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from diffusion_asr.audio.files import AudioWarning, convert_to_mono, read_audio
from diffusion_asr.audio.levels import level_blocks
from diffusion_asr.audio.spans import find_speech
from diffusion_asr.audio.speech import SpeechDetector
from diffusion_asr.audio.windows import pack_windows
from tests.support.audio_files import cut_up, sine, write
from tests.support.tiny import noise

RATE = 16_000
CLIPS = sorted((Path(__file__).parents[1] / "data").glob("*.flac"))


def levelled(samples: np.ndarray, size: int = 30 * RATE) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *level_blocks(cut_up(samples.astype(np.float32), size))])


def decibels(samples: np.ndarray) -> float:
    return float(20 * np.log10(samples.std()))


@pytest.mark.parametrize("size", [1000, 10 * RATE, 30 * RATE])
@pytest.mark.parametrize("seconds", [0.01, 0.3, 9.0, 10.0, 25.5])
def test_usual_levels_stay_as_they_are(seconds: float, size: int) -> None:
    samples = noise(seconds)  # -20 dB
    np.testing.assert_array_equal(levelled(samples, size), samples)


@pytest.mark.parametrize("quiet", [-40, -60])
def test_quiet_sound_becomes_as_loud_as_other(quiet: int) -> None:
    for seconds in (0.3, 4.0, 35.0):
        found = levelled(noise(seconds) * 10 ** ((quiet + 20) / 20))
        assert len(found) == round(seconds * RATE)
        assert decibels(found) == pytest.approx(-24, abs=1.5)


def test_neither_clicks_nor_pauses_decide() -> None:
    samples = noise(20.0) * 5e-3
    samples[5 * RATE : 9 * RATE] = 0.0
    samples[2 * RATE] = samples[15 * RATE] = 0.9
    found = levelled(samples)
    assert decibels(found[10 * RATE :]) == pytest.approx(-24, abs=3)
    assert np.abs(found).max() <= 1.0


def test_a_loud_voice_is_not_distorted_by_a_quiet_one_before_and_after() -> None:
    quiet, loud = noise(10.0) * 1e-2, noise(10.0, 1)
    found = levelled(np.concatenate([quiet, loud, quiet]))
    np.testing.assert_array_equal(found[10 * RATE : 20 * RATE], loud)
    for middle in (found[RATE : 9 * RATE], found[21 * RATE : 29 * RATE]):
        assert decibels(middle) == pytest.approx(-24, abs=1)
    assert np.abs(np.diff(found)).max() < 1.5  # no step where they meet


def test_silence_stays_silent() -> None:
    assert not levelled(np.zeros(12 * RATE)).any()
    assert levelled(np.zeros(0)).shape == (0,)
    assert not np.abs(levelled(np.full(12 * RATE, 0.01)) - 0.01).any()  # an offset is no sound


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: str(clip.stem))
def test_as_much_speech_is_found_40_db_down(clip: Path) -> None:
    detector, samples = SpeechDetector(), read_audio(clip)

    def seconds(level: float) -> float:
        found = pack_windows([samples * np.float32(10 ** (level / 20))], detector)
        return sum(window.end - window.start for window in found)

    assert seconds(-40) == pytest.approx(seconds(0), rel=0.05)


@pytest.mark.parametrize("level", [-20, -65])
def test_hiss_is_no_speech_at_any_level(level: int) -> None:
    samples = noise(30.0) * np.float32(10 ** ((level + 20) / 20))
    probabilities = np.concatenate(list(SpeechDetector().probabilities(level_blocks([samples]))))
    assert find_speech(probabilities) == []


# --- phases -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gain", "extra"), [(-1.0, 0.0), (-0.5, 0.0), (-1.0, 0.01), (-0.9, 0.05)])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_inverted_channel_is_turned(tmp_path: Path, gain: float, extra: float, rate: int) -> None:
    mono = sine(3, rate)
    other = gain * mono + extra * np.random.default_rng(0).normal(0, 1, mono.shape)
    path = write(tmp_path / "a.wav", np.hstack([mono, other]).astype(np.float32), rate, "WAV/FLOAT")
    with pytest.warns(AudioWarning, match=r"a\.wav: channel 2 is in opposite phase"):
        found = read_audio(path)
    assert decibels(found) == pytest.approx(decibels(mono * (1 - gain) / 2), abs=0.3)
    with pytest.warns(AudioWarning, match="the array: channel 2"):
        convert_to_mono(np.hstack([mono, other]).T, rate)


def test_one_of_many_is_turned_and_the_first_may_be_silent() -> None:
    voice = noise(3.0)
    with pytest.warns(AudioWarning, match="channel 4 is"):
        found = convert_to_mono(np.stack([0 * voice, voice, voice, -voice]))
    np.testing.assert_allclose(found, 0.75 * voice, atol=1e-6)


def test_channels_that_differ_are_mixed_as_they_are() -> None:
    one, other = noise(3.0, 1), noise(3.0, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)
        for pair in ((one, other), (one, one), (one, 0 * one), (one, 0.3 * one + other)):
            np.testing.assert_allclose(convert_to_mono(np.stack(pair)), np.mean(pair, axis=0), atol=1e-6)
