"""Put encoder, denoiser, language posterior and vocabulary into one signed model folder (int8 storage)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.causal.model import CausalRefiner, RefinerConfig
from diffusion_asr.decoding.denoiser import CanvasDenoiser, DenoiserConfig
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import LETTERS, NGRAM, REFINER, find_model, load_config, save_folder
from diffusion_asr.models.packing import pack_tensors, unpack_file
from diffusion_asr.models.schema import SIGNED
from diffusion_asr.models.stored import EXACT, NIBBLES, ROWS, SCALE
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.compensate import heard_clips, input_moments, narrowed
from recipes.embedded.features import ENCODER
from recipes.embedded.tables import frequent_pieces, output_moments, pack_table
from recipes.embedded.training import continued_denoiser, run_average


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
    state = run_average(work, run)
    CanvasDenoiser(config).load_state_dict(state)  # fails here rather than at the user's
    whisper = load_file(work / "weights/whisper/model.safetensors")
    encoder = {k[8:]: v for k, v in whisper.items() if k.startswith("encoder.")}
    for name in ("vocabulary.json", "bpe.json"):
        shutil.copy(work / "model" / name, out / name)
    save_folder(
        out,
        {
            "name": "canvas-base",
            "version": version,
            "encoder": asdict(ENCODER),
            "denoiser": asdict(config),
            "calibration": asdict(_calibration(work)),
        },
        {
            "encoder": pack_tensors(_without_positions(encoder)),
            "denoiser": pack_tensors(state),
            "language": load_file(work / "model/language.safetensors"),
        },
    )


def _calibration(work: Path, known: Calibration | None = None) -> Calibration:
    """What ``calibrate`` and ``lag`` fitted; what was known before if they have not run."""
    fitted = work / "model/calibration.json"
    return Calibration(**json.loads(fitted.read_text())) if fitted.exists() else known or Calibration()


def _without_positions(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors to be stored; the positions are known (``encoder.compute_sinusoids``)."""
    return {name: value for name, value in encoder.items() if not name.startswith("embed_positions.")}


def _narrow(model: str) -> dict[str, Tensor]:
    """What a model's denoiser stores in four bits, as it is: rounding it again would change it."""
    stored = load_file(find_model(model) / "denoiser.safetensors")
    names = [name.removesuffix(NIBBLES) for name in stored if name.endswith(NIBBLES)]
    parts = (name + part for name in names for part in (NIBBLES, SCALE, ROWS, EXACT))
    return {part: stored[part] for part in parts if part in stored}


def join(
    work: Path,
    out: Path,
    model: str,
    version: str,
    denoiser: str | None = None,
    refiner: str | None = None,
    texts: Path | None = None,
) -> None:
    """Write ``model`` as the folder ``out``, with denoiser or refiner of a run in ``work/runs``.

    A run's layers and its table of pieces are rounded to four bits with compensation on the cached training
    clips, if there are any; ``texts`` is a folder of sentences that tell which pieces are kept in full.
    """
    parts = load_parts(model)
    drafting = continued_denoiser(model)
    if denoiser:
        drafting.load_state_dict(run_average(work, denoiser))  # fails here rather than at the user's
        clips = heard_clips(work, parts.vocabulary, drafting.config.slot_frames)
        kept = frequent_pieces(parts.vocabulary, texts) if texts else torch.tensor([0])
        table = drafting.embed_tokens.weight.detach()
        narrow = narrowed(drafting, input_moments(drafting, clips)) if clips else {}
        narrow |= pack_table(table, output_moments(drafting, clips), kept) if clips else {}
    else:
        narrow = _narrow(model)
    state = run_average(work, refiner) if refiner else unpack_file(find_model(model) / REFINER, torch.float32)
    out.mkdir(parents=True, exist_ok=True)
    for name in ("vocabulary.json", "bpe.json"):
        shutil.copy(find_model(model) / name, out / name)
    own = drafting.state_dict()
    write_pair(model, out, version, own, state, _calibration(work, parts.calibration), narrow)


def write_pair(
    model: str,
    out: Path,
    version: str,
    denoiser: dict[str, Tensor],
    refiner: dict[str, Tensor],
    calibration: Calibration | None = None,
    narrow: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a signed model folder from two states and the rest of ``model``; the vocabulary is there.

    ``narrow`` holds matrices of the denoiser that are in four bits already (``compensate``).
    """
    source = find_model(model)
    config = {k: v for k, v in load_config(source).items() if k not in SIGNED}
    if calibration:
        config["calibration"] = asdict(calibration)
    packed, name, done = pack_tensors(refiner), "embed_tokens.weight", dict(narrow or {})
    sizes = RefinerConfig(vocabulary=len(refiner[name]))
    CausalRefiner(sizes).load_state_dict(refiner)
    # Four bits cost the draft nothing that dev shows, and make room for all of Whisper's Latin pieces.
    rest = {k: v for k, v in denoiser.items() if k + NIBBLES not in done}
    weights = {**pack_tensors(rest, narrow=True), **done}
    save_file(_without_positions(load_file(source / "encoder.safetensors")), out / "encoder.safetensors")
    for extra in (LETTERS, NGRAM) if "letters" in config else ():
        shutil.copy(source / extra, out / extra)
    language = {k: v.to(torch.float16) for k, v in load_file(source / "language.safetensors").items()}
    config["denoiser"] = {**config["denoiser"], "vocabulary": len(denoiser[name])}
    save_folder(
        out,
        config | {"version": version, "refiner": asdict(sizes)},
        {"denoiser": weights, "refiner": packed, "language": language},
    )
