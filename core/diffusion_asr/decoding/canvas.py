"""The canvas: slots in time, and how a canvas collapses to tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One denoising step of one clip: the canvas it saw, what it predicted, how sure it was."""

    step: int
    canvas: Tensor  # (L,) ids that went in
    predicted: Tensor  # (L,) argmax ids that came out
    confidence: Tensor  # (L,) their probabilities
    accepted: Tensor  # (L,) bool, kept for the next step


@dataclass(frozen=True, slots=True)
class Denoised:
    """The settled canvas of one clip.

    Attributes:
        canvas: (L,) token ids, 0 is null.
        confidence: (L,) probability of each slot's token in the last step.
        steps: Denoising steps taken.
        trace: Every step, if it was asked for.
        starts: Seconds at which the canvas's tokens begin; empty where only the slots tell.
    """

    canvas: Tensor
    confidence: Tensor
    steps: int
    trace: tuple[TraceStep, ...] = ()
    starts: tuple[float, ...] = ()


def collapse(canvas: Tensor) -> list[tuple[int, int, int]]:
    """Runs of equal non-null tokens: ``(token, first slot, last slot)``."""
    runs: list[tuple[int, int, int]] = []
    before = 0
    for slot, token in enumerate(canvas.tolist()):
        if token and token == before:
            runs[-1] = (token, runs[-1][1], slot)
        elif token:
            runs.append((token, slot, slot))
        before = token
    return runs


class Slots(NamedTuple):
    """Where in time a canvas has its slots."""

    times: Tensor  # (B, L) or (1, L) encoder frame at a slot's centre
    mask: Tensor  # (B, L) True on real slots


def grid(memory: AcousticMemory, slot_frames: int) -> Slots:
    """A time-anchored canvas: one slot for every ``slot_frames`` encoder frames."""
    count = (memory.states.shape[1] + slot_frames - 1) // slot_frames
    used = (memory.lengths + slot_frames - 1) // slot_frames
    times = torch.arange(count) * slot_frames + slot_frames // 2
    return Slots(times[None], torch.arange(count) < used[:, None])
