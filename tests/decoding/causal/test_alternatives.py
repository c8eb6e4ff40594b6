"""Second thoughts: branches are read as if alone, and a text never becomes less likely."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_asr.decoding.causal.alternatives import Reviser, RevisionOptions
from diffusion_asr.decoding.causal.branches import Branch
from diffusion_asr.decoding.causal.model import END, CausalRefiner, RefinerState
from diffusion_asr.decoding.causal.rewriting import RewriterOptions
from tests.support import tiny

ALL = torch.arange(40)
TOKENS = st.lists(st.integers(1, 39), min_size=1, max_size=20)
REFINER_ONLY = RevisionOptions(ctc=0.0, longer=0.0, gap=50.0)


def silent(texts: Sequence[Sequence[int]]) -> list[float]:
    return [0.0] * len(texts)


def state_of(model: CausalRefiner, seed: int) -> RefinerState:
    return model.prepare(tiny.memory([30], seed=seed), ["de"])


def reviser(seed: int, options: RevisionOptions = REFINER_ONLY, pieces: torch.Tensor = ALL) -> Reviser:
    model = tiny.refiner()
    # A model at random would never agree with what follows; so much slack lets every branch meet its text.
    rewriter = tiny.rewriter(model, pieces, RewriterOptions(slack=1e3))
    return Reviser(rewriter, state_of(model, seed), silent, str, options)


def likelihood(model: CausalRefiner, state: RefinerState, tokens: list[int]) -> float:
    """Of a text and its end, everything read anew."""
    hidden = model.hidden(torch.tensor([tokens], dtype=torch.long), state)[0]
    chances = model.logits(hidden, ALL).log_softmax(-1)
    return float(chances.gather(1, torch.tensor([*tokens, END])[:, None]).detach().sum())


@settings(max_examples=60, deadline=None)
@given(TOKENS, st.integers(0, 30))
def test_a_text_never_becomes_less_likely(tokens: list[int], seed: int) -> None:
    asked = reviser(seed)
    found = asked.revise(tokens, 440)
    before, after = (likelihood(asked.refiner.model, asked.state, t) for t in (tokens, found.tokens))
    assert after >= before - 1e-3
    assert found.tokens == tokens or after > before
    assert len(found.confidence) == len(found.tokens)
    assert found.steps == len(found.history)


def test_likelier_texts_are_found() -> None:
    tokens = [3, 14, 15, 9, 26, 5]
    assert sum(reviser(seed).revise(tokens, 440).tokens != tokens for seed in range(10)) >= 5


@settings(max_examples=40, deadline=None)
@given(TOKENS, st.integers(0, 30), st.integers(1, 20))
def test_passes_are_bounded(tokens: list[int], seed: int, most: int) -> None:
    assert reviser(seed).revise(tokens, most).steps <= most


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([3, 5, 9, 20]), min_size=1, max_size=12), st.integers(0, 30))
def test_only_allowed_pieces_are_tried(tokens: list[int], seed: int) -> None:
    pieces = torch.tensor([0, 3, 5, 9, 20])
    assert set(reviser(seed, pieces=pieces).revise(tokens, 440).tokens) <= set(pieces.tolist())


@settings(max_examples=40, deadline=None)
@given(st.data(), st.lists(st.integers(1, 39), min_size=2, max_size=15), st.integers(0, 30))
def test_branches_side_by_side_are_read_as_if_alone(
    data: st.DataObject, tokens: list[int], seed: int
) -> None:
    asked = reviser(seed)
    starts = data.draw(st.lists(st.integers(0, len(tokens) - 1), min_size=1, max_size=5))
    text = asked._read(tokens, None, [])
    branches = [Branch.at(tokens, at, 39 - at % 5, 0.0, 4) for at in starts]
    rows, first = asked._side_by_side(text, branches), 0
    for branch in branches:
        alone = [*tokens[: branch.start], *branch.seen]
        hidden = asked.refiner.model.hidden(torch.tensor([alone]), asked.state)[0]
        count = len(branch.seen)
        assert torch.allclose(rows[first : first + count], hidden[-count:], atol=1e-4)
        first += count
    assert first == len(rows)


@settings(max_examples=40, deadline=None)
@given(TOKENS, TOKENS, TOKENS, st.integers(0, 30))
def test_a_changed_text_is_read_as_if_anew(
    same: list[int], one: list[int], other: list[int], seed: int
) -> None:
    asked = reviser(seed)
    grown = asked._read(same + other, asked._read(same + one, None, []), [])
    fresh = asked._read(same + other, None, [])
    assert grown.chances == pytest.approx(fresh.chances, abs=1e-4)
    assert [(d.place, d.token) for d in grown.doubts] == [(d.place, d.token) for d in fresh.doubts]
    for (k, _), (again, _) in zip(grown.pairs, fresh.pairs, strict=True):
        assert torch.allclose(k, again, atol=1e-4)


def test_what_is_heard_has_a_vote() -> None:
    """CTC brings in a token that the refiner alone would not."""
    tokens = [3, 14, 15, 9, 26, 5]
    settled = reviser(1).revise(tokens, 440).tokens  # as the refiner likes it best
    asked = reviser(1, RevisionOptions(ctc=1.0, gap=50.0))
    doubt = next(d for d in asked._read(settled, None, []).doubts if d.token not in settled)
    asked.ctc = lambda texts: [1e4 * (doubt.token in text) for text in texts]
    assert doubt.token in asked.revise(settled, 440).tokens


def test_case_and_marks_are_no_matter_of_words() -> None:
    asked = reviser(2)
    asked.letters = lambda token: "same"
    found = asked.revise([3, 14, 15, 9], 440)
    assert found.tokens == [3, 14, 15, 9]
    assert found.steps == 1
