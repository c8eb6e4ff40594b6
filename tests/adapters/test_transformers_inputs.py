"""Whatever transformers' users hand over as sound: one text for one recording, the same as from its file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch

from tests.support.audio_files import Track, mux
from tests.support.transformers_helpers import (
    CLIPS,
    ENGLISH,
    GERMAN,
    shipped_core,
    shipped_pipeline,
    transformers,
)

STEPS = 1  # the draft alone: what is read matters here, not how well it is written


@pytest.fixture(scope="module")
def asr() -> Any:
    return shipped_pipeline()


@pytest.fixture(scope="module")
def expected() -> str:
    text = shipped_core().transcribe(ENGLISH, "en", steps=STEPS).text
    assert text
    return text


def samples() -> Any:
    return sf.read(ENGLISH, dtype="float32")[0]


def as_int16(x: Any) -> Any:
    return np.round(x * 32768).clip(-32768, 32767).astype(np.int16)


KINDS: dict[str, Callable[[], Any]] = {
    "path": lambda: ENGLISH,
    "name": lambda: str(ENGLISH),
    "bytes": ENGLISH.read_bytes,
    "bytearray": lambda: bytearray(ENGLISH.read_bytes()),
    "memory": lambda: io.BytesIO(ENGLISH.read_bytes()),
    "array": samples,
    "float64": lambda: samples().astype(np.float64),
    "int16": lambda: as_int16(samples()),
    "tensor": lambda: torch.from_numpy(samples()),
    "list of numbers": lambda: samples().tolist(),
    "stereo": lambda: np.stack([samples(), samples()]),
    "array and rate": lambda: {"array": samples(), "sampling_rate": 16_000},
    "raw": lambda: {"raw": samples(), "sampling_rate": 16_000},
    "raw int16": lambda: {"raw": as_int16(samples()), "sampling_rate": np.int64(16_000)},
    "list and rate": lambda: {"array": samples().tolist(), "sampling_rate": 16_000},
    "tensor and rate": lambda: {"raw": torch.from_numpy(samples()), "sampling_rate": 16_000.0},
    "dictionary with path": lambda: {"path": str(ENGLISH)},
    "undecoded row": lambda: {"bytes": ENGLISH.read_bytes(), "path": "gone.flac"},
    "whole row": lambda: {"audio": {"array": samples(), "sampling_rate": 16_000}, "text": "He cried"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_one_recording(asr: Any, expected: str, kind: str) -> None:
    assert asr(KINDS[kind](), language="en", steps=STEPS) == {"text": expected}


def test_an_open_file(asr: Any, expected: str) -> None:
    with ENGLISH.open("rb") as file:
        assert asr(file, language="en", steps=STEPS)["text"] == expected
    with pytest.raises(ValueError, match="closed"):
        asr(file)
    with pytest.raises(ValueError, match="binary"), ENGLISH.open(encoding="utf8") as text:
        asr(text)


@pytest.mark.parametrize(
    ("suffix", "coding", "rate"),
    [("webm", "libopus", 48_000), ("m4a", "aac", 44_100), ("mkv", "aac", 16_000)],
)
def test_bytes_of_a_container(asr: Any, tmp_path: Path, suffix: str, coding: str, rate: int) -> None:
    sound = soxr.resample(samples(), 16_000, rate)[:, None].astype(np.float32)
    path = mux(tmp_path / f"a.{suffix}", Track(sound, rate, coding))
    written = shipped_core().transcribe(path, "en", steps=STEPS).text
    assert written
    assert asr(path.read_bytes(), language="en", steps=STEPS)["text"] == written


def test_a_track_is_chosen_by_its_number(asr: Any, tmp_path: Path) -> None:
    silence = np.zeros((48_000, 1), np.float32)
    path = mux(tmp_path / "a.mkv", Track(silence, 16_000, "aac"), Track(samples()[:, None], 16_000, "aac"))
    assert asr(path, track=1) == {"text": ""}
    assert "cried" in asr(path, track=2)["text"]


def test_a_list_is_as_many_clips(asr: Any, expected: str) -> None:
    german = shipped_core().transcribe(GERMAN, "de", steps=STEPS).text
    pair = [samples(), sf.read(GERMAN, dtype="float32")[0]]
    assert [x["text"] for x in asr(pair, steps=STEPS)] == [expected, german]
    assert [x["text"] for x in asr((str(ENGLISH), GERMAN.read_bytes()), steps=STEPS)] == [expected, german]
    assert asr([]) == []


def test_iterators_give_texts_as_they_come(asr: Any, expected: str) -> None:
    taken: list[int] = []

    def clips() -> Iterator[Any]:
        for number in range(3):
            taken.append(number)
            yield samples()

    for several in (clips(), map(str, [ENGLISH]), iter([ENGLISH]), zip([1], strict=True)):
        texts = asr(several, language="en", steps=STEPS)
        assert iter(texts) is texts
        if not isinstance(several, zip):
            assert next(texts) == {"text": expected}
    assert taken == [0]


def test_rows_columns_and_key_data_sets(asr: Any, expected: str) -> None:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("torchcodec")
    from transformers.pipelines.pt_utils import KeyDataset

    rows = {"audio": [str(ENGLISH)] * 2, "text": ["He cried"] * 2}
    data = datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio())
    found = {"text": expected}
    options = {"language": "en", "steps": STEPS}
    assert asr(data[0]["audio"], **options) == found  # torchcodec's decoder, which reads like a dictionary
    assert asr(data[0]["audio"].get_all_samples(), **options) == found
    assert asr(data[0], **options) == found
    assert asr([row["audio"] for row in data], **options) == [found] * 2
    for several in (KeyDataset(data, "audio"), data["audio"], data, data.to_iterable_dataset()):
        texts = asr(several, **options)
        assert not isinstance(texts, list)
        assert list(texts) == [found] * 2
    plain = data.cast_column("audio", datasets.Audio(decode=False))
    assert asr(plain[0]["audio"], **options) == found
    resampled = data.cast_column("audio", datasets.Audio(sampling_rate=8000))
    assert asr(resampled[0]["audio"], **options)["text"]


def test_what_else_a_dictionary_holds_comes_out_beside_the_text(asr: Any, expected: str) -> None:
    clip = {"raw": samples(), "sampling_rate": 16_000, "partial": False, "stride": (0, 0)}
    kept = dict(clip)
    assert asr(clip, language="en", steps=STEPS) == {"text": expected, "partial": [False]}
    assert clip == kept, "a caller's dictionary stays as it is"
    named = {"raw": None, "array": samples(), "sampling_rate": 16_000, "text": "what was said"}
    assert asr(named, language="en", steps=STEPS) == {"text": expected}


def test_a_clip_of_48_khz_stereo_has_the_words_of_core(asr: Any, tmp_path: Path) -> None:
    wide = soxr.resample(samples(), 16_000, 48_000)
    stereo, path = np.stack([wide, 0.5 * wide]), tmp_path / "wide.wav"
    sf.write(path, stereo.T, 48_000, subtype="FLOAT")
    written = shipped_core().transcribe(path, "en").text
    assert written
    assert asr(str(path), language="en")["text"] == written
    assert asr({"array": stereo, "sampling_rate": 48_000}, language="en")["text"] == written
    extractor = asr.feature_extractor
    batch = extractor(stereo[0], sampling_rate=48_000, return_tensors="pt")
    assert batch.input_values.shape == (1, len(samples()))


def test_the_feature_extractor_pads_and_never_cuts(asr: Any) -> None:
    extract = asr.feature_extractor
    clips = [sf.read(path, dtype="float32")[0] for path in CLIPS]
    batch = extract(clips, sampling_rate=16_000, return_tensors="pt")
    assert batch.input_values.shape == batch.attention_mask.shape == (4, max(map(len, clips)))
    assert batch.attention_mask.sum(-1).tolist() == [len(clip) for clip in clips]
    assert torch.equal(batch["input_features"], batch.input_values)  # Whisper's name
    cast = extract(clips, return_tensors="pt").to("cpu", dtype=torch.bfloat16)
    assert torch.equal(cast.input_values, batch.input_values), "bfloat16 would leave 8 bits of the sound"
    assert extract(clips[0], padding="max_length", return_tensors="pt").input_values.shape == (1, 480_000)
    long = np.zeros(500_000, np.float32)
    assert extract(long, padding="max_length", return_tensors="np").input_values.shape == (1, 500_000)
    cut = extract(long, padding="max_length", max_length=16_000, truncation=True, return_tensors="pt")
    assert cut.input_values.shape == (1, 16_000)
    rows = extract(np.zeros((3, 800), np.float32), return_tensors="pt", return_attention_mask=False)
    assert {name: tuple(x.shape) for name, x in rows.items()} == {"input_values": (3, 800)}
    assert [len(x) for x in extract(clips, padding=False)["input_values"]] == [len(clip) for clip in clips]
    assert isinstance(extract(clips[0], return_tensors="pt"), transformers.BatchFeature)
    with pytest.raises(ValueError, match="no-such"):
        extract("no-such.wav")
