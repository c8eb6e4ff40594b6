"""What the tests of the diffusion process share: its noise, and over how many tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion_asr.decoding.process import SlotNoise

SIZE = 11


def drawn(length: int, size: int, steps: int, seed: int) -> Tensor:
    """(steps + 1, length) all canvases of a decoding."""
    noise = SlotNoise(seed, length, size)
    return torch.cat([noise.canvas(step) for step in range(steps + 1)])
