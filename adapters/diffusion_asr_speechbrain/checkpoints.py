"""From a checkpoint of a SpeechBrain recipe to a model folder."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch
from speechbrain.utils.checkpoints import Checkpointer
from torch import Tensor

from diffusion_asr.errors import ModelError
from diffusion_asr.models.tuned import Source, write_tuned
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_speechbrain.toolkit import RecognitionError

_RECOVERABLE = "whisper.ckpt"  # as recipes/speechbrain/*.yaml name the module for the checkpointer
_PREFIX = "denoiser."


def export(
    saved: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str] = "canvas-base",
    refiner: bool = True,
) -> Path:
    """Write what a recipe trained as a folder for ``Recognizer.from_pretrained``.

    Args:
        saved: The recipe's ``save_folder`` (of its checkpoints the one with the least WER, else the newest),
            one checkpoint in it, or its ``whisper.ckpt``.
        folder: The folder to make.
        checkpoint: What the recipe's ``checkpoint`` was.
        refiner: See ``diffusion_asr.models.tuned.write_tuned``; False leaves the text to the denoiser alone.

    Returns:
        The file that was read.

    Raises:
        RecognitionError: No checkpoint there, one of another model, or ``folder`` exists.
    """
    with translate_errors(RecognitionError):
        path = _found(Path(saved))
        write_tuned(Source.of(checkpoint), Path(folder), _denoiser(path), refiner)
    return path


def _found(saved: Path) -> Path:
    """The file with the module's weights."""
    if saved.is_file():
        return saved
    if (saved / _RECOVERABLE).is_file():
        return saved / _RECOVERABLE
    if not saved.is_dir():
        raise ModelError(f"{saved}: no such file or folder; give the recipe's save_folder")
    checkpoints = Checkpointer(saved)
    best = checkpoints.find_checkpoint(min_key="WER") or checkpoints.find_checkpoint()
    if best is None or not (best.path / _RECOVERABLE).is_file():
        raise ModelError(f"{saved} holds no checkpoint with a {_RECOVERABLE}; give the recipe's save_folder")
    return Path(best.path) / _RECOVERABLE


def _denoiser(path: Path) -> dict[str, Tensor]:
    """Weights by their names in the denoiser; nothing in the file is run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name.removeprefix(_PREFIX): state[name] for name in state if name.startswith(_PREFIX)}
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no checkpoint that can be read safely: {error}") from error
