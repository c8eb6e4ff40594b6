"""A saved model's folder of core's format, written beside the old one and put in its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from diffusion_asr.errors import ModelError
from diffusion_asr.models.folder import load_config
from diffusion_asr.models.tuned import Source, copy_model, write_tuned


def save_recognizer(source: Source, target: Path, denoiser: Mapping[str, Tensor] | None = None) -> None:
    """Write ``source`` as the folder ``target``, in the place of a model that stands there.

    Args:
        source: What the model was loaded from; it may be ``target`` itself.
        target: The folder, whole at any time: the old one until the new one is complete.
        denoiser: Trained weights in the place of the source's; None copies those.

    Raises:
        ModelError: ``target`` is something else than a model, the source is gone, or nothing can be written.
    """
    if target.exists():
        _check_model(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        workshop = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ModelError(f"{target} cannot be made: {error}") from error
    try:
        made = workshop / "made"
        if denoiser is None:
            copy_model(source, made)
        else:
            write_tuned(source, made, denoiser)
        if target.exists():
            target.rename(workshop / "replaced")
        made.rename(target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _check_model(folder: Path) -> None:
    """Raise ``ModelError`` unless it is a model, which may be replaced."""
    try:
        load_config(folder)
    except ModelError as error:
        raise ModelError(
            f"{folder} exists and is not a model that could be replaced ({error}): choose another folder"
        ) from error
