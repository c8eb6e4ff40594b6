from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import soundfile as sf
import torch

from diffusion_asr.audio import files as audio
from diffusion_asr.audio.files import AudioWarning, convert_to_mono, probe_file, read_audio, read_blocks
from diffusion_asr.errors import AudioError
from tests.support import audio_checks
from tests.support.audio_checks import assert_is_the_sine
from tests.support.audio_files import Track, cut, mux, patched_wav, sine, write

RATES = [8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 192000]
WAV_CODINGS = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
KINDS = {
    "flac": "FLAC/PCM_16",
    "f24.flac": "FLAC/PCM_24",
    "ogg": "OGG/VORBIS",
    "opus": "OGG/OPUS",
    "mp3": "MP3/MPEG_LAYER_III",
    "aiff": "AIFF/PCM_16",
    "au": "AU/PCM_16",
    "caf": "CAF/ALAC_16",
    "w64": "W64/PCM_16",
    "rf64": "RF64/PCM_16",
    "ima.wav": "WAV/IMA_ADPCM",
    "ms.wav": "WAV/MS_ADPCM",
    "gsm.wav": "WAV/GSM610",
}
no_surprise = audio_checks.no_surprise


@pytest.mark.parametrize("coding", WAV_CODINGS)
@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("rate", RATES)
def test_every_rate_channels_and_wav_coding(tmp_path: Path, rate: int, channels: int, coding: str) -> None:
    path = write(tmp_path / "a.wav", sine(0.5, rate, channels), rate, f"WAV/{coding}")
    assert_is_the_sine(read_audio(path), 0.5)
    assert probe_file(path) == audio.AudioInfo(round(0.5 * rate) / rate, rate, channels, f"WAV/{coding}") or (
        channels > 2 and probe_file(path).format == f"WAVEX/{coding}"
    )


@pytest.mark.parametrize("extension", KINDS)
def test_every_container(tmp_path: Path, extension: str) -> None:
    kind = KINDS[extension]
    rate = 48_000 if "OPUS" in kind else 44_100
    channels = 1 if "GSM" in kind else 2
    path = write(tmp_path / f"a.{extension}", sine(2.0, rate, channels), rate, kind)
    slack = 1500 if "ADPCM" in kind or "GSM" in kind else 1  # their blocks have a fixed size
    assert_is_the_sine(read_audio(path), 2.0, slack)
    assert probe_file(path).duration == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3", "caf"])
def test_blocks_join_to_the_whole(tmp_path: Path, extension: str) -> None:
    kind = KINDS.get(extension, "WAV/PCM_16")
    rate = 48_000 if extension == "opus" else 44_100
    noise = np.random.default_rng(0).normal(0, 0.1, (10 * rate, 2)).astype(np.float32)
    path = write(tmp_path / f"a.{extension}", noise, rate, kind)
    blocks = list(read_blocks(path, 0.7))
    assert {len(block) for block in blocks[:-1]} == {11_200}
    assert 0 < len(blocks[-1]) <= 11_200
    whole = sf.read(path, dtype="float32")[0]
    np.testing.assert_allclose(np.concatenate(blocks), convert_to_mono(whole, rate), atol=1e-5)


@pytest.mark.parametrize(("hours", "rate", "channels"), [(0.5, 48_000, 2), (10, 16_000, 1)])
def test_memory_is_bounded_by_the_block(tmp_path: Path, hours: float, rate: int, channels: int) -> None:
    path = write(tmp_path / "long.wav", np.zeros((1, channels), np.float32), rate)
    size = int(hours * 3600) * rate * 2 * channels
    data = bytearray(path.read_bytes()[:44])
    data[4:8], data[40:44] = (size + 36).to_bytes(4, "little"), size.to_bytes(4, "little")
    path.write_bytes(data)
    os.truncate(path, 44 + size)  # sparse: hours that take no room on the disk
    tracemalloc.start()
    total = sum(map(len, read_blocks(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == hours * 3600 * 16_000
    assert peak < 12e6


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 192_000])
def test_a_few_samples(tmp_path: Path, rate: int, size: int) -> None:
    path = write(tmp_path / "a.wav", np.full((size, 1), 0.1, np.float32), rate)
    assert abs(len(read_audio(path)) - size * 16_000 / rate) <= 0.5


@pytest.mark.parametrize("extension", ["wav", "ogg", "caf", "aiff", "au", "w64", "rf64", "ima.wav"])
def test_no_samples_are_an_empty_result(tmp_path: Path, extension: str) -> None:
    path = write(tmp_path / f"a.{extension}", sine(0, 44_100), 44_100, KINDS.get(extension, "WAV/PCM_16"))
    assert list(read_blocks(path)) == []
    assert read_audio(path).shape == (0,)
    assert probe_file(path).duration == 0


def test_all_zeros_and_clipped_are_fine(tmp_path: Path) -> None:
    assert not read_audio(write(tmp_path / "z.wav", np.zeros((16_000, 1), np.float32), 16_000)).any()
    loud = read_audio(write(tmp_path / "c.wav", 50 * sine(1, 16_000), 16_000))
    assert np.abs(loud).max() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_not_a_number_is_found(tmp_path: Path, value: float, channels: int) -> None:
    samples = sine(3, 8000, channels)
    samples[20_000, channels - 1] = value
    path = write(tmp_path / "a.wav", samples, 8000, "WAV/FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: a sample is -?(nan|inf) at 2\.500 s: repair"):
        list(read_blocks(path, 1))
    with pytest.raises(AudioError, match=r"array: a sample is -?(nan|inf) at 2\.500 s"):
        convert_to_mono(samples, 8000)


def test_levels(tmp_path: Path) -> None:
    over = read_audio(write(tmp_path / "over.wav", 3 * sine(1, 16_000), 16_000, "WAV/FLOAT"))
    assert np.abs(over).max() == pytest.approx(1.5, abs=0.01)
    path = write(tmp_path / "int.wav", 32_768 * sine(1, 16_000), 16_000, "WAV/FLOAT")
    with pytest.raises(AudioError, match="divide by 32768"):
        read_audio(path)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3", "aiff", "au", "w64", "rf64"])
def test_a_file_that_breaks_off(tmp_path: Path, extension: str) -> None:
    rate = 48_000 if extension == "opus" else 44_100
    noise = np.random.default_rng(0).normal(0, 0.1, (20 * rate, 1)).astype(np.float32)
    path = write(tmp_path / f"a.{extension}", noise, rate, KINDS.get(extension, "WAV/PCM_16"))
    whole = read_audio(path)
    cut(path, 0.6)
    with pytest.warns(AudioWarning, match=r"a\..*: breaks off after 1[012]\.\d s"):
        part = read_audio(path)
    assert 0.5 * len(whole) < len(part) < 0.65 * len(whole)
    np.testing.assert_allclose(part[:-2000], whole[: len(part) - 2000], atol=1e-5)


def test_sizes_in_the_header_that_lie(tmp_path: Path) -> None:
    with pytest.warns(AudioWarning, match="breaks off after 1.0 s"):
        assert len(read_audio(patched_wav(tmp_path / "more.wav", 40, "<I", 0x0FFFFFFE))) == 16_000
    for unknown in (0xFFFFFFFF, 0x7FFFF000):  # what programs write to a pipe
        assert len(read_audio(patched_wav(tmp_path / "pipe.wav", 40, "<I", unknown))) == 16_000


def test_a_header_that_denies_the_sound(tmp_path: Path) -> None:
    assert len(read_audio(patched_wav(tmp_path / "none.wav", 40, "<I", 0))) == pytest.approx(16_000, abs=1)


@pytest.mark.parametrize(
    ("offset", "layout", "value"),
    [(22, "<H", n) for n in (0, 1000, 5000)]  # channels
    + [(24, "<I", n) for n in (0, 1, 2_000_000_000, 0xFFFFFFFF)]  # Hz
    + [(34, "<H", 0), (20, "<H", 0x7777)],  # bits, coding
)
def test_absurd_headers(tmp_path: Path, offset: int, layout: str, value: int) -> None:
    path = patched_wav(tmp_path / "absurd.wav", offset, layout, value)
    for reader in (read_audio, probe_file):
        with pytest.raises(AudioError, match=r"absurd\.wav: "):
            reader(path)


@pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.txt", "a.raw", "a", "a.m4a"])
@pytest.mark.parametrize("content", ["text", "random", "jpeg", "playlist", "concat", "sdp"])
def test_not_sound(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    other = write(tmp_path / "other.au", sine(1, 16_000), 16_000, "AU/PCM_16")
    contents = {
        "text": b"hello world\n" * 500,
        "random": np.random.default_rng(0).bytes(50_000),
        "jpeg": jpeg + np.random.default_rng(1).bytes(5000),
        "playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n".encode(),
        "concat": f"ffconcat version 1.0\nfile '{other}'\n".encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    }
    path.write_bytes(contents[content])
    with pytest.raises(AudioError, match=f"{name}: .*give a sound file"):
        read_audio(path)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        read_blocks(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match="is a folder"):
        read_blocks(tmp_path)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match="0 bytes"):
        read_blocks(tmp_path / "empty.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="not a regular file"):
        read_blocks(tmp_path / "pipe.wav")
    for name in ("a\0b.wav", "x" * 5000, str(tmp_path / "empty.wav" / "a.wav")):
        with pytest.raises(AudioError):
            read_blocks(name)
    for url in ("https://example.org/a.wav", Path("https://example.org/a.wav"), "s3://bucket/a.wav"):
        with pytest.raises(AudioError, match="network: download"):
            read_blocks(url)
    with pytest.raises(ValueError, match="seconds > 0"):
        read_blocks(tmp_path / "empty.wav", 0)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.wav", sine(1, 16_000), 16_000)

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(AudioError, match=r"a\.wav: cannot be opened \(Permission denied\)"):
        read_audio(path)


@pytest.mark.parametrize(
    "name", ["-i.wav", "-", "ä ö 中.flac", "a:b.wav", "%d.wav", os.fsdecode(b"\xff.wav")]
)
def test_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.wav", sine(0.5, 16_000), 16_000).rename(name)
    assert_is_the_sine(read_audio(name), 0.5)


# --- bytes and open files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.webm"])
def test_bytes_and_open_files(tmp_path: Path, name: str) -> None:
    if name == "a.wav":
        write(tmp_path / name, sine(2, 16_000), 16_000)
    else:
        mux(tmp_path / name, Track(sine(2, 48_000), 48_000, "libopus"))
    data, expected = (tmp_path / name).read_bytes(), read_audio(tmp_path / name)
    at_its_end = io.BytesIO(data)
    at_its_end.seek(0, os.SEEK_END)
    for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), at_its_end):
        np.testing.assert_array_equal(read_audio(source), expected)
    with (tmp_path / name).open("rb") as file:
        for _ in range(2):
            np.testing.assert_array_equal(read_audio(file), expected)
        assert not file.closed
    with subprocess.Popen(["cat", tmp_path / name], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        np.testing.assert_array_equal(read_audio(cast("BinaryIO", process.stdout)), expected)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sine(1, 16_000), 16_000)
    closed = path.open("rb")
    closed.close()
    with path.open("rb") as text, pytest.raises(AudioError, match=r"a\.wav: is open as text: .*'rb'"):
        read_audio(io.TextIOWrapper(text))  # type: ignore[arg-type]
    for source, message in ((closed, "is closed"), (b"", "0 bytes"), (io.BytesIO(), "is empty")):
        with pytest.raises(AudioError, match=message):
            read_audio(source)
    with pytest.raises(AudioError, match="the bytes: is not sound"):
        read_audio(bytes(1000))


# --- arrays -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(16_000,), (1, 16_000), (2, 16_000), (8, 16_000), (16_000, 1), (16_000, 2)]
)
@pytest.mark.parametrize("kind", ["float32", "float64", "float16", "int16", "int32", "uint8"])
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy])
def test_arrays(shape: tuple[int, ...], kind: str, make: Any) -> None:
    wave = sine(1, 16_000)[:, 0]
    scaled = {"int16": wave * 2**15, "int32": wave * 2.0**31, "uint8": wave * 127 + 128}.get(kind, wave)
    array = scaled.astype(kind)
    both = np.broadcast_to(array[:, None] if shape[0] == 16_000 and len(shape) == 2 else array, shape).copy()
    found = convert_to_mono(make(both))
    np.testing.assert_allclose(found, wave, atol=0.02)
    assert found.dtype == np.float32
    assert len(convert_to_mono(make(both), 48_000)) == 5333


def test_array_layouts() -> None:
    stereo = np.stack([np.zeros(9), np.ones(9)], axis=1)
    np.testing.assert_array_equal(convert_to_mono(stereo), np.full(9, 0.5))
    assert len(convert_to_mono(np.zeros((8, 8)))) == 8
    assert convert_to_mono(torch.zeros(20, dtype=torch.bfloat16)).shape == (20,)
    assert convert_to_mono([0.0, 0.5]).tolist() == [0.0, 0.5]
    for empty in (np.zeros(0), np.zeros((2, 0)), np.zeros((0, 2))):
        assert convert_to_mono(empty).shape == (0,)


@pytest.mark.parametrize(
    ("bad", "rate", "message"),
    [
        (np.zeros((9, 16_000)), 16_000, "looks like a batch"),
        (np.zeros((2, 2, 100)), 16_000, "expected"),
        (np.float32(1), 16_000, "expected"),
        (np.zeros(10, np.int64), 16_000, "int64"),
        (np.zeros(10, complex), 16_000, "complex"),
        (np.array(["a"]), 16_000, "give float32"),
        (np.zeros(10), 0, "0 Hz"),
        (np.zeros(10), -16_000, "-16000 Hz"),
        (np.zeros(10), float("nan"), "nan Hz"),
        (np.full(10, 3000.0), 16_000, "divide by 32768"),
    ],
)
def test_arrays_that_cannot_be_right(bad: Any, rate: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        convert_to_mono(bad, rate)


def test_import_is_light() -> None:
    code = "import sys, diffusion_asr.audio.files; print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(audio.__file__).parents[1])},
    )
    assert run.stdout.strip() == "False", run.stderr
