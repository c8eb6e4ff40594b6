"""Put encoder, denoiser, language posterior and vocabulary into one signed model folder (int8 storage)."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from recipes.embedded.training import DenoiserConfig
from safetensors.torch import load_file

from diffusion_asr.checkpoint import pack, save
from diffusion_asr.denoiser import CanvasDenoiser
from diffusion_asr.encoder import EncoderConfig
from diffusion_asr.vocabulary import Vocabulary
from diffusion_asr.words import Calibration


def export(
    work: Path,
    run: str,
    out: Path,
    version: str,
    slot_frames: int = 4,
    calibration: Calibration | None = None,
) -> None:
    """Write the running average of ``work/runs/RUN`` as a model folder.

    The vocabulary's BPE file is reduced to what encoding text needs.
    """
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = Vocabulary.load(work / "model/vocabulary.json")
    config = DenoiserConfig(vocabulary=len(vocabulary), slot_frames=slot_frames)
    state = torch.load(work / "runs" / run / "last.pt", weights_only=True)["average"]
    CanvasDenoiser(config).load_state_dict(state)  # fails here rather than at the user's
    whisper = load_file(work / "weights/whisper/model.safetensors")
    encoder = {k[8:]: v for k, v in whisper.items() if k.startswith("encoder.")}
    for name in ("vocabulary.json", "bpe.json"):
        shutil.copy(work / "model" / name, out / name)
    save(
        out,
        {
            "name": "canvas-base",
            "version": version,
            "encoder": asdict(EncoderConfig()),
            "denoiser": asdict(config),
            "calibration": {"a": (calibration or Calibration()).a, "b": (calibration or Calibration()).b},
        },
        {
            "encoder": pack(encoder),
            "denoiser": pack(state),
            "language": load_file(work / "model/language.safetensors"),
        },
    )
