"""Put encoder, denoiser, language posterior and vocabulary into one signed model folder (int8 storage)."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from diffusion_asr.checkpoint import load_config, pack, pack_delta, save
from diffusion_asr.denoiser import CanvasDenoiser, DenoiserConfig
from diffusion_asr.edit_denoiser import EditDenoiser, RefinerConfig
from diffusion_asr.pretrained import load_parts, model_folder
from diffusion_asr.vocabulary import Vocabulary
from diffusion_asr.words import Calibration
from recipes.embedded.build_vocabulary import pruned
from recipes.embedded.features import ENCODER
from recipes.embedded.refining import initial_refiner


def export(
    work: Path,
    run: str,
    out: Path,
    version: str,
) -> None:
    """Write the running average of ``work/runs/RUN`` as a model folder.

    The vocabulary's BPE file is reduced to what encoding text needs.
    """
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = Vocabulary.load(work / "model/vocabulary.json")
    options = json.loads((work / "runs" / run / "options.json").read_text())
    config = DenoiserConfig(vocabulary=len(vocabulary), slot_frames=options["slot_frames"])
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
            "encoder": asdict(ENCODER),
            "denoiser": asdict(config),
            "calibration": asdict(_calibration(work)),
        },
        {
            "encoder": pack(encoder),
            "denoiser": pack(state),
            "language": load_file(work / "model/language.safetensors"),
        },
    )


def _calibration(work: Path, known: Calibration | None = None) -> Calibration:
    """What ``calibrate`` and ``lag`` fitted; what was known before if they have not run."""
    fitted = work / "model/calibration.json"
    return Calibration(**json.loads(fitted.read_text())) if fitted.exists() else known or Calibration()


def _grown(work: Path, state: dict[str, Tensor], vocabulary: Vocabulary) -> dict[str, Tensor]:
    """With Whisper's own embeddings for fused pieces that came after the run."""
    name = "embed_tokens.weight"
    whisper = initial_refiner(work, vocabulary, state[name]).state_dict()[name]
    return state | {name: torch.cat([state[name], whisper[len(state[name]) :]])}


def add_refiner(work: Path, run: str, model: str, out: Path, version: str) -> None:
    """Write ``model`` with the refiner of ``work/runs/RUN`` (its running average) as the folder ``out``.

    The denoiser's embeddings become four-bit differences to the refiner's: both started from Whisper's.
    """
    source, parts = model_folder(model), load_parts(model)
    config = {k: v for k, v in load_config(source).items() if k not in ("format", "sha256")}
    config["calibration"] = asdict(_calibration(work, parts.calibration))
    vocabulary = Vocabulary.load(work / "model/vocabulary.json")
    sizes = RefinerConfig(vocabulary=vocabulary.whole)
    state = _grown(
        work, torch.load(work / "runs" / run / "last.pt", weights_only=True)["average"], vocabulary
    )
    EditDenoiser(sizes).load_state_dict(state)  # fails here rather than at the user's
    refiner = pack(state)
    name = "embed_tokens.weight"
    stored = refiner[name].float() * refiner[name + "::scale"].float()[:, None]
    own = {k: v.float() for k, v in parts.denoiser.state_dict().items()}
    denoiser = {
        **pack({k: v for k, v in own.items() if k != name}),
        **pack_delta(name, own[name], stored[: len(vocabulary)]),
    }
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "encoder.safetensors", out / "encoder.safetensors")
    language = {k: v.to(torch.float16) for k, v in load_file(source / "language.safetensors").items()}
    bpe = pruned(json.loads((source / "bpe.json").read_text(encoding="utf8")), vocabulary.pieces)
    compact = json.dumps(bpe, ensure_ascii=False, separators=(",", ":"))
    (out / "bpe.json").write_text(compact, encoding="utf8")
    vocabulary.save(out / "vocabulary.json")
    save(
        out,
        config | {"version": version, "refiner": asdict(sizes)},
        {"denoiser": denoiser, "refiner": refiner, "language": language},
    )
