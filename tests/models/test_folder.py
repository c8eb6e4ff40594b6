"""Model folders: every file is signed, and what is broken is told with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffusion_asr.errors import ModelError
from diffusion_asr.models import folder as folders
from diffusion_asr.models.folder import FORMAT, find_model, hash_file, load_config, save_folder, sign_config


def weights() -> dict[str, dict[str, Tensor]]:
    return {"one": {"a": torch.ones(2)}, "two": {"b": torch.zeros(3)}}


def test_every_file_is_signed(tmp_path: Path) -> None:
    (tmp_path / "vocabulary.json").write_text("{}")
    save_folder(tmp_path, {"name": "x"}, weights())  # type: ignore[arg-type]
    config = load_config(tmp_path)
    assert config["format"] == FORMAT
    assert config["name"] == "x"
    assert set(config["sha256"]) == {"one.safetensors", "two.safetensors", "vocabulary.json"}
    assert not (tmp_path / "config.tmp").exists()


@pytest.mark.parametrize("fatal", [1, 2])
def test_a_cut_off_save_is_not_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: int) -> None:
    save_folder(tmp_path, {"name": "old"}, weights())  # type: ignore[arg-type]
    calls = 0

    def failing(*arguments: Any, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise OSError("disk full")
        assert not (tmp_path / "config.json").exists()
        save_file(*arguments, **options)

    monkeypatch.setattr(folders, "save_file", failing)
    with pytest.raises(OSError, match="disk full"):
        save_folder(tmp_path, {"name": "new"}, weights())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_config(tmp_path)


def test_saving_twice_is_saving_once(tmp_path: Path) -> None:
    for _ in range(2):
        save_folder(tmp_path, {"name": "x"}, weights())  # type: ignore[arg-type]
        assert load_config(tmp_path)["name"] == "x"


def test_saving_after_a_cut_off_save(tmp_path: Path) -> None:
    (tmp_path / "config.tmp").write_text("{")
    save_folder(tmp_path, {"name": "x"}, weights())  # type: ignore[arg-type]
    assert load_config(tmp_path)["name"] == "x"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_folder(tmp_path / "model", {"name": "x"}, weights())  # type: ignore[arg-type]
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", ".", "", "a/b", "./one.safetensors"])
def test_files_outside_the_folder_are_refused(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_text("x")
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config["sha256"][name] = hash_file(folder.parent / "secret")
    (folder / "config.json").write_text(json.dumps(sign_config(config)), encoding="utf8")
    with pytest.raises(ModelError, match=r"outside its folder|is missing"):
        load_config(folder)


def test_folders_and_names(folder: Path) -> None:
    assert find_model(folder) == folder
    assert find_model(str(folder)) == folder
    with pytest.raises(ModelError, match="canvas-gigantic"):
        find_model("canvas-gigantic")
    with pytest.raises(ModelError, match="no model"):
        find_model(folder / "config.json")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_config(folder.parent)
