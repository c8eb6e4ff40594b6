"""The letters' language model as a file: its three columns in safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from diffusion_asr.decoding.letters.ngram import LetterModel
from diffusion_asr.errors import REINSTALL, ModelError

COLUMNS = ("letters", "children", "weights")
MOST_BYTES = 1 << 28


def save_ngram(path: Path, model: LetterModel) -> None:
    """Write it."""
    save_file({name: getattr(model, name) for name in COLUMNS}, path)
    path.chmod(0o644)


def load_ngram(path: Path, letters: int) -> LetterModel:
    """Read what ``save_ngram`` wrote, for an alphabet of so many ``letters`` with null.

    Raises:
        ModelError: No such file, or none of these columns, or they contradict each other.
    """
    try:
        return LetterModel(letters, **_read_columns(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: no language model of letters ({error}). {REINSTALL}") from error


def _read_columns(path: Path) -> dict[str, NDArray[np.uint8]]:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    found: dict[str, NDArray[np.uint8]] = load_file(path)
    if sorted(found) != sorted(COLUMNS) or any(x.dtype != np.uint8 or x.ndim != 1 for x in found.values()):
        raise ValueError(f"its columns are not {', '.join(COLUMNS)} in bytes")
    return found
