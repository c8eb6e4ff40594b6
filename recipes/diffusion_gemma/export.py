"""A tiny run's running average as a signed model folder."""

from __future__ import annotations

from pathlib import Path

import torch

from diffusion_asr.diffusion_gemma.folder import save_model
from diffusion_asr.loading import load_parts
from diffusion_asr.models.tuned import find_denoiser
from recipes.diffusion_gemma.tiny import drafted, new_tiny, sizes


def export(run: Path, out: Path, version: str) -> None:
    """Write ``out``, which ``diffusion-asr transcribe --model OUT`` reads."""
    base = find_denoiser(load_parts("canvas-base"))
    model = new_tiny(base)
    model.load_state_dict(torch.load(run / "last.pt", weights_only=True)["average"])
    used = drafted(base)
    shape = sizes(len(used), len(base.config.languages))
    save_model(out, model, shape, used.tolist(), "diffusion-gemma-tiny", version)
