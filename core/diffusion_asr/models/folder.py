"""Model folders: ``config.json``, which signs every file and itself, and safetensors. Nothing runs code.

A signature is a sha256: it tells damage, and files that do not belong together; it does not say by whom a
model is. What a signed ``config.json`` says is checked all the same (``schema``), before memory is taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shown
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StringConstraints
from safetensors.torch import save_file
from torch import Tensor

from diffusion_asr.errors import REINSTALL, ModelError
from diffusion_asr.json_files import Schema, check, read_json
from diffusion_asr.models.schema import SIGNED, Title

FORMAT = 2
_UNSIGNED = 1  # the format of folders whose config.json is not signed itself
WEIGHTS = ("encoder.safetensors", "denoiser.safetensors", "language.safetensors")
REFINER = "refiner.safetensors"  # optional
LETTERS, NGRAM = "letters.safetensors", "ngram.safetensors"  # optional
FILES = (*WEIGHTS, REFINER, LETTERS, NGRAM, "vocabulary.json", "bpe.json")  # what a model consists of


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
    told = {name: value for name, value in config.items() if name not in SIGNED}
    whole = sign_config({"format": FORMAT, **told, "sha256": signed})
    temporary = folder / "config.tmp"
    temporary.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    temporary.replace(folder / "config.json")


def sign_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same with ``config_sha256``: the digest of everything else in it, however it is laid out."""
    told = {name: value for name, value in config.items() if name != "config_sha256"}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return {**told, "config_sha256": hashlib.sha256(text.encode()).hexdigest()}


Digest = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class _Any(Schema):
    model_config = ConfigDict(extra="allow")


class _About(_Any):
    languages: list[Title] | None = None


class _Config(_Any):
    """What is common to models of every kind; each kind's loader checks the rest."""

    sha256: dict[Annotated[str, Field(max_length=255)], Digest] = Field(max_length=1000)
    config_sha256: Digest | None = None
    name: Title | None = None
    version: Title | None = None
    denoiser: _About | None = None


def load_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and check it and every file that it signs.

    A folder of format 1, whose ``config.json`` is not signed, is read with a warning; saving it again
    signs it.

    Raises:
        ModelError: Missing folder or file, another format version, or a hash that does not match.
    """
    path = folder / "config.json"
    if not is_file(path):
        raise ModelError(f"{folder} is not a diffusion-asr model: it has no config.json. {REINSTALL}")
    config = read_json(path)
    version = config.get("format") if isinstance(config, dict) else None
    if type(version) is not int or version not in (_UNSIGNED, FORMAT):
        raise ModelError(
            f"{path}: format {shown(version)}; this release reads format {FORMAT}. Update diffusion-asr."
        )
    signed = check(_Config, config, path).sha256
    if version == FORMAT and sign_config(config) != config:
        raise ModelError(
            f"{path} is corrupt or was edited: its config_sha256 is not that of what it says. {REINSTALL}"
        )
    if unsigned := [name for name in FILES if name not in signed and (folder / name).exists()]:
        raise ModelError(
            f"{path} does not sign {', '.join(unsigned)}: nothing unsigned is loaded. {REINSTALL}"
        )
    for name, digest in signed.items():
        _check_file(folder, name, digest)
    if version == _UNSIGNED:
        warnings.warn(f"{path} is of format 1, which does not sign it: save the model anew", stacklevel=2)
    return dict(config)


def _check_file(folder: Path, name: str, digest: str) -> None:
    if Path(name).name != name:
        raise ModelError(
            f"{folder / 'config.json'}: lists a file outside its folder ({shown(name)}). "
            "Do not use this model."
        )
    path = folder / name
    if not is_file(path):
        raise ModelError(f"{path} is missing. {REINSTALL}")
    try:
        found = hash_file(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error}). {REINSTALL}") from error
    if found != digest:
        raise ModelError(f"{path} is corrupt: its sha256 is not the one in config.json. {REINSTALL}")


def is_file(path: Path) -> bool:
    """Whether it is a regular file; a name that no file can have is none's."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether it is a folder that can be looked at; see ``is_file``."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


EMBEDDED = Path(__file__).parent


def is_embedded(name: object) -> bool:
    """Whether it is the name of a model that ships with the package."""
    return isinstance(name, str) and Path(name).name == name and is_file(EMBEDDED / name / "config.json")


def find_model(name: str | os.PathLike[str]) -> Path:
    """The folder of an embedded model's name, or the folder itself.

    Raises:
        ModelError: Neither.
    """
    if is_embedded(name):
        return EMBEDDED / name
    folder = Path(name)
    if is_folder(folder):
        return folder
    known = ", ".join(sorted(p.parent.name for p in EMBEDDED.glob("*/config.json"))) or "none"
    raise ModelError(f"no model {shown(str(name))}: not a folder, and the embedded models are: {known}")
