"""Which kind of model a name or a folder means, and what loads it.

The kinds stand in one table. Another package's kind joins it with ``register_kind``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffusion_asr.errors import ModelError
from diffusion_asr.json_files import read_json
from diffusion_asr.models.canvas import load_canvas_model
from diffusion_asr.models.folder import find_model, is_folder, load_config
from diffusion_asr.models.parts import Parts

if TYPE_CHECKING:
    from diffusion_asr.diffusion_gemma.loading import LoadOptions as LoadOptions

Loader = Callable[[Path, Mapping[str, Any]], Parts]
CANVAS = "canvas"  # the kind of folders that state none


def _load_small_gemma(folder: Path, config: Mapping[str, Any]) -> Parts:
    from diffusion_asr.diffusion_gemma.folder import load_small_model

    return load_small_model(folder, config, load_parts)


_LOADERS: dict[str, Loader] = {CANVAS: load_canvas_model, "diffusion-gemma": _load_small_gemma}


def register_kind(kind: str, loader: Loader) -> None:
    """Let ``config.json``'s ``{"denoiser": {"kind": kind}}`` be loaded by ``loader``.

    Args:
        kind: Another one than those that are known.
        loader: From a folder, whose files are verified, and its ``config.json`` to a model's parts.

    Raises:
        ModelError: The kind is taken.
    """
    if kind in _LOADERS:
        raise ModelError(f"models of kind {kind!r} have a loader already: choose another name")
    _LOADERS[kind] = loader


def load_parts(name: str | os.PathLike[str]) -> Parts:
    """Everything that a ``Recognizer`` needs, from an embedded model's name or a signed folder.

    Raises:
        ModelError: See ``models.folder.load_config``; or a kind that nothing here loads.
    """
    folder = find_model(name)
    config = load_config(folder)
    about = config.get("denoiser")
    kind = str(about.get("kind", CANVAS)) if isinstance(about, dict) else CANVAS
    if kind not in _LOADERS:
        known = ", ".join(sorted(_LOADERS))
        raise ModelError(
            f"{folder / 'config.json'}: models of kind {kind!r} are unknown here; known: {known}"
        )
    return _LOADERS[kind](folder, config)


def load_model(name: str | os.PathLike[str], options: LoadOptions | None = None) -> Parts:
    """The same, or a DiffusionGemma adapter of a hub or a folder.

    Raises:
        ModelError: See ``load_parts`` and ``diffusion_gemma.loading.load_adapter``.
        ToolkitMissingError: A DiffusionGemma without transformers.
    """
    if not is_adapter(name):
        return load_parts(name)
    from diffusion_asr.diffusion_gemma.decoder import load_gemma

    return load_gemma(str(name), options)


def is_adapter(name: str | os.PathLike[str]) -> bool:
    """Whether a name means a DiffusionGemma adapter: ``organisation/model``, or foreign weights."""
    folder = Path(name)
    if not is_folder(folder):
        hub = isinstance(name, str) and re.fullmatch(r"\w[\w.-]{0,95}/[\w.-]{1,96}(@[\w./-]{1,200})?", name)
        return bool(hub) and not is_folder(folder.parent)  # a misspelt folder is no reason to go online
    if not any(p.suffix in (".safetensors", ".bin", ".pt", ".pth") for p in folder.iterdir()):
        return False
    if not (folder / "config.json").exists():
        return not (folder / "denoiser.safetensors").exists()
    try:
        stated = read_json(folder / "config.json")
    except ModelError:
        return False  # of a canvas model, damaged: its own loader says how
    return isinstance(stated, dict) and not {"format", "sha256"} & stated.keys()
