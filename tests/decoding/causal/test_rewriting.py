"""What verifies a draft from left to right and rewrites it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_asr.decoding.causal.model import END, CausalRefiner, RefinerState
from diffusion_asr.decoding.causal.rewriting import RewriterOptions
from tests.support import tiny
from tests.support.tiny import rewriter

ALL = torch.arange(40)
STRICT = RewriterOptions(slack=0.0, ending=0.0, window=6, growth=50.0)


@pytest.fixture(scope="module")
def model() -> CausalRefiner:
    return tiny.refiner()


def heard(model: CausalRefiner, seed: int) -> RefinerState:
    return model.prepare(tiny.memory([30], seed=seed), ["de"])


def greedy(model: CausalRefiner, state: RefinerState, most: int) -> list[int]:
    """One token at a time, everything read anew."""
    out: list[int] = []
    while len(out) < most:
        hidden = model.hidden(torch.tensor([out], dtype=torch.long), state)
        token = int(model.logits(hidden[0, -1], ALL).argmax())
        if token == END:
            break
        out.append(token)
    return out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 39), min_size=1, max_size=20), st.integers(0, 30))
def test_without_slack_any_draft_settles_at_the_greedy_text(draft: list[int], seed: int) -> None:
    model = tiny.refiner()
    state = heard(model, seed)
    found = rewriter(model, ALL, STRICT).settle(state, draft, 1000)
    limit = int(len(draft) * STRICT.growth) + STRICT.spare
    expected = greedy(model, state, min(limit, len(found.tokens) + 1))
    assert found.tokens == expected[: len(found.tokens)]
    assert len(found.tokens) in (len(expected), limit, 440)
    assert len(found.confidence) == len(found.tokens)
    assert found.steps == len(found.history)


def test_one_pass_settles_a_right_draft(model: CausalRefiner) -> None:
    for seed in range(5):
        state = heard(model, seed)
        text = greedy(model, state, 12)
        assert len(text) == 12
        found = rewriter(model, ALL, RewriterOptions(slack=0.0, ending=0.0, window=100)).settle(
            state, text, 2
        )
        assert sum(found.history[1][1]) >= 12
        assert found.tokens[:12] == text


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 39), min_size=1, max_size=20), st.integers(0, 30))
def test_the_draft_can_decide_where_the_text_ends(draft: list[int], seed: int) -> None:
    model = tiny.refiner()
    options = RewriterOptions(slack=0.0, ending=1e4, growth=50.0)
    found = rewriter(model, ALL, options).settle(heard(model, seed), draft, 1000)
    last, settled = found.history[-1]
    assert found.tokens == last  # neither cut off nor continued
    assert settled.count(False) <= options.window


def test_passes_are_bounded_and_settled_tokens_stay(model: CausalRefiner) -> None:
    found = rewriter(model, ALL, STRICT).settle(heard(model, 1), list(range(1, 20)), 4)
    assert found.steps == len(found.history) <= 4
    for (before, sure), (after, surer) in pairwise(found.history):
        assert sum(surer) >= sum(sure)
        assert after[: sum(sure)] == before[: sum(sure)]


def test_only_allowed_pieces_are_written(model: CausalRefiner) -> None:
    pieces = torch.tensor([0, 3, 5, 9, 20])
    found = rewriter(model, pieces, STRICT).settle(heard(model, 2), [1, 2, 39], 100)
    assert set(found.tokens) <= set(pieces.tolist())
