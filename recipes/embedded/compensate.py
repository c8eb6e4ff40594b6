"""Four-bit weights whose rounding errors make up for each other: GPTQ (Frantar et al. 2023).

Rounding a layer's columns one after the other, the error of each is spread over those that are not rounded
yet, in the way that changes the layer's outputs least on real inputs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.models.packing import GROUP, choose_scales, pack_nibbles, round_to_steps
from diffusion_asr.models.stored import NIBBLES, SCALE
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.data import Clip, collate, load, training_shards

CLIPS = 240
DAMPING = 0.01  # of the mean square of an input


def heard_clips(work: Path, vocabulary: Vocabulary, slot_frames: int, count: int = CLIPS) -> list[Clip]:
    """Cached training clips, as many of every language; none where nothing is cached."""
    clips = load(training_shards(work / "cache"), vocabulary, slot_frames)
    random.Random(0).shuffle(clips)
    languages = sorted({clip.lang for clip in clips})
    each = -(-count // max(1, len(languages)))
    return [clip for lang in languages for clip in [c for c in clips if c.lang == lang][:each]]


@torch.inference_mode()
def input_moments(model: CanvasDenoiser, clips: Sequence[Clip]) -> dict[str, Tensor]:
    """For every linear layer, the sum of the outer products of its inputs, (D, D), in a first step."""
    moments: dict[str, Tensor] = {}

    def add(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].float().flatten(0, -2)
        moments[name] = moments.get(name, torch.zeros(x.shape[1], x.shape[1])) + x.T @ x

    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_pre_hook(partial(add, name)) for name, module in layers]
    for clip in clips:
        one = collate([clip])
        state = model.prepare(one.memory, one.languages)
        model.hidden(torch.zeros(state.slot_mask.shape, dtype=torch.long), state)
    for handle in handles:
        handle.remove()
    return moments


def compensated(weight: Tensor, moments: Tensor, size: int = GROUP) -> tuple[Tensor, Tensor]:
    """As ``packing.quantise_groups``, with compensation; ``moments`` is (columns, columns)."""
    left = weight.float().T.contiguous()  # by columns, which are rounded one after the other
    columns, rows = left.shape
    square = moments + torch.eye(columns) * (DAMPING * moments.diagonal().mean()).clamp(min=1e-8)
    spread = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(square)), upper=True)
    whole, scales = torch.zeros_like(left), torch.zeros(rows, columns // size)
    for first in range(0, columns, size):
        end = first + size
        scale = choose_scales(left[first:end].T).to(torch.float16).float()
        scales[:, first // size] = scale
        errors = torch.zeros(size, rows)
        for at in range(first, end):
            whole[at] = round_to_steps(left[at, :, None], scale)[:, 0]
            errors[at - first] = (left[at] - whole[at] * scale) / spread[at, at]
            left[at:end] -= spread[at, at:end, None] * errors[at - first]
        left[end:] -= spread[first:end, end:].T @ errors
    return pack_nibbles(whole.T.contiguous()), scales.to(torch.float16)


def narrowed(model: CanvasDenoiser, moments: dict[str, Tensor]) -> dict[str, Tensor]:
    """All weights of linear layers as a checkpoint stores them in four bits."""
    out: dict[str, Tensor] = {}
    for name, seen in moments.items():
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        key = f"{name}.weight"
        out[key + NIBBLES], out[key + SCALE] = compensated(weight.detach(), seen)
    return out
