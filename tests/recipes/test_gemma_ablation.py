"""The ablation's parts, at a few steps: it runs, and its speech can be told apart. No result is tested."""

from __future__ import annotations

import random

import pytest
import torch

pytest.importorskip("transformers.models.diffusion_gemma")

from recipes.diffusion_gemma.ablation import AblationOptions, World, ablate

TINY = AblationOptions(text_steps=3, steps=3, batch=4, d_model=32, layers=2, clips=4)


def test_runs_and_is_repeatable() -> None:
    found = ablate(TINY)
    assert list(found) == ["backbone alone", "without CTC", "with CTC"]
    assert all(set(result) == {"error", "gap", "heard"} for result in found.values())
    assert ablate(TINY) == found


def test_speech_tells_its_text() -> None:
    """Averaged over a letter's frames, the nearest sound is that letter's."""
    world = World(1)
    torch.manual_seed(0)
    memory, texts = world.batch(random.Random(0), TINY)
    for states, mask, row, count in zip(memory.states, memory.mask, texts.canvas, texts.counts, strict=True):
        nearest = torch.cdist(states[mask], world.sounds[6:]).argmin(1) + 6
        runs = torch.unique_consecutive(nearest)
        spoken = torch.unique_consecutive(row[:count])
        assert set(spoken.tolist()) <= set(runs.tolist())
