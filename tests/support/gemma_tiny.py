"""A DiffusionGemma denoiser with random weights; like ``tests.support.tiny``, it recognises nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers.models.diffusion_gemma")

from diffusion_asr.diffusion_gemma.backbone import BackboneConfig, build_backbone
from diffusion_asr.diffusion_gemma.denoiser import Canvas, DiffusionGemmaDenoiser, GemmaState
from diffusion_asr.diffusion_gemma.projector import AudioProjector, ProjectorConfig, make_published
from diffusion_asr.diffusion_gemma.prompt import ANY, Prompt
from tests.support.tiny import WIDTH

BOS, BEGIN, AUDIO, END = 2, 4, 5, 6
SIZES = BackboneConfig(
    vocabulary=64, d_model=32, layers=3, heads=2, key_heads=1, head_size=16, feed_forward=48, canvas=24
)
PROMPT = Prompt(AUDIO, {ANY: (BOS, 10, BEGIN), "de": (BOS, 11, 12, BEGIN)}, {ANY: (END, 13)})


def denoise(
    model: DiffusionGemmaDenoiser,
    canvas: Tensor,
    state: GemmaState,
    previous: Tensor | None = None,
    pieces: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Logits of a pass, and what the next one is told."""
    hidden = model.hidden(canvas, state, previous)
    logits = model.logits(hidden, pieces)
    return logits, model.conditioning(hidden, logits, pieces)


def denoiser(
    canvas: Canvas = "token",
    sizes: BackboneConfig = SIZES,
    prompt: Prompt = PROMPT,
    seed: int = 0,
    scale: float = 0.3,
) -> DiffusionGemmaDenoiser:
    """Weights are larger than at the start of training: predictions depend on everything."""
    kinds: dict[Canvas, ProjectorConfig] = {
        "token": make_published(WIDTH, 24, sizes.d_model),
        "time": ProjectorConfig(((WIDTH, 24, 8, 4),), (24, sizes.d_model)),
    }
    generator = torch.Generator().manual_seed(seed)
    model = DiffusionGemmaDenoiser(build_backbone(sizes), AudioProjector(kinds[canvas]), prompt, canvas)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return model.eval().requires_grad_(False)
