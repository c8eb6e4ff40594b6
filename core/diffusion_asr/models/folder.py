"""Model folders: ``config.json`` with a sha256 for every file, and safetensors. Nothing in them runs code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from diffusion_asr.errors import REINSTALL, ModelError

FORMAT = 1
WEIGHTS = ("encoder.safetensors", "denoiser.safetensors", "language.safetensors")
REFINER = "refiner.safetensors"  # optional
FILES = (*WEIGHTS, REFINER, "vocabulary.json", "bpe.json")  # what a model consists of


def hash_file(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def save_folder(folder: Path, config: dict[str, Any], weights: dict[str, Mapping[str, Tensor]]) -> None:
    """Write ``NAME.safetensors`` for each entry and ``config.json`` last, so a cut-off save is not a model.

    Other files already in the folder (the vocabulary) are signed as well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in ("config.json", "config.tmp"):
        (folder / stale).unlink(missing_ok=True)
    for name, tensors in weights.items():
        save_file(dict(tensors), folder / f"{name}.safetensors", metadata={"format": "pt"})
    signed = {p.name: hash_file(p) for p in sorted(folder.iterdir()) if p.is_file()}
    whole = {"format": FORMAT, **config, "sha256": signed}
    temporary = folder / "config.tmp"
    temporary.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    temporary.replace(folder / "config.json")


def load_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and check every file that it signs.

    Raises:
        ModelError: Missing folder or file, another format version, or a hash that does not match.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"{folder} is not a diffusion-asr model: it has no config.json. {REINSTALL}")
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf8"))
        version, signed = config["format"], dict(config["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a readable model configuration ({error!r}). {REINSTALL}") from error
    if version != FORMAT:
        raise ModelError(
            f"{path}: format {version}; this release reads format {FORMAT}. Update diffusion-asr."
        )
    if unsigned := [name for name in FILES if name not in signed and (folder / name).exists()]:
        raise ModelError(
            f"{path} does not sign {', '.join(unsigned)}: nothing unsigned is loaded. {REINSTALL}"
        )
    for name, digest in signed.items():
        if Path(name).name != name:
            raise ModelError(f"{path}: lists a file outside its folder ({name!r}). Do not use this model.")
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing. {REINSTALL}")
        if hash_file(folder / name) != digest:
            raise ModelError(
                f"{folder / name} is corrupt: its sha256 is not the one in config.json. {REINSTALL}"
            )
    return config


EMBEDDED = Path(__file__).parent


def find_model(name: str | os.PathLike[str]) -> Path:
    """The folder of an embedded model's name, or the folder itself.

    Raises:
        ModelError: Neither.
    """
    if isinstance(name, str) and (EMBEDDED / name / "config.json").is_file() and Path(name).name == name:
        return EMBEDDED / name
    folder = Path(name)
    if folder.is_dir():
        return folder
    known = ", ".join(sorted(p.parent.name for p in EMBEDDED.glob("*/config.json"))) or "none"
    raise ModelError(f"no model {str(name)!r}: not a folder, and the embedded models are: {known}")
