"""The canvas: slots in time, each with a token or null, and how it collapses to tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory

NULL = 0


class Slots(NamedTuple):
    """Where in time a canvas has its slots."""

    times: Tensor  # (B, L) or (1, L) encoder frame at a slot's centre
    mask: Tensor  # (B, L) True on real slots


def collapse_canvas(canvas: Tensor) -> list[tuple[int, int, int]]:
    """Runs of equal non-null tokens: ``(token, first slot, last slot)``.

    Example:
        >>> collapse_canvas(torch.tensor([7, 7, 0, 7, 3]))
        [(7, 0, 1), (7, 3, 3), (3, 4, 4)]
    """
    runs: list[tuple[int, int, int]] = []
    before = NULL
    for slot, token in enumerate(canvas.tolist()):
        if token and token == before:
            runs[-1] = (token, runs[-1][1], slot)
        elif token:
            runs.append((token, slot, slot))
        before = token
    return runs


def read_tokens(canvas: Tensor) -> list[int]:
    """The collapsed tokens alone."""
    return [token for token, _, _ in collapse_canvas(canvas)]


def make_slots(memory: AcousticMemory, slot_frames: int) -> Slots:
    """A time-anchored canvas: one slot for every ``slot_frames`` encoder frames."""
    count = (memory.states.shape[1] + slot_frames - 1) // slot_frames
    used = (memory.lengths + slot_frames - 1) // slot_frames
    slots = torch.arange(count, device=memory.mask.device)
    return Slots((slots * slot_frames + slot_frames // 2)[None], slots < used[:, None])
