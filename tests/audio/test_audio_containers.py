"""Containers, joined files and damage: sound that is not one plain track from beginning to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from diffusion_asr.audio.files import AudioWarning, probe_file, read_audio, read_blocks
from diffusion_asr.errors import AudioError
from tests.support import audio_checks
from tests.support.audio_checks import assert_is_the_sine
from tests.support.audio_files import Track, cut, join_files, mux, peak_hertz, sine, write

no_surprise = audio_checks.no_surprise


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("-a.m4a", "aac"), ("a.webm", "libopus"), ("a b.mp4", "aac"), ("a%d.mkv", "aac"), ("a.aac", "aac"),
        ("x:y.mov", "alac"), ("a.ts", "mp2"), ("a.avi", "pcm_s16le"), ("a.wv", "wavpack"), ("a.ac3", "ac3"),
    ],
)  # fmt: skip
def test_containers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, coding: str) -> None:
    monkeypatch.chdir(tmp_path)
    mux(Path("made" + Path(name).suffix), Track(sine(2, 48_000, 2), 48_000, coding)).rename(name)
    assert_is_the_sine(read_audio(name), 2.0, 1600)
    info = probe_file(name)
    assert (info.sample_rate, info.channels) == (48_000, 2)
    assert info.duration == pytest.approx(2.0, abs=0.1)
    assert len(next(read_blocks(name, 0.5))) == 8000


@pytest.mark.parametrize("name", ["a.mp3", "a.wav", "a.txt", "a"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, name: str) -> None:
    made = mux(tmp_path / "made.m4a", Track(sine(2, 48_000), 48_000, "alac"))
    assert_is_the_sine(read_audio(made.rename(tmp_path / name)), 2.0, 1600)
    plain = write(tmp_path / "b.wav", sine(1, 16_000), 16_000)
    assert_is_the_sine(read_audio(plain.rename(tmp_path / "b.mp3")), 1.0)


JOINED = {
    "ogg": ("OGG/VORBIS", 44_100, 22_050), "opus": ("OGG/OPUS", 48_000, 48_000),
    "mp3": ("MP3/MPEG_LAYER_III", 44_100, 22_050), "flac": ("FLAC/PCM_16", 44_100, 44_100),
    "wav": ("WAV/PCM_16", 16_000, 44_100), "aiff": ("AIFF/PCM_16", 44_100, 8000),
}  # fmt: skip


@pytest.mark.parametrize("kind", JOINED)
@pytest.mark.parametrize("channels", [(1, 1), (1, 2), (2, 1)])
def test_joined_files_are_read_to_the_end(tmp_path: Path, kind: str, channels: tuple[int, int]) -> None:
    """Radios, telephones and ``cat`` put one after another, each with its own rate and channels."""
    coding, one, other = JOINED[kind]
    if kind == "flac" and channels != (1, 1):
        pytest.skip("FLAC's frames cannot change their channels")
    first = write(tmp_path / f"1.{kind}", sine(2, one, channels[0]), one, coding)
    second = write(tmp_path / f"2.{kind}", sine(3, other, channels[1], hertz=880), other, coding)
    joined = join_files(tmp_path / f"joined.{kind}", first, second, first)
    assert_are_joined(read_audio(joined), 7.0)


@pytest.mark.parametrize(
    ("suffix", "coding"),
    [("m4a", "aac"), ("webm", "libopus"), ("ts", "mp2"), ("aac", "aac"), ("flac", "flac")],
)
def test_joined_containers_are_read_to_the_end(tmp_path: Path, suffix: str, coding: str) -> None:
    first = mux(tmp_path / f"1.{suffix}", Track(sine(2, 48_000, 2), 48_000, coding))
    second = mux(tmp_path / f"2.{suffix}", Track(sine(3, 48_000, 2, hertz=880), 48_000, coding))
    assert_are_joined(read_audio(join_files(tmp_path / f"joined.{suffix}", first, second, first)), 7.0)


def assert_are_joined(samples: np.ndarray, seconds: float) -> None:
    assert len(samples) == pytest.approx(seconds * 16_000, abs=4000)
    heard = [peak_hertz(samples[round(at * 16_000) :][:8000]) for at in (1.0, 3.5, 6.0)]
    assert heard == pytest.approx([440, 880, 440], abs=4)


def sounding(samples: np.ndarray) -> list[tuple[float, float]]:
    """From when to when there is sound, in seconds."""
    loud = np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).max(axis=1) > 0.1
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]])))
    return [(first / 100, last / 100) for first, last in edges.reshape(-1, 2)]


@pytest.mark.parametrize(
    ("name", "coding"), [("a.mkv", "aac"), ("a.mp4", "aac"), ("a.webm", "libopus"), ("a.ts", "mp2")]
)
def test_sound_is_at_its_container_s_time(tmp_path: Path, name: str, coding: str) -> None:
    """It begins after the picture, and it has a hole that is no damage."""
    kind = "matroska" if name == "a.webm" else None  # WebM has no place for this picture
    track = Track(sine(5, 48_000), 48_000, coding, start=2.9, holes=((2.0, 3.2),))
    path = mux(tmp_path / name, track, video=9, kind=kind)
    with pytest.warns(AudioWarning, match=r"gap of 1\.[0-9] s at 4\.9 s; it is kept as silence"):
        heard = sounding(read_audio(path))
    assert np.array(heard) == pytest.approx(np.array([(2.9, 4.9), (6.1, 7.9)]), abs=0.08)


def test_a_clock_that_is_wrong_makes_no_endless_silence(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", Track(sine(2, 48_000), 48_000, "aac", start=1e6))
    with pytest.warns(AudioWarning, match=r"a\.mkv: its clock leaps by 278 h"):
        assert len(read_audio(path)) == pytest.approx(32_000, abs=1600)


def test_of_several_tracks_the_default_is_read(tmp_path: Path) -> None:
    silent, spoken = np.zeros((96_000, 1), np.float32), sine(2, 48_000, 2)
    path = mux(
        tmp_path / "a.mkv",
        Track(silent, 48_000, "libopus", title="room"), Track(spoken, 48_000, "libopus", is_default=True),
    )  # fmt: skip
    with pytest.warns(AudioWarning, match=r"a\.mkv: .* \(1 \(room\); 2 \(default\)\); track 2 is used"):
        assert_is_the_sine(read_audio(path), 2.0, 1600)
    assert not read_audio(path, track=1).any()
    assert_is_the_sine(read_audio(path, track=2), 2.0, 1600)
    for wrong in (0, 3, -1):
        with pytest.raises(AudioError, match=rf"a\.mkv: has no audio track {wrong}; there is 1 \(room\); 2"):
            read_audio(path, track=wrong)
    plain = write(tmp_path / "b.wav", sine(1, 16_000), 16_000)
    assert_is_the_sine(read_audio(plain, track=1), 1.0)
    with pytest.raises(AudioError, match=r"b\.wav: has no audio track 2"):
        read_audio(plain, track=2)


def test_a_voice_message_of_half_a_second(tmp_path: Path) -> None:
    """libsndfile calls the Ogg that FFmpeg writes since version 8 malformed if it is short."""
    path = mux(tmp_path / "a.ogg", Track(sine(0.5, 48_000), 48_000, "libopus"))
    assert_is_the_sine(read_audio(path), 0.5, 16)


def test_containers_that_break_off(tmp_path: Path) -> None:
    for name, coding in (("a.webm", "libopus"), ("a.mkv", "aac"), ("a.m4a", "aac")):
        mux(tmp_path / name, Track(sine(5, 48_000), 48_000, coding))
        cut(tmp_path / name, 0.5)
    for name in ("a.webm", "a.mkv"):
        with pytest.warns(AudioWarning, match=rf"{name}: breaks off after 2\.\d s"):
            assert 32_000 < len(read_audio(tmp_path / name)) < 48_000
    with pytest.raises(AudioError, match=r"a\.m4a: breaks off before the index"):
        read_audio(tmp_path / "a.m4a")


@pytest.mark.parametrize("name", ["a.opus", "a.mp3", "a.flac", "a.webm"])
def test_damage_within_loses_no_time(tmp_path: Path, name: str) -> None:
    coding = {"a.mp3": "libmp3lame", "a.flac": "flac"}.get(name, "libopus")
    path = mux(tmp_path / name, Track(sine(10, 48_000), 48_000, coding))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    with pytest.warns(AudioWarning, match="gap of|damaged in|breaks off"):
        assert len(read_audio(path)) == pytest.approx(160_000, abs=16_000)


def test_a_variable_bit_rate_alone_is_no_warning(tmp_path: Path) -> None:
    """Without Xing's header players guess at the duration; nothing is wrong for that."""
    changing = np.concatenate([0.001 * sine(8, 44_100), np.random.default_rng(0).normal(0, 0.2, (88_200, 1))])
    path = tmp_path / "a.mp3"
    sf.write(path, changing, 44_100, format="MP3", bitrate_mode="VARIABLE")
    assert len(read_audio(path)) == pytest.approx(160_000, abs=16)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Xing", b"none"))
    assert len(read_audio(path)) == pytest.approx(160_000, abs=3000)


def test_a_picture_without_sound(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no audio track"):
        read_audio(mux(tmp_path / "silent.mp4", video=1))
