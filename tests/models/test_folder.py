"""Model folders: what is written comes back, and what is broken is told with its file."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from diffusion_asr.errors import ModelError
from diffusion_asr.models import folder as checkpoint
from diffusion_asr.models.canvas import load_parts
from diffusion_asr.models.folder import FORMAT, load_config, model_folder, save, sha256
from diffusion_asr.models.packing import GROUP, LARGE, SCALE, pack, quantise, quantise_groups, unpack
from tests.support import tiny

FILES = ("encoder.safetensors", "denoiser.safetensors", "language.safetensors", "vocabulary.json", "bpe.json")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def model(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def edit(model: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf8")


def sign(model: Path) -> None:
    """Make the hashes right again, as one who means ill would."""
    edit(model, lambda c: c["sha256"].update({name: sha256(model / name) for name in FILES}))


# --- quantisation ------------------------------------------------------------------------------------------


def drawn(rows: int, columns: int, scale: float, seed: int) -> Tensor:
    return scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.floats(0.01, 100), st.integers(0, 999))
def test_int8_is_off_by_half_a_step(rows: int, columns: int, scale: float, seed: int) -> None:
    weight = drawn(rows, columns, scale, seed)
    whole, step = quantise(weight)
    assert whole.dtype == torch.int8
    assert step.dtype == torch.float16
    assert step.shape == (rows,)
    wide = step.float()[:, None]
    error = (whole.float() * wide - weight).abs()
    largest = weight.abs().amax(1, keepdim=True)
    # Half a step, and what float16 rounds off the step (subnormal below 6e-5) times 127.
    assert (error <= wide / 2 + largest * 2**-10 + 127 * 6e-8).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.floats(0.01, 100), st.integers(0, 999))
def test_four_bits_are_off_by_a_fourteenth_of_a_groups_largest(
    rows: int, groups: int, scale: float, seed: int
) -> None:
    weight = drawn(rows, groups * GROUP, scale, seed)
    packed, step = quantise_groups(weight)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, groups * GROUP // 2)
    assert step.shape == (rows, groups)
    wide = stored_and_read({"layer.weight": weight.repeat(1, 1 + LARGE // weight.numel())}, narrow=True)
    whole = wide["layer.weight"][:, : weight.shape[1]]
    error = (whole - weight).view(rows, groups, GROUP).square().mean(-1).sqrt()
    # Cut-off scales may only lower the error of the scale that keeps everything: half a step of a seventh.
    assert (error <= weight.view(rows, groups, GROUP).abs().amax(-1) / 14 * 1.01).all()


def test_only_layers_are_stored_in_four_bits() -> None:
    weight = drawn(64, 512, 1.0, 0)
    names = pack(
        {"embed_tokens.weight": weight, "layers.0.fc1.weight": weight, "bias": weight[0]}, narrow=True
    )
    assert set(names) == {
        "embed_tokens.weight", "embed_tokens.weight::scale", "layers.0.fc1.weight::nibbles",
        "layers.0.fc1.weight::scale", "bias",
    }  # fmt: skip


def stored_and_read(tensors: dict[str, Tensor], narrow: bool) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(pack(tensors, narrow), path)
        return unpack(path, torch.float32)


def test_zeros_and_tiny_rows_are_kept() -> None:
    weight = torch.tensor([[0.0, 0.0], [1e-9, 0.0], [3.0, -3.0]])
    whole, step = quantise(weight)
    assert (step > 0).all()
    torch.testing.assert_close(whole.float() * step.float()[:, None], weight, atol=2e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "large": drawn(128, 128, 0.3, 0), "convolution": drawn(64, 768, 0.1, 1).reshape(64, 256, 3),
        "small": drawn(8, 8, 1.0, 2), "bias": drawn(1, 20_000, 1.0, 3)[0], "scalar": torch.tensor(0.5),
    }  # fmt: skip
    packed = pack(tensors)
    assert {name for name, value in packed.items() if value.dtype == torch.int8} == {"large", "convolution"}
    save_file(packed, tmp_path / "x.safetensors")
    again = unpack(tmp_path / "x.safetensors", dtype)
    assert set(again) == set(tensors)
    for name, value in tensors.items():
        assert again[name].dtype == dtype
        assert again[name].shape == value.shape
        step = packed[name + SCALE].max() if name + SCALE in packed else 0.0
        slack = 1e-3 if dtype == torch.float32 else 1e-2
        error = (again[name].float() - value).abs()
        assert (error <= 0.51 * step + slack * value.abs()).all()


def test_a_model_comes_back(original: Path, tmp_path: Path) -> None:
    """Most of the tiny model's matrices are small enough to be stored as float16, some as int8."""
    before, after = tiny.parts(tmp_path), load_parts(original)
    for name in ("encoder", "denoiser", "language"):
        expected = getattr(before, name).state_dict()
        found = getattr(after, name).state_dict()
        assert set(found) == set(expected)
        for key, value in expected.items():
            torch.testing.assert_close(found[key].float(), value, atol=1e-2, rtol=1e-2)
    assert after.vocabulary.pieces == before.vocabulary.pieces
    assert after.denoiser.config == before.denoiser.config
    assert after.encoder.config == before.encoder.config
    assert (after.name, after.version) == ("tiny", "0")
    assert not any(p.requires_grad for p in after.denoiser.parameters())
    assert not after.denoiser.training
    torch.testing.assert_close(after.encoder.log_mel.filters, before.encoder.log_mel.filters)


# --- saving ------------------------------------------------------------------------------------------------


def weights() -> dict[str, dict[str, Tensor]]:
    return {"one": {"a": torch.ones(2)}, "two": {"b": torch.zeros(3)}}


def test_every_file_is_signed(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text("{}")
    save(tmp_path, {"name": "x"}, weights())  # type: ignore[arg-type]
    config = load_config(tmp_path)
    assert config["format"] == FORMAT
    assert config["name"] == "x"
    assert set(config["sha256"]) == {"one.safetensors", "two.safetensors", "vocabulary.json"}
    assert not (tmp_path / "config.tmp").exists()


@pytest.mark.parametrize("fatal", [1, 2])
def test_a_cut_off_save_is_not_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: int) -> None:
    save(tmp_path, {"name": "old"}, weights())  # type: ignore[arg-type]
    calls = 0

    def failing(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise OSError("disk full")
        assert not (tmp_path / "config.json").exists()
        save_file(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with pytest.raises(OSError, match="disk full"):
        save(tmp_path, {"name": "new"}, weights())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_config(tmp_path)


def test_saving_twice_is_saving_once(tmp_path: Path) -> None:
    for _ in range(2):
        save(tmp_path, {"name": "x"}, weights())  # type: ignore[arg-type]
        assert load_config(tmp_path)["name"] == "x"


def test_saving_after_a_cut_off_save(tmp_path: Path) -> None:
    (tmp_path / "config.tmp").write_text("{")
    save(tmp_path, {"name": "x"}, weights())  # type: ignore[arg-type]
    assert load_config(tmp_path)["name"] == "x"


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


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "", "a/b", "./encoder.safetensors"])
def test_files_outside_the_folder_are_refused(model: Path, name: str) -> None:
    (model.parent / "secret").write_text("x")
    edit(model, lambda c: c["sha256"].update({name: sha256(model.parent / "secret")}))
    with pytest.raises(ModelError, match=r"outside its folder|is missing"):
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


def test_a_pickle_is_not_run(model: Path, tmp_path: Path) -> None:
    (model / "encoder.safetensors").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    sign(model)
    refused(model, "encoder.safetensors")
    torch.save({"x": Trap(tmp_path / "sprung")}, model / "encoder.safetensors")
    sign(model)
    refused(model, "encoder.safetensors")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("change", ["lost", "extra", "shape"])
def test_weights_that_do_not_fit_are_refused(model: Path, change: str) -> None:
    tensors = unpack(model / "denoiser.safetensors", torch.float16)
    if change == "lost":
        del tensors["inject.weight"]
    elif change == "extra":
        tensors["inject.more"] = torch.zeros(1, dtype=torch.float16)
    else:
        tensors["inject.weight"] = torch.zeros(3, 3, dtype=torch.float16)
    save_file(tensors, model / "denoiser.safetensors")
    sign(model)
    refused(model, "denoiser.safetensors")


@pytest.mark.parametrize("part", ["encoder", "denoiser", "calibration"])
def test_a_configuration_that_lacks_a_part_is_refused(model: Path, part: str) -> None:
    edit(model, lambda c: c.pop(part))
    refused(model, "config.json")
    edit(model, lambda c: c.update({part: {"unheard of": 1}}))
    refused(model, "config.json")


@pytest.mark.parametrize("part", ["name", "version"])
def test_a_configuration_without_a_name_is_refused(model: Path, part: str) -> None:
    edit(model, lambda c: c.pop(part))
    refused(model, "config.json")


@pytest.mark.parametrize(("part", "size"), [("denoiser", {"d_model": -1}), ("encoder", {"d_model": -1})])
def test_impossible_sizes_are_refused(model: Path, part: str, size: dict[str, int]) -> None:
    edit(model, lambda c: c[part].update(size))
    refused(model, "config.json")


@pytest.mark.parametrize("file", FILES[:4])
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


# --- names -------------------------------------------------------------------------------------------------


def test_folders_and_names(model: Path) -> None:
    assert model_folder(model) == model
    assert model_folder(str(model)) == model
    with pytest.raises(ModelError, match="canvas-gigantic"):
        model_folder("canvas-gigantic")
    with pytest.raises(ModelError, match="no model"):
        model_folder(model / "config.json")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_parts(model.parent)
