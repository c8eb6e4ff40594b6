"""Scores of a language's pieces: those of the whole vocabulary, and one table for those who share it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from diffusion_asr.decoding.causal.scorer import PieceScorer, Scorers
from tests.support import tiny

PIECES = torch.tensor([0, 3, 5, 9, 20])


def test_scores_are_the_model_s_own() -> None:
    model = tiny.refiner()
    hidden = torch.randn(7, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    found = PieceScorer(model, PIECES).scores(hidden)
    torch.testing.assert_close(found, model.logits(hidden, PIECES), atol=1e-5, rtol=1e-5)


def test_places_are_columns_and_what_is_not_scored_is_the_end() -> None:
    scorer = PieceScorer(tiny.refiner(), PIECES)
    assert scorer.places([9, 0, 3, 20, 4, 39]).tolist() == [3, 0, 1, 4, 0, 0]
    assert scorer.places([]).tolist() == []


def test_the_same_pieces_share_a_table_whoever_asks() -> None:
    scorers = Scorers(tiny.refiner())
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda n: id(scorers.of(PIECES.clone() + n % 2)), range(40)))
    assert len(found) == 2
