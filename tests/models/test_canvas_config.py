"""What a canvas model's JSON files misstate is refused, and told with its place."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.errors import ModelError
from diffusion_asr.loading import load_parts
from diffusion_asr.models import canvas
from diffusion_asr.models.folder import FORMAT, load_config
from tests.support import model_helpers
from tests.support.model_helpers import edit, refused, sign

original, model = model_helpers.original, model_helpers.model


@pytest.mark.parametrize("version", [0, FORMAT + 1, "1", None, [1]])
def test_another_format_is_refused(model: Path, version: object) -> None:
    edit(model, lambda c: c.update(format=version))
    refused(model, "config.json")
    with pytest.raises(ModelError, match=rf"reads format {FORMAT}"):
        load_config(model)


@pytest.mark.parametrize(
    "content", ["", "[]", "3", "{", '{"format": 1}', '{"format": 1, "sha256": 3}', "\x00"]
)
def test_a_nonsensical_configuration_is_refused(model: Path, content: str) -> None:
    (model / "config.json").write_text(content)
    refused(model, "config.json")


def test_a_configuration_of_other_bytes_is_refused(model: Path) -> None:
    (model / "config.json").write_bytes(b"\xff\xfe{")
    refused(model, "config.json")


@pytest.mark.parametrize("part", ["encoder", "denoiser", "calibration"])
def test_a_configuration_that_lacks_a_part_is_refused(model: Path, part: str) -> None:
    edit(model, lambda c: c.pop(part))
    refused(model, "config.json")


@pytest.mark.parametrize("part", ["encoder", "denoiser", "calibration", "refiner"])
def test_a_configuration_that_misstates_a_part_is_refused(model: Path, part: str) -> None:
    for wrong in ({"unheard of": 1}, 3, None):
        edit(model, partial(dict.update, **{part: wrong}))
        refused(model, "config.json")


@pytest.mark.parametrize("part", ["name", "version"])
def test_a_configuration_without_a_name_is_refused(model: Path, part: str) -> None:
    edit(model, lambda c: c.pop(part))
    refused(model, "config.json")


@pytest.mark.parametrize("part", ["denoiser", "encoder", "refiner"])
def test_impossible_sizes_are_refused(model: Path, part: str) -> None:
    edit(model, lambda c: c[part].update(d_model=-1))
    refused(model, "config.json")


def at(config: dict[str, Any], place: str) -> tuple[dict[str, Any], str]:
    *parts, last = place.split(".")
    for part in parts:
        config = config[part]
    return config, last


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("encoder.n_mels", 10**9),
        ("encoder.layers", 10**9),
        ("encoder.max_frames", 2**40),
        ("refiner.layers", 2**70),
        ("denoiser.d_model", 2**31),
        ("encoder.d_model", 2),
        ("denoiser.heads", 3),
        ("encoder.heads", True),
        ("denoiser.heads", True),
        ("refiner.heads", "2"),
        ("refiner.heads", 2.0),
        ("encoder.tail", 31),
        ("encoder.tail", -1),
        ("denoiser.slot_frames", "4"),
        ("denoiser.slot_frames", 0),
        ("denoiser.slot_frames", 1.5),
        ("denoiser.memory_pool", None),
        ("denoiser.memory_pool", [2]),
        ("denoiser.memory_pool", 0),
        ("denoiser.max_slots", 100),
        ("denoiser.time_buckets", 1),
        ("denoiser.languages", "en"),
        ("denoiser.languages", []),
        ("denoiser.languages", ["en", 3]),
        ("denoiser.languages", ["en", "en"]),
        ("denoiser.languages", {"en": 1}),
        ("refiner.languages", ["en"]),
        ("swept", ["it"]),
        ("swept", "en"),
        ("calibration.a", "1"),
        ("calibration.b", None),
        ("calibration.lag", True),
        ("calibration.lag", 1e9),
        ("name", 3),
        ("name", ""),
        ("name", "a\x1b[2Jb"),
        ("version", 6.1),
        ("unheard of", 1),
        ("encoder.more", 1),
    ],
)
def test_what_a_configuration_misstates_is_told_with_its_place(
    model: Path, place: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any network is built, or weights are read."""

    def change(config: dict[str, Any]) -> None:
        inside, key = at(config, place)
        inside[key] = value

    edit(model, change)
    monkeypatch.setattr(canvas, "WhisperEncoder", None)
    monkeypatch.setattr(canvas, "CanvasDenoiser", None)
    monkeypatch.setattr(canvas, "unpack_file", None)
    with pytest.raises(ModelError, match=r"config\.json: ") as error:
        load_parts(model)
    assert place.split(".")[0] in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("file", ["config.json", "vocabulary.json"])
@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "[" * 50 + "]" * 50,
        '{"a": 1, "a": 2}',
        "NaN",
        "9" * 6000,
    ],
)
def test_json_without_end_is_refused(model: Path, file: str, content: str) -> None:
    (model / file).write_text(content)
    if file != "config.json":
        sign(model)
    with pytest.raises(ModelError, match=rf"{file}: (nested too deeply|not readable JSON)"):
        load_parts(model)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("hindi_start", -5, "hindi_start"),
        ("hindi_start", True, "hindi_start"),
        ("hindi_start", 10**9, "hindi_start"),
        ("hindi_scores", [1.0], "hindi_scores"),
        ("hindi_scores", "x", "hindi_scores"),
        ("pieces", ["", 3], "pieces"),
        ("pieces", {"a": 1}, "pieces"),
        ("language_pieces", {"hi": [[0, 3_000_000_000]]}, "language_pieces.hi"),
        ("language_pieces", {"hi": [[0, 9], [5, 20]]}, "language_pieces.hi"),
        ("language_pieces", {"hi": [[0, 2], [20, 30], [4, 9]]}, "language_pieces.hi"),
        ("language_pieces", {"hi": [[1, 30]]}, "language_pieces.hi"),
        ("language_pieces", {"hi": []}, "language_pieces"),
        ("language_pieces", {"hi": [[0, -5]]}, "language_pieces.hi"),
        ("language_pieces", [1], "language_pieces"),
        ("language_pieces", {"hi": [[0, 3, 5]]}, "language_pieces.hi"),
    ],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(
    model: Path, key: str, value: object, told: str
) -> None:
    path = model / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | {key: value}), encoding="utf8")
    sign(model)
    with pytest.raises(ModelError, match=r"vocabulary\.json: ") as error:
        load_parts(model)
    assert told in str(error.value)


def test_a_configuration_signs_itself(model: Path) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf8"))
    for change in ({"version": "9"}, {"calibration": {"a": 2.0, "b": 0.0}}, {"config_sha256": "0" * 64}):
        path.write_text(json.dumps(config | change), encoding="utf8")
        with pytest.raises(ModelError, match=r"config\.json is corrupt or was edited"):
            load_parts(model)
    path.write_text(json.dumps(config, sort_keys=True, indent=3), encoding="utf8")  # says the same
    assert load_parts(model).version == "0"


def test_a_folder_whose_configuration_is_not_signed_loads_with_a_warning(model: Path) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf8"))
    del config["config_sha256"]
    path.write_text(json.dumps(config), encoding="utf8")
    refused(model, "config.json")
    path.write_text(json.dumps(config | {"format": 1}), encoding="utf8")
    with pytest.warns(UserWarning, match="format 1, which does not sign it: save the model anew"):
        assert load_parts(model).name == "tiny"
    (model / "vocabulary.json").write_text("{}")
    refused(model, "vocabulary.json is corrupt")


def test_a_vocabulary_of_another_size_is_refused(model: Path) -> None:
    path = model / "vocabulary.json"
    data = json.loads(path.read_text(encoding="utf8"))
    data["pieces"].pop()
    data["hindi_scores"].pop()
    path.write_text(json.dumps(data), encoding="utf8")
    sign(model)
    refused(model, "vocabulary.json")


def test_a_refiner_s_file_that_the_configuration_denies_is_not_used(model: Path) -> None:
    edit(model, lambda c: c.pop("refiner"))
    assert isinstance(load_parts(model).decoder, DiffusionDecoder)


def test_a_folder_without_a_configuration_is_no_model(model: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_parts(model.parent)
