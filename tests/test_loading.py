"""Which kind of model a name or a folder means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diffusion_asr.errors import ModelError
from diffusion_asr.loading import CANVAS, is_adapter, load_parts, register_kind
from diffusion_asr.models.folder import save_folder
from tests.support import tiny


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("canvas-base", False),
        ("interfaze/diffusion-gemma-asr", True),
        ("interfaze/diffusion-gemma-asr@v1.0", True),
        ("a/b/c", False),
        ("./model", False),
        ("/models/mine", False),
        ("mine", False),
        ("", False),
    ],
)
def test_names(name: str, expected: bool) -> None:
    assert is_adapter(name) is expected


def test_a_misspelt_folder_is_no_reason_to_go_online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").mkdir()
    assert is_adapter("models/mine") is False
    assert is_adapter("theirs/mine") is True


def test_folders(tmp_path: Path) -> None:
    assert is_adapter(tmp_path) is False
    assert is_adapter(tiny.model(tmp_path / "tiny")) is False
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/projector.safetensors").write_bytes(b"")
    assert is_adapter(tmp_path / "adapter") is True
    (tmp_path / "adapter/config.json").write_text(json.dumps({"lora_alpha": 6}))
    assert is_adapter(tmp_path / "adapter") is True
    (tmp_path / "adapter/config.json").write_text(json.dumps({"format": 99}))
    assert is_adapter(tmp_path / "adapter") is False  # a model of a later release: its loader says so


def test_a_damaged_model_is_not_taken_for_an_adapter(tmp_path: Path) -> None:
    """Its own loader says what is wrong with it."""
    model = tiny.model(tmp_path / "tiny")
    (model / "config.json").write_text("{")
    assert is_adapter(model) is False
    (model / "config.json").unlink()
    assert is_adapter(model) is False


def test_a_kind_is_registered_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"models of kind '{CANVAS}' have a loader already"):
        register_kind(CANVAS, lambda folder, config: tiny.parts(tmp_path))


@pytest.mark.parametrize("kind", ["unheard", 3, None])
def test_an_unknown_kind_is_told_with_its_file(tmp_path: Path, kind: object) -> None:
    save_folder(tmp_path / "model", {"name": "x", "version": "1", "denoiser": {"kind": kind}}, {})
    with pytest.raises(ModelError, match=rf"config\.json: models of kind '{kind}' are unknown here; known: "):
        load_parts(tmp_path / "model")
