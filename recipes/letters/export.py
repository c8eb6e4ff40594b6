"""A run's running average as it is kept in the repository: int8 by row, with alphabet, options and log."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from diffusion_asr.models.packing import pack_tensors
from recipes.letters.alphabet import Alphabet
from recipes.letters.model import TrainedLetterCanvas
from recipes.letters.train import WEIGHTS, fill_canvas, load_whisper_encoder


def export(work: Path, run: str, out: Path, hanzi: bool = False) -> None:
    """Write ``work/letters/runs/RUN`` as the folder ``out``, without its second output unless ``hanzi``."""
    source = work / "letters/runs" / run
    mean = torch.load(source / "last.pt", map_location="cpu", weights_only=True)["mean"]
    kept = {name: value for name, value in mean.items() if hanzi or not name.startswith("hanzi.")}
    out.mkdir(parents=True, exist_ok=True)
    save_file(pack_tensors(kept), out / WEIGHTS, metadata={"format": "pt"})
    (out / WEIGHTS).chmod(0o644)
    for name in ("alphabet.json", "options.json", "log.jsonl"):
        shutil.copy(source / name, out / name)


def load_canvas(folder: Path, whisper: Path) -> tuple[TrainedLetterCanvas, Alphabet]:
    """What ``export`` wrote; an output for Hanzi that was left out is untrained.

    Args:
        folder: With weights and alphabet.
        whisper: ``model.safetensors`` of Whisper base, for the shape of its layers.
    """
    alphabet = Alphabet.load(folder / "alphabet.json")
    model = TrainedLetterCanvas(load_whisper_encoder(whisper), len(alphabet.letters), len(alphabet.hanzi))
    fill_canvas(model, folder)
    return model.eval(), alphabet
