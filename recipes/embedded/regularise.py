"""Against learning few hours by heart: other voices' style, gaps in what is heard, dropout.

All of it changes cached encoder states, so that no clip has to be encoded again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.layers import DecoderLayer

GAP = 20  # encoder frames (0.4 s): the longest gap
GAP_EVERY = 150  # frames: one gap for so many


@dataclass
class Regularisation:
    """How much; all zero is none.

    Attributes:
        style: Share of the clips that get another clip's style.
        gaps: Share of the clips with gaps in time (SpecAugment: Park et al. 2019).
        channels: Share of each clip's channels that are silenced, in half of the clips.
        dropout: Of what attention and feed-forward parts add, in every layer.
    """

    style: float = 0.0
    gaps: float = 0.0
    channels: float = 0.0
    dropout: float = 0.0


def disturbed(memory: AcousticMemory, options: Regularisation) -> AcousticMemory:
    """The same words in another voice, partly unheard."""
    states, used = memory.states, memory.mask[..., None]
    if options.style and len(states) > 1:
        states = restyled(states, used, options.style)
    if options.channels:
        kept = (torch.rand(len(states), 1, states.shape[2]) >= options.channels).to(states.dtype)
        half = torch.rand(len(states), 1, 1) < 0.5
        states = torch.where(half, states * kept / (1 - options.channels), states)
    if options.gaps:
        states = torch.where(gaps(memory.mask, options.gaps)[..., None], mean(states, used), states)
    return replace(memory, states=states * used)


def mean(states: Tensor, used: Tensor) -> Tensor:
    """(B, T, D) to (B, 1, D), over real frames."""
    return (states * used).sum(1, keepdim=True) / used.sum(1, keepdim=True)


def restyled(states: Tensor, used: Tensor, share: float) -> Tensor:
    """MixStyle (Zhou et al. 2021): a clip's mean and deviation over time, mixed with another clip's.

    They hold much of who speaks where, and little of what is said.
    """
    centre = mean(states, used)
    spread = (mean((states - centre) ** 2, used) + 1e-6).sqrt()
    other = torch.randperm(len(states))
    own = torch.distributions.Beta(0.3, 0.3).sample((len(states), 1, 1))
    own = torch.where(torch.rand(len(states), 1, 1) < share, own, 1.0)
    new_centre = own * centre + (1 - own) * centre[other]
    new_spread = own * spread + (1 - own) * spread[other]
    return (states - centre) / spread * new_spread + new_centre


def gaps(mask: Tensor, share: float) -> Tensor:
    """(B, T) True in random gaps of up to ``GAP`` frames, one for every ``GAP_EVERY``, in some clips."""
    out = torch.zeros_like(mask)
    for row, frames in enumerate(mask.sum(1).tolist()):
        if torch.rand(()) < share:
            for _ in range(-(-frames // GAP_EVERY)):
                start = int(torch.randint(frames, ()))
                out[row, start : start + int(torch.randint(1, GAP + 1, ()))] = True
    return out & mask


def add_dropout(model: nn.Module, rate: float) -> None:
    """Drop what the parts of each decoder layer add, while ``model`` trains; a rate of 0 changes nothing."""
    if not rate:
        return

    def drop(module: nn.Module, _: object, out: Tensor) -> Tensor:
        return F.dropout(out, rate, module.training)

    for layer in (m for m in model.modules() if isinstance(m, DecoderLayer)):
        for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
            part.register_forward_hook(drop)
