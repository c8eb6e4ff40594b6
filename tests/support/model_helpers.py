"""A canvas model's folder that a test may break, sign again, and see refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diffusion_asr.errors import ModelError
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import hash_file, sign_config
from tests.support.broken_models import packed_model

WEIGHTS = ("encoder.safetensors", "denoiser.safetensors", "language.safetensors", "refiner.safetensors")
FILES = (*WEIGHTS, "vocabulary.json", "bpe.json")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a refiner, as the shipped model is, and matrices stored in every way."""
    return packed_model(tmp_path_factory.mktemp("model"))


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


def refused(model: Path, file: str) -> None:
    with pytest.raises(ModelError) as error:
        load_parts(model)
    assert file in str(error.value)
