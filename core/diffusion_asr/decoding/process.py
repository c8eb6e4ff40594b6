"""The diffusion process: noise, and which slots a step accepts."""

from __future__ import annotations

import torch
from torch import Tensor


def accept(entropy: Tensor, bound: float) -> Tensor:
    """Slots to keep, (…, L) bool: lowest entropies first while those before sum to at most ``bound``.

    The most certain slot is always kept, so every step makes progress.
    """
    ordered, order = entropy.sort(dim=-1, stable=True)
    before = torch.cat([torch.zeros_like(ordered[..., :1]), ordered.cumsum(-1)[..., :-1]], dim=-1)
    keep = (before <= bound) & ordered.isfinite()
    return torch.zeros_like(keep).scatter(-1, order, keep)


def uniform_noise(length: int, size: int, steps: int, generator: torch.Generator) -> Tensor:
    """Uniform ids for every step and slot, (steps + 1, L).

    Each step has its own stream, so fewer slots or fewer steps see a prefix of the same noise.
    """
    seeds = torch.randint(2**62, (steps + 1,), generator=generator).tolist()
    streams = (torch.Generator().manual_seed(seed) for seed in seeds)
    return torch.stack([torch.randint(size, (length,), generator=stream) for stream in streams])
