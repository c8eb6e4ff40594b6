"""Whisper's decoder as a reader: what a place has read."""

from __future__ import annotations

import torch

from diffusion_asr.decoding.layers import PROMPT
from tests.support import tiny


def test_a_step_reads_causally() -> None:
    model = tiny.refiner()
    state = model.prepare(tiny.memory([30], seed=3), ["de"])
    a, b = (model.hidden(torch.tensor([ids]), state)[0] for ids in ([4, 5, 6], [4, 5, 30]))
    assert torch.allclose(a[:3], b[:3], atol=1e-5)
    assert not torch.allclose(a[3], b[3], atol=1e-3)
    assert state.prompt.shape == (1, PROMPT, tiny.WIDTH)
