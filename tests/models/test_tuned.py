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
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import REFINER, find_model, load_config
from diffusion_asr.models.tuned import (
    DENOISER,
    Source,
    copy_model,
    find_denoiser,
    make_trainable,
    write_tuned,
)
from tests.support import tiny
from tests.support.tiny import DATA

CLIP = DATA / "en-arctic_a0239_1592711579.flac"


@pytest.fixture(scope="module")
def source() -> Source:
    return Source.of("canvas-base")


def denoiser_of(model: str | Path) -> dict[str, Tensor]:
    """A model's denoiser in float32, as training starts from it."""
    state = find_denoiser(load_parts(model)).state_dict()
    return {name: value.float() for name, value in state.items()}


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
    assert isinstance(alone.parts.decoder, DiffusionDecoder)
    assert isinstance(whole.parts.decoder, CanvasDecoder)
    assert alone.parts.calibration == Calibration(lag=whole.parts.calibration.lag)
    wave = torch.from_numpy(sf.read(CLIP, dtype="float32")[0])[None]
    draft, other = (r.decode(r.encode(wave), "en", steps=1)[0].text for r in (alone, whole))
    assert draft == other != ""  # one step is the denoiser, with and without
    decoder = DiffusionDecoder(find_denoiser(whole.parts), whole.parts.vocabulary)
    kept = Recognizer(replace(whole.parts, decoder=decoder))
    assert alone.transcribe(CLIP, "en").text == kept.transcribe(CLIP, "en").text


def test_an_untouched_model_is_copied_byte_for_byte(source: Source, tmp_path: Path) -> None:
    copy_model(source, tmp_path / "copy")
    original = find_model("canvas-base")
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
        (good | {name: torch.full_like(value, 1e6)}, f"{name}: weights are .* above 65504"),
        (good | {name: value.int()}, f"{name}: no weights, but something else"),
        (good | {name: "x"}, f"{name}: no weights, but something else"),  # type: ignore[list-item]
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


def test_what_is_trained_is_what_decodes(tmp_path: Path) -> None:
    parts = tiny.parts(tmp_path, refined=True)
    tiny.canvas_denoiser(parts).bfloat16()
    denoiser = make_trainable(parts)
    assert denoiser is find_denoiser(parts)
    assert {w.dtype for w in denoiser.parameters()} == {torch.float32}
    assert all(w.requires_grad for w in denoiser.parameters())
    asr = tiny.eager(parts)
    memory = asr.encode(torch.from_numpy(tiny.noise(1.0))[None])
    assert asr.decode(memory, "en", steps=1)[0].text != ""
    with torch.no_grad():
        denoiser.null_bias.fill_(1e4)
    assert asr.decode(memory, "en", steps=1)[0].text == ""


def test_a_model_without_a_canvas_denoiser_cannot_be_tuned(tmp_path: Path) -> None:
    parts = replace(tiny.parts(tmp_path), denoiser=None)
    with pytest.raises(ModelError, match="tiny has no canvas denoiser to fine-tune: start from canvas-base"):
        make_trainable(parts)
