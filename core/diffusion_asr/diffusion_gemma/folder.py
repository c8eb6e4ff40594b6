"""A small DiffusionGemma with a time canvas as a signed model folder, beside canvas-base.

It hears by canvas-base's encoder, which is not stored again: the folder names it and signs it, so another
version of canvas-base is noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.diffusion_gemma import backbone as backbones
from diffusion_asr.diffusion_gemma.backbone import BackboneConfig
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.projector import AudioProjector, ProjectorConfig
from diffusion_asr.diffusion_gemma.prompt import Prompt
from diffusion_asr.errors import REINSTALL, ModelError
from diffusion_asr.models.folder import find_model, load_config, save_folder
from diffusion_asr.models.packing import pack_tensors, unpack_file
from diffusion_asr.models.parts import Parts
from diffusion_asr.text.vocabulary import pack_spans, unpack_spans

KIND = "diffusion-gemma"
_SHARED = ("encoder.safetensors", "language.safetensors", "vocabulary.json", "bpe.json")


def save_model(
    folder: Path,
    model: DiffusionGemmaDenoiser,
    sizes: BackboneConfig,
    pieces: Sequence[int],
    name: str,
    version: str,
    base: str = "canvas-base",
    calibration: Mapping[str, float] | None = None,
) -> None:
    """Write a signed folder: int8 by row with float16 scales, as canvas-base is stored.

    Token i of the model is the piece ``pieces[i]`` of ``base``.
    """
    signed = load_config(find_model(base))["sha256"]
    config = {
        "name": name,
        "version": version,
        "base": {"name": base, "sha256": {file: signed[file] for file in _SHARED}},
        "denoiser": {
            "kind": KIND,
            "languages": list(model.prompt.before),
            "pieces": pack_spans(pieces),
            "slot_frames": model.projector.config.subsampling,
            "backbone": asdict(sizes),
            "projector": asdict(model.projector.config),
            "prompt": asdict(model.prompt),
        },
        "calibration": dict(calibration or {"a": 1.0, "b": 0.0}),
    }
    weights = {
        "backbone": pack_tensors(_detached(backbones.pack_state(model.backbone))),
        "projector": pack_tensors(_detached(model.projector.state_dict())),
    }
    save_folder(folder, config, cast("dict[str, Mapping[str, Tensor]]", weights))


def _detached(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().float().cpu() for name, value in tensors.items()}


def load_small_model(folder: Path, config: Mapping[str, Any], load_base: Callable[[str], Parts]) -> Parts:
    """What ``save_model`` wrote.

    Args:
        folder: Its files.
        config: Its ``config.json``, by which the files were verified.
        load_base: Loads canvas-base by name, with which it shares an encoder and a vocabulary.

    Raises:
        ModelError: A part that is missing or does not fit, or another canvas-base than it was made for.
    """
    try:
        base, about = str(config["base"]["name"]), config["denoiser"]
        expected: Mapping[str, str] = config["base"]["sha256"]
        sizes = BackboneConfig(**about["backbone"])
        shape = about["projector"]
        projector = AudioProjector(
            ProjectorConfig(
                tuple(tuple(each) for each in shape["convolutions"]), tuple(shape["linears"]), shape["normed"]
            )
        )
        prompt = Prompt(
            about["prompt"]["audio"], _ids(about["prompt"]["before"]), _ids(about["prompt"]["after"])
        )
        pieces = unpack_spans(about["pieces"])
        calibration = Calibration(**config["calibration"])
        title, version = str(config["name"]), str(config["version"])
        unsigned = {"backbone.safetensors", "projector.safetensors"} - set(config["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / 'config.json'} lacks or misstates a part: {error!r}. {REINSTALL}"
        ) from error
    if unsigned:
        raise ModelError(f"{folder / 'config.json'} does not sign {', '.join(sorted(unsigned))}. {REINSTALL}")
    signed = load_config(find_model(base))["sha256"]
    if changed := [file for file, digest in expected.items() if signed.get(file) != digest]:
        raise ModelError(
            f"{folder} was made for another {base} ({', '.join(changed)} differ): use its release"
        )
    shared = load_base(base)
    try:
        vocabulary = shared.vocabulary.only(pieces)
    except IndexError as error:
        raise ModelError(
            f"{folder / 'config.json'} names pieces that {base} does not have. {REINSTALL}"
        ) from error
    backbone = backbones.build_backbone(sizes)
    backbones.fill_backbone(backbone, unpack_file(folder / "backbone.safetensors", torch.float32))
    try:
        projector.load_state_dict(unpack_file(folder / "projector.safetensors", torch.float32))
    except RuntimeError as error:
        raise ModelError(f"{folder / 'projector.safetensors'} does not fit: {error}. {REINSTALL}") from error
    model = DiffusionGemmaDenoiser(backbone, projector, prompt, "time", len(vocabulary))
    decoder = DiffusionDecoder(model.eval().requires_grad_(False), vocabulary)
    return Parts(shared.encoder, decoder, vocabulary, title, version, calibration, shared.language)


def _ids(stored: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {code: tuple(ids) for code, ids in stored.items()}
