"""Put encoder, denoiser, language posterior and vocabulary into one signed model folder (int8 storage)."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file

from diffusion_asr.checkpoint import pack, save
from diffusion_asr.denoiser import CanvasDenoiser, DenoiserConfig
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
    options = json.loads((work / "runs" / run / "options.json").read_text())
    config = DenoiserConfig(vocabulary=len(vocabulary), slot_frames=options["slot_frames"])
    fitted = work / "model/calibration.json"
    calibration = Calibration(**json.loads(fitted.read_text())) if fitted.exists() else Calibration()
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
            "calibration": asdict(calibration),
        },
        {
            "encoder": pack(encoder),
            "denoiser": pack(state),
            "language": load_file(work / "model/language.safetensors"),
        },
    )
