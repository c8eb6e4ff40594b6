"""A canvas model's folder: what is written comes back, and what is broken is told with its file."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from diffusion_asr import Recognizer
from diffusion_asr.acoustics.encoder import WhisperEncoder
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.errors import ModelError
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import FORMAT, hash_file, load_config, sign_config
from diffusion_asr.models.packing import unpack_file
from diffusion_asr.models.parts import Parts
from tests.support import tiny
from tests.support.tiny import canvas_denoiser

WEIGHTS = ("encoder.safetensors", "denoiser.safetensors", "language.safetensors", "refiner.safetensors")
FILES = (*WEIGHTS, "vocabulary.json", "bpe.json")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a refiner, as the shipped model is."""
    return tiny.model(tmp_path_factory.mktemp("model"), refined=True)


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def edit(model: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf8"))
    change(config)
    path.write_text(json.dumps(sign_config(config)), encoding="utf8")


def sign(model: Path) -> None:
    """Make the hashes right again, as one who means ill would."""
    edit(model, lambda c: c["sha256"].update({name: hash_file(model / name) for name in FILES}))


def networks(parts: Parts) -> dict[str, torch.nn.Module]:
    assert isinstance(parts.encoder, WhisperEncoder)
    assert parts.language is not None
    found: dict[str, torch.nn.Module] = {
        "encoder": parts.encoder, "denoiser": canvas_denoiser(parts), "language": parts.language,
    }  # fmt: skip
    return found


def test_a_model_comes_back(original: Path, tmp_path: Path) -> None:
    """Most of the tiny model's matrices are small enough to be stored as float16, some as int8."""
    before, after = tiny.parts(tmp_path, refined=True), load_parts(original)
    for name, module in networks(before).items():
        expected, found = module.state_dict(), networks(after)[name].state_dict()
        assert set(found) == set(expected)
        for key, value in expected.items():
            torch.testing.assert_close(found[key].float(), value, atol=1e-2, rtol=1e-2)
    assert after.vocabulary.pieces == before.vocabulary.pieces
    assert canvas_denoiser(after).config == canvas_denoiser(before).config
    assert isinstance(after.encoder, WhisperEncoder)
    assert isinstance(before.encoder, WhisperEncoder)
    assert after.encoder.config == before.encoder.config
    assert (after.name, after.version) == ("tiny", "0")
    assert not any(p.requires_grad for module in after.modules for p in module.parameters())
    assert not any(module.training for module in after.modules)
    torch.testing.assert_close(after.encoder.log_mel.filters, before.encoder.log_mel.filters)


def test_the_refiner_comes_back_and_decides_on_the_decoder(original: Path, tmp_path: Path) -> None:
    before, after = tiny.parts(tmp_path, refined=True).decoder, load_parts(original).decoder
    assert isinstance(before, CanvasDecoder)
    assert isinstance(after, CanvasDecoder)
    assert after.refiner.config == before.refiner.config
    expected, found = before.refiner.state_dict(), after.refiner.state_dict()
    shared = found.keys() & expected.keys()  # int8 layers keep theirs in the kernels' own layout
    assert {"embed_tokens.weight", "layer_norm.weight"} <= shared
    for key in shared:
        if isinstance(found[key], torch.Tensor):
            torch.testing.assert_close(found[key].float(), expected[key], atol=1e-2, rtol=1e-2)
    plain = load_parts(tiny.model(tmp_path / "plain"))
    assert isinstance(plain.decoder, DiffusionDecoder)


def test_a_refiner_that_does_without_fronts_loads(model: Path) -> None:
    """Models before version 4 state so; what would need fronts is refused."""
    edit(model, lambda c: c["refiner"].update(front=0))
    asr = Recognizer.from_pretrained(model)
    assert isinstance(asr.parts.decoder, CanvasDecoder)
    (found,) = asr.decode(asr.encode(torch.from_numpy(tiny.noise(1.0))[None]), "en")
    assert found.decoded.causal_passes > 0
    edit(model, lambda c: c["refiner"].update(front=6))
    refused(model, "config.json")


# --- broken folders ----------------------------------------------------------------------------------------


def refused(model: Path, file: str) -> None:
    with pytest.raises(ModelError) as error:
        load_parts(model)
    assert file in str(error.value)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("where", [0.0, 0.001, 0.3, 0.7, 1.0])
def test_one_wrong_byte_is_noticed(model: Path, file: str, where: float) -> None:
    data = bytearray((model / file).read_bytes())
    data[int(where * (len(data) - 1))] ^= 1
    (model / file).write_bytes(data)
    refused(model, file)


@pytest.mark.parametrize("file", [*FILES, "config.json"])
def test_a_missing_file_is_noticed(model: Path, file: str) -> None:
    (model / file).unlink()
    refused(model, file)


@pytest.mark.parametrize("file", [*FILES, "config.json"])
@pytest.mark.parametrize("size", [0, 7, 100])
def test_a_truncated_file_is_noticed(model: Path, file: str, size: int) -> None:
    (model / file).write_bytes((model / file).read_bytes()[:size])
    refused(model, file)


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


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", WEIGHTS)
def test_a_pickle_is_not_run(model: Path, tmp_path: Path, file: str) -> None:
    (model / file).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    sign(model)
    refused(model, file)
    torch.save({"x": Trap(tmp_path / "sprung")}, model / file)
    sign(model)
    refused(model, file)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("file", "weight"),
    [("denoiser", "inject.weight"), ("refiner", "operation.weight"), ("encoder", "conv1.weight")],
)
@pytest.mark.parametrize("change", ["lost", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(model: Path, file: str, weight: str, change: str) -> None:
    path = model / f"{file}.safetensors"
    tensors = unpack_file(path, torch.float16)
    if change == "lost":
        del tensors[weight]
    elif change == "extra":
        tensors[weight + "more"] = torch.zeros(1, dtype=torch.float16)
    else:
        tensors[weight] = torch.zeros(3, 3, dtype=torch.float16)
    save_file(tensors, path)
    sign(model)
    refused(model, path.name)


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


@pytest.mark.parametrize("file", [*WEIGHTS, "vocabulary.json"])
def test_an_unsigned_file_is_refused(model: Path, file: str) -> None:
    edit(model, lambda c: c["sha256"].pop(file))
    refused(model, file)


def test_a_vocabulary_of_another_size_is_refused(model: Path) -> None:
    path = model / "vocabulary.json"
    data = json.loads(path.read_text(encoding="utf8"))
    data["pieces"].pop()
    data["hindi_scores"].pop()
    path.write_text(json.dumps(data), encoding="utf8")
    sign(model)
    refused(model, "vocabulary.json")


def test_a_refiner_of_another_vocabulary_is_refused(model: Path) -> None:
    """Its own weights fit its sizes, but they are not the vocabulary's."""
    edit(model, lambda c: c["refiner"].update(vocabulary=c["refiner"]["vocabulary"] - 1))
    tensors = unpack_file(model / "refiner.safetensors", torch.float16)
    tensors["embed_tokens.weight"] = tensors["embed_tokens.weight"][:-1].clone()
    save_file(tensors, model / "refiner.safetensors")
    sign(model)
    refused(model, "vocabulary.json")


def test_a_refiner_s_file_that_the_configuration_denies_is_not_used(model: Path) -> None:
    edit(model, lambda c: c.pop("refiner"))
    assert isinstance(load_parts(model).decoder, DiffusionDecoder)


def test_a_folder_without_a_configuration_is_no_model(model: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_parts(model.parent)
