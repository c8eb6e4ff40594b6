"""Model folders with a fine-tuned denoiser."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile as sf
import torch
from torch import Tensor

from diffusion_asr import ModelError, Recognizer
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.models.folder import REFINER, load_config, model_folder
from diffusion_asr.models.tuned import DENOISER, Source, copy_model, denoiser_of, write_tuned

CLIP = Path(__file__).parents[1] / "data/en-arctic_a0239_1592711579.flac"


@pytest.fixture(scope="module")
def source() -> Source:
    return Source.of("canvas-base")


def deaf() -> dict[str, Tensor]:
    """A denoiser that hears nothing any more: null wins in every slot."""
    weights = denoiser_of("canvas-base")
    return weights | {"null_bias": torch.full_like(weights["null_bias"], 1e4)}


def test_the_tuned_denoiser_is_loaded_and_used(source: Source, tmp_path: Path) -> None:
    write_tuned(source, tmp_path / "tuned", deaf())
    tuned = Recognizer.from_pretrained(tmp_path / "tuned")
    assert tuned.parts.version == source.config["version"] + "+tuned"
    assert tuned.transcribe(CLIP, language="en").text == ""
    assert Recognizer.from_pretrained().transcribe(CLIP, language="en", steps=1).text != ""
    again = Source.of(tmp_path / "tuned")
    write_tuned(again, tmp_path / "twice", denoiser_of(tmp_path / "tuned"))
    assert load_config(tmp_path / "twice")["version"] == source.config["version"] + "+tuned"


def test_without_the_refiner_the_denoiser_has_the_last_word(source: Source, tmp_path: Path) -> None:
    write_tuned(source, tmp_path / "alone", denoiser_of("canvas-base"), refiner=False)
    assert not (tmp_path / "alone" / REFINER).exists()
    alone, whole = Recognizer.from_pretrained(tmp_path / "alone"), Recognizer.from_pretrained()
    assert alone.parts.refiner is None
    assert whole.parts.refiner is not None
    assert alone.parts.calibration == Calibration(lag=whole.parts.calibration.lag)
    wave = torch.from_numpy(sf.read(CLIP, dtype="float32")[0])[None]
    draft, other = (r.denoise(r.encode(wave), "en", steps=1)[0].text for r in (alone, whole))
    assert draft == other != ""  # one step is the denoiser, with and without
    kept = Recognizer(replace(whole.parts, refiner=None))
    assert alone.transcribe(CLIP, "en").text == kept.transcribe(CLIP, "en").text


def test_an_untouched_model_is_copied_byte_for_byte(source: Source, tmp_path: Path) -> None:
    copy_model(source, tmp_path / "copy")
    original = model_folder("canvas-base")
    names = {"config.json", *source.config["sha256"]}
    assert {p.name for p in (tmp_path / "copy").iterdir()} == names
    assert all((tmp_path / "copy" / n).read_bytes() == (original / n).read_bytes() for n in names)


def test_weights_that_cannot_be_right_are_refused(source: Source, tmp_path: Path) -> None:
    good, target = denoiser_of("canvas-base"), tmp_path / "tuned"
    name, value = next((k, v) for k, v in good.items() if v.ndim == 2)
    wrong: list[tuple[dict[str, Tensor], str]] = [
        ({k: v for k, v in good.items() if k != name}, "Missing key"),
        (good | {"extra": torch.zeros(1)}, "Unexpected key"),
        (good | {name: value[:-1]}, "size mismatch"),
        (good | {name: torch.full_like(value, torch.nan)}, f"{name}: weights are NaN"),
    ]
    for weights, message in wrong:
        with pytest.raises(ModelError, match=message):
            write_tuned(source, target, weights)
    assert list(tmp_path.iterdir()) == []


def test_targets_that_exist_and_sources_that_change_are_refused(source: Source, tmp_path: Path) -> None:
    good = denoiser_of("canvas-base")
    with pytest.raises(ModelError, match="exists: choose another folder"):
        write_tuned(source, tmp_path, good)
    copy_model(source, tmp_path / "mine")
    mine = Source.of(tmp_path / "mine")
    vocabulary = tmp_path / "mine/vocabulary.json"
    vocabulary.write_text(vocabulary.read_text(encoding="utf8") + " ", encoding="utf8")
    with pytest.raises(ModelError, match=r"has changed .* \(vocabulary.json\)"):
        write_tuned(mine, tmp_path / "a", good)
    vocabulary.unlink()
    with pytest.raises(ModelError, match=r"no longer holds vocabulary.json"):
        copy_model(mine, tmp_path / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="cannot be made"):
        write_tuned(source, tmp_path / "file/inside", good)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


def test_what_is_written_is_signed(source: Source, tmp_path: Path) -> None:
    write_tuned(source, tmp_path / "tuned", denoiser_of("canvas-base"))
    config = json.loads((tmp_path / "tuned/config.json").read_text(encoding="utf8"))
    assert {DENOISER, REFINER, "encoder.safetensors", "vocabulary.json"} <= config["sha256"].keys()
    data = bytearray((tmp_path / "tuned" / DENOISER).read_bytes())
    data[-1] ^= 1
    (tmp_path / "tuned" / DENOISER).write_bytes(data)
    with pytest.raises(ModelError, match="corrupt"):
        Recognizer.from_pretrained(tmp_path / "tuned")
