"""The recipe's losses: sampled softmax, the second canvas, and the learning rate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.canvas import collapse_canvas
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from recipes.embedded.run import rate
from recipes.embedded.training import Pieces, TrainOptions, ctc, losses, second_canvas
from tests.support import recipe_helpers, tiny
from tests.support.recipe_helpers import TEXTS, synthetic
from tests.support.tiny import log_probs

own_generators = recipe_helpers.own_generators


# --- sampled softmax and losses ----------------------------------------------------------------------------


def test_pieces_hold_what_is_needed() -> None:
    wanted = torch.tensor([[5, 7, 0], [39, 5, 5]])
    for _ in range(20):
        pieces = Pieces.draw(wanted, 40, 6)
        ids = pieces.ids.tolist()
        assert ids == sorted(set(ids))
        assert ids[0] == 0
        assert {0, 5, 7, 39} <= set(ids)
        assert len(ids) <= 4 + 6
        assert pieces.correction.shape == pieces.ids.shape
        weights = dict(zip(ids, pieces.correction.tolist(), strict=True))
        assert all(weights[i] == 0 for i in (0, 5, 7, 39))
        assert all(w >= 0 for w in weights.values())
    everything = Pieces.draw(wanted, 40, 40)
    assert everything.ids.tolist() == list(range(40))
    assert not everything.correction.any()


def test_the_sampled_sum_is_unbiased() -> None:
    wanted = torch.tensor([[3, 9, 9, 20]])
    logits = torch.randn(60, generator=torch.Generator().manual_seed(1))
    estimates = []
    for _ in range(3000):
        pieces = Pieces.draw(wanted, 60, 15)
        estimates.append(float((logits[pieces.ids] + pieces.correction).exp().sum()))
    mean, deviation = np.mean(estimates), np.std(estimates) / len(estimates) ** 0.5
    assert deviation < 0.02 * mean
    assert abs(mean - float(logits.exp().sum())) < 4 * deviation


def test_pieces_of_a_batch_that_holds_all() -> None:
    assert Pieces.draw(torch.arange(10)[None], 10, 5).ids.tolist() == list(range(10))


def test_the_loss_over_all_pieces_is_ctc() -> None:
    batch = synthetic(TEXTS)
    logits = torch.randn(4, 10, 30, generator=torch.Generator().manual_seed(0))
    slots = torch.full((4,), 10)
    loss, scores = ctc(logits, batch, slots, Pieces.draw(batch.targets, 30, 30))
    expected = F.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), batch.targets, slots, batch.counts, reduction="sum"
    )
    assert float(loss) == pytest.approx(float(expected) / int(batch.counts.sum()), rel=1e-5)
    torch.testing.assert_close(scores, logits.log_softmax(-1))


def test_the_sampled_loss_is_near_the_full_one() -> None:
    batch = synthetic(TEXTS)
    logits = torch.randn(4, 10, 400, generator=torch.Generator().manual_seed(0))
    slots = torch.full((4,), 10)
    full, _ = ctc(logits, batch, slots, Pieces.draw(batch.targets, 400, 400))
    sampled = []
    for _ in range(60):
        pieces = Pieces.draw(batch.targets, 400, 100)
        sampled.append(float(ctc(logits[..., pieces.ids], batch, slots, pieces)[0]))
    assert np.mean(sampled) == pytest.approx(float(full), rel=0.02)


def test_the_second_canvas_is_the_reference_or_the_models_own() -> None:
    batch = synthetic(TEXTS)
    pieces = Pieces.draw(batch.targets, 60, 20)
    slots = torch.full((4,), 10)
    scores = log_probs(40, len(pieces.ids), 3).view(4, 10, -1)
    targets = torch.searchsorted(pieces.ids, batch.targets)
    clean = pieces.ids[align_canvas(scores, slots, targets, batch.counts)]
    own = pieces.ids[(scores - pieces.correction).argmax(-1)]
    for row, text in zip(clean, TEXTS, strict=True):
        assert [token for token, _, _ in collapse_canvas(row)] == text
    seen_own = seen_clean = 0
    for _ in range(200):
        canvas = second_canvas(scores, slots, batch, pieces, 60)
        assert 0 <= int(canvas.min()) <= int(canvas.max()) < 60
        seen_own += int((canvas == own).all(1).sum())
        seen_clean += int((canvas == clean).all(1).sum())
    assert seen_own > 20
    assert seen_clean > 5


def test_losses_of_a_tiny_denoiser_fall() -> None:
    model = CanvasDenoiser(tiny.denoiser_config(60))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = synthetic(TEXTS)
    assert len(losses(model, batch, False, 30)) == 1
    history = []
    for _ in range(60):
        parts = losses(model, batch, True, 30)
        assert len(parts) == 2
        optimiser.zero_grad()
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        history.append([float(p.detach()) for p in parts])
    first, last = np.mean(history[:5], axis=0), np.mean(history[-5:], axis=0)
    assert (last < 0.5 * first).all(), (first, last)


def test_learning_rate() -> None:
    options = TrainOptions(steps=1000, warmup=100, cooldown=0.2)
    rates = [rate(step, options) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == rates[500] == rates[800] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))
    assert rates[-1] == pytest.approx(0.05, abs=0.01)
