"""``diffusion-gemma-tiny``: the reference architecture on canvas-base's memory and pieces.

It has the pieces that canvas-base's draft uses, and starts from canvas-base where shapes agree: token
embeddings and slot acoustics, which become the projector. All layers start from random weights. It is as
wide as canvas-base: half of the embeddings' principal components would lose most of what canvas-base
writes, and its states would be no targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.diffusion_gemma.backbone import BackboneConfig, build_backbone, get_embeddings
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.projector import AudioProjector, ProjectorConfig
from diffusion_asr.diffusion_gemma.prompt import Prompt

SPECIAL = ("bos", "begin of audio", "audio", "end of audio")


def time_prompt(pieces: int, languages: Sequence[str]) -> Prompt:
    """Special tokens follow the pieces: those of ``SPECIAL``, then one a language."""
    bos, begin, audio, end = range(pieces, pieces + len(SPECIAL))
    first = pieces + len(SPECIAL)
    before = {code: (bos, first + n, begin) for n, code in enumerate(languages)}
    return Prompt(audio, before, dict.fromkeys(languages, (end,)))


def sizes(pieces: int, languages: int, **changes: int) -> BackboneConfig:
    """A backbone for that many pieces; its padding is no piece (transformers never trains padding)."""
    special = pieces + len(SPECIAL) + languages
    given = {"pad": special, "bos": pieces, "eos": special, "canvas": 376}
    shape = {"d_model": 512, "layers": 4, "heads": 8, "feed_forward": 1024}
    return BackboneConfig(vocabulary=special + 1, **{**given, **shape, **changes})


def acoustics_projector(states: int, width: int, stride: int, hidden: int | None = None) -> ProjectorConfig:
    """One convolution over twice the slot, as canvas-base gathers a slot's acoustics."""
    hidden = hidden or states
    return ProjectorConfig(((states, hidden, 2 * stride, stride),), (hidden, width))


def drafted(base: CanvasDenoiser) -> Tensor:
    """Sorted ids of the pieces that canvas-base's draft uses: it was not trained on the others, near zero."""
    norms = base.embed_tokens.weight.float().norm(dim=1)
    norms[0] = torch.inf  # null
    return torch.where(norms > norms.median() / 2)[0]


def new_tiny(base: CanvasDenoiser, **changes: int) -> DiffusionGemmaDenoiser:
    """An untrained model that starts from canvas-base's denoiser."""
    config, used = base.config, drafted(base)
    shape = sizes(len(used), len(config.languages), **changes)
    projector = AudioProjector(acoustics_projector(config.d_model, shape.d_model, config.slot_frames))
    prompt = time_prompt(len(used), config.languages)
    model = DiffusionGemmaDenoiser(build_backbone(shape), projector, prompt, "time")
    with torch.no_grad():
        known = base.embed_tokens.weight[used].float()
        axes = principal_axes(known, shape.d_model)
        _start_embeddings(get_embeddings(model.backbone), known, axes)
        _start_projector(projector, base, axes)
    return model


def principal_axes(known: Tensor, width: int) -> Tensor:
    """Axes (D, ``width``) along which embeddings (V, D) differ most; at full width those that they have."""
    if width == known.shape[1]:
        return torch.eye(width)
    centred = known - known.mean(0)
    return torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -width:]  # type: ignore[no-any-return]


def _start_embeddings(table: Tensor, known: Tensor, axes: Tensor) -> None:
    """Fill the pieces' rows with their components along the axes, of length 1 on average."""
    rows = (known - known.mean(0)) @ axes
    table[: len(rows)] = rows / rows.norm(dim=1).mean()
    special = table[len(rows) :]
    special.copy_(torch.randn(special.shape) / table.shape[1] ** 0.5)


def _start_projector(projector: AudioProjector, base: CanvasDenoiser, axes: Tensor) -> None:
    """canvas-base's slot acoustics along the same axes; audio embeddings come out of about unit size."""
    conv, linear, width = projector.convolutions[0], projector.linears[0], base.config.d_model
    assert isinstance(conv, nn.Conv1d)
    assert isinstance(linear, nn.Linear)
    conv.weight.copy_(base.gather.weight.float().view(width, -1, width).transpose(1, 2))
    conv.bias.copy_(base.gather.bias.float())  # type: ignore[union-attr]
    projector.norm.load_state_dict(base.inject_norm.state_dict())
    linear.weight.copy_(axes.T @ base.inject.weight.float())
    linear.bias.copy_(base.inject.bias.float() @ axes)
    normed = torch.randn(512, width) * projector.norm.weight + projector.norm.bias  # type: ignore[operator]
    scale = linear(normed).square().mean().sqrt()
    linear.weight.div_(scale)
    linear.bias.div_(scale)
