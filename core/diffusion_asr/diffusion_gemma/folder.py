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

from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.diffusion_gemma import backbone as backbones
from diffusion_asr.diffusion_gemma.backbone import BackboneConfig
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.projector import AudioProjector, ProjectorConfig
from diffusion_asr.diffusion_gemma.prompt import Prompt
from diffusion_asr.diffusion_gemma.stated import SmallModel
from diffusion_asr.errors import REINSTALL, ModelError
from diffusion_asr.json_files import check
from diffusion_asr.models.folder import find_model, load_config, save_folder
from diffusion_asr.models.packing import pack_tensors, read_shapes, unpack_file
from diffusion_asr.models.parts import Parts
from diffusion_asr.models.schema import SIGNED
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
    stated = {name: value for name, value in config.items() if name not in SIGNED}
    model = check(SmallModel, stated, folder / "config.json")
    base, about = model.base.name, model.denoiser
    if unsigned := {"backbone.safetensors", "projector.safetensors"} - set(config["sha256"]):
        raise ModelError(f"{folder / 'config.json'} does not sign {', '.join(sorted(unsigned))}. {REINSTALL}")
    prompt = Prompt(about.prompt.audio, _ids(about.prompt.before), _ids(about.prompt.after))
    signed = load_config(find_model(base))["sha256"]
    if changed := [file for file, digest in model.base.sha256.items() if signed.get(file) != digest]:
        raise ModelError(
            f"{folder} was made for another {base} ({', '.join(changed)} differ): use its release"
        )
    shared = load_base(base)
    edges = [edge for span in about.pieces for edge in span]
    if edges[:1] != [0] or edges != sorted(set(edges)) or edges[-1] > len(shared.vocabulary):
        raise ModelError(f"{folder / 'config.json'} names pieces that {base} does not have. {REINSTALL}")
    vocabulary = shared.vocabulary.only(unpack_spans(about.pieces))
    backbone = _load_backbone(folder / "backbone.safetensors", BackboneConfig(**about.backbone.model_dump()))
    projector = _load_projector(folder / "projector.safetensors", about.projector.model_dump())
    denoiser = DiffusionGemmaDenoiser(backbone, projector, prompt, "time", len(vocabulary))
    decoder = DiffusionDecoder(denoiser.eval().requires_grad_(False), vocabulary)
    calibration = model.calibration.config()
    return Parts(shared.encoder, decoder, vocabulary, model.name, model.version, calibration, shared.language)


def _load_backbone(path: Path, sizes: BackboneConfig) -> Any:
    """Built when the file is known to hold what is stated."""
    try:
        with torch.device("meta"):
            expected = backbones.pack_state(backbones.build_backbone(sizes))
        backbones.check_state(expected, read_shapes(path))
        backbone = backbones.build_backbone(sizes)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"{path} does not fit its config.json: {error}. {REINSTALL}") from error
    backbones.fill_backbone(backbone, unpack_file(path, torch.float32))
    return backbone


def _load_projector(path: Path, sizes: Mapping[str, Any]) -> AudioProjector:
    convolutions = tuple(tuple(each) for each in sizes["convolutions"])
    config = ProjectorConfig(convolutions, tuple(sizes["linears"]), sizes["normed"])
    with torch.device("meta"):
        projector = AudioProjector(config)
    expected = {name: tuple(value.shape) for name, value in projector.state_dict().items()}
    projector.load_state_dict(unpack_file(path, torch.float32, expected=expected), assign=True)
    return projector


def _ids(stored: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    return {code: tuple(ids) for code, ids in stored.items()}
