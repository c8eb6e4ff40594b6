"""The causal refiner's network: edits, and what a place has read."""

from __future__ import annotations

import torch

from diffusion_asr.decoding.causal.model import DELETE, END, INSERT, KEEP, REPLACE, apply_edits
from diffusion_asr.decoding.layers import PROMPT
from tests.support import tiny


def test_each_operation() -> None:
    assert apply_edits([5, 6], [7, 8, END], [KEEP, KEEP]) == [5, 6]
    assert apply_edits([5, 6], [7, 8, END], [REPLACE, DELETE]) == [7]
    assert apply_edits([5, 6], [7, 8, 9], [INSERT, KEEP]) == [7, 5, 6, 9]
    assert apply_edits([], [4], []) == [4]


def test_a_step_reads_causally() -> None:
    model = tiny.refiner()
    state = model.prepare(tiny.memory([30], seed=3), ["de"])
    a, b = (model.hidden(torch.tensor([ids]), state)[0] for ids in ([4, 5, 6], [4, 5, 30]))
    assert torch.allclose(a[:3], b[:3], atol=1e-5)
    assert not torch.allclose(a[3], b[3], atol=1e-3)
    assert state.prompt.shape == (1, PROMPT, tiny.WIDTH)
