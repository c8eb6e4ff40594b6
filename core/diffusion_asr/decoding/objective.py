"""The loss of fine-tuning: uniform-noise diffusion on the canvas, CTC on two unrolled denoising steps.

Step 1 sees noise, or the all-null canvas; step 2 sees the model's own answer with some slots
redrawn, as inference will show it (unrolled denoising: Savinov et al. 2022; self-conditioning on step 1:
Chen et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.process import corrupt_canvas, draw_first_canvases

NULL_SHARE = 0.35  # clips whose first canvas is all null
MOST_NOISE = 0.4  # largest share of slots redrawn for step 2
CONDITIONED = 0.5  # share of clips whose step 2 sees step 1's hidden states


def compute_losses(
    denoiser: CanvasDenoiser, memory: AcousticMemory, languages: Sequence[str], targets: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """CTC losses per token of the first and the second denoising step.

    Args:
        denoiser: In float32, with gradients.
        memory: B clips, without gradients.
        languages: One code for each.
        targets: Token ids of each, (tokens,).
    """
    first, second, slots = unroll_steps(denoiser, memory, languages)
    return compute_ctc(first, slots, targets), compute_ctc(second, slots, targets)


def unroll_steps(
    denoiser: CanvasDenoiser, memory: AcousticMemory, languages: Sequence[str]
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities (B, L, V) of two denoising steps, and the slots (B,) of each clip."""
    size = denoiser.config.vocabulary
    state = denoiser.prepare(memory, languages)
    clips, length = state.slots.mask.shape
    device = state.slots.mask.device
    hidden = denoiser.hidden(draw_first_canvases(clips, length, size, NULL_SHARE, device), state)
    first = denoiser.logits(hidden).float().log_softmax(-1)

    canvas, _ = corrupt_canvas(
        first.detach().argmax(-1), torch.rand(clips, 1, device=device) * MOST_NOISE, size
    )
    previous = hidden.detach() * (torch.rand(clips, 1, 1, device=device) < CONDITIONED)
    second = denoiser.logits(denoiser.hidden(canvas, state, previous)).float().log_softmax(-1)
    return first, second, state.slots.mask.sum(1)


def compute_ctc(log_probs: Tensor, slots: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Mean CTC loss per token; a text that has no room on its canvas counts nothing."""
    counts = torch.tensor([len(t) for t in targets], device=log_probs.device)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1),
        torch.cat(list(targets)).to(log_probs.device),
        slots,
        counts,
        reduction="none",
        zero_infinity=True,
    )
    return losses.sum() / counts.sum().clamp(min=1)
