"""What keeps the denoiser from learning its hours by heart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.layers import DecoderLayer
from recipes.embedded.regularise import (
    GAP,
    GAP_EVERY,
    Regularisation,
    add_dropout,
    disturbed,
    gaps,
    mean,
    restyled,
)


@pytest.fixture
def memory() -> AcousticMemory:
    torch.manual_seed(0)
    mask = torch.arange(400) < torch.tensor([[400], [250], [90]])
    states = torch.randn(3, 400, 16) * torch.tensor([1.0, 2.0, 4.0])[:, None, None] + 1.0
    return AcousticMemory(states * mask[..., None], mask, 50.0)


def test_nothing_asked_for_changes_nothing(memory: AcousticMemory) -> None:
    assert torch.equal(disturbed(memory, Regularisation()).states, memory.states)


def test_everything_leaves_padding_silent_and_numbers_finite(memory: AcousticMemory) -> None:
    torch.manual_seed(1)
    changed = disturbed(memory, Regularisation(style=1.0, gaps=1.0, channels=0.3))
    assert not torch.equal(changed.states, memory.states)
    assert not bool(changed.states[~memory.mask].any())
    assert bool(torch.isfinite(changed.states).all())


def test_style_moves_mean_and_deviation_between_those_of_two_clips(memory: AcousticMemory) -> None:
    torch.manual_seed(2)
    used = memory.mask[..., None]
    changed = restyled(memory.states, used, 1.0) * used
    before, after = memory.states - mean(memory.states, used), changed - mean(changed, used)
    for row, size in enumerate(memory.lengths.tolist()):
        ratio = after[row, :size] / before[row, :size]
        assert torch.allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-3)  # what changes is not over time
        assert float(ratio.min()) > 0.2  # deviations are 1, 2 and 4
        assert float(ratio.max()) < 5
    assert not torch.allclose(changed, memory.states, atol=0.1)


def test_gaps_are_short_and_only_in_real_frames(memory: AcousticMemory) -> None:
    torch.manual_seed(3)
    missing = gaps(memory.mask, 1.0)
    assert not bool((missing & ~memory.mask).any())
    counts = missing.sum(1).tolist()
    assert all(
        0 < n <= GAP * (-(-size // GAP_EVERY))
        for n, size in zip(counts, memory.lengths.tolist(), strict=True)
    )
    assert not bool(gaps(memory.mask, 0.0).any())


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(4)
    model = nn.ModuleList([DecoderLayer(16, 2)])
    add_dropout(model, 0.5)
    layer = model[0]
    x, keys, values = torch.randn(1, 5, 16), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 8)
    bias = torch.zeros(1, 1, 5, 5)
    model.eval()
    assert torch.equal(layer(x, bias, keys, values, None), layer(x, bias, keys, values, None))
    model.train()
    assert not torch.equal(layer(x, bias, keys, values, None), layer(x, bias, keys, values, None))
