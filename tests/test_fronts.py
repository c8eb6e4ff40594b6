"""Fronts: how a draft is cut in time, and that settling them side by side is settling each alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.causal.decoder import settled_in_fronts
from diffusion_asr.decoding.causal.fronts import MARGIN, Front, SlotTimes, begins_word, cut
from diffusion_asr.decoding.causal.model import EditDenoiser
from diffusion_asr.decoding.causal.rewriting import Refiner, RefinerOptions
from diffusion_asr.models.parts import Parts
from diffusion_asr.text.vocabulary import Vocabulary
from tests import tiny

ALL = torch.arange(40)
STRICT = RefinerOptions(slack=0.0, ending=0.0, window=6, growth=1.5)
TOKENS = st.lists(st.integers(1, 39), min_size=1, max_size=9)
FRAMES = 60


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return tiny.vocabulary(tmp_path_factory.mktemp("vocabulary"))


def drawn_runs(data: st.DataObject, vocabulary: Vocabulary) -> list[tuple[int, int, int]]:
    """A draft: words of one or more tokens, pauses of zero to five slots."""
    runs, slot = [], 0
    for _ in range(data.draw(st.integers(0, 30))):
        slot += data.draw(st.integers(0, 5))
        last = slot + data.draw(st.integers(0, 2))
        runs.append((data.draw(st.sampled_from([259, 261, 70, 71])), slot, last))
        slot = last + 1
    return runs


@settings(max_examples=200, deadline=None)
@given(data=st.data(), most=st.integers(1, 8), language=st.sampled_from(["en", "zh"]))
def test_a_cut_loses_nothing(vocabulary: Vocabulary, data: st.DataObject, most: int, language: str) -> None:
    runs = drawn_runs(data, vocabulary)
    slots = (runs[-1][2] + 1 if runs else 0) + 3
    fronts = cut(runs, vocabulary, language, most, SlotTimes(4), 4 * slots)
    assert [t for f in fronts for t in f.tokens] == [t for t, _, _ in runs]
    assert fronts[0].slots[0] == 0
    assert fronts[-1].slots[1] == slots
    assert all(before.slots[1] == after.slots[0] for before, after in pairwise(fronts))
    at = 0
    for front in fronts:
        part, at = runs[at : at + len(front.tokens)], at + len(front.tokens)
        assert all(front.slots[0] <= first and last < front.slots[1] for _, first, last in part)
    for front in fronts[1:]:
        assert begins_word(vocabulary, front.tokens[0], language)
        assert front.frames[0] == max(0, 4 * front.slots[0] - MARGIN)
    if language == "zh":
        assert all(len(front.tokens) <= max(2, most) for front in fronts)


def test_a_cut_is_made_at_the_longest_pause(vocabulary: Vocabulary) -> None:
    runs = [(259, 0, 0), (259, 2, 2), (259, 9, 9), (259, 11, 11)]
    first, second = cut(runs, vocabulary, "en", 3, SlotTimes(4), 60)
    assert (first.tokens, second.tokens) == ((259, 259), (259, 259))
    assert (first.slots, second.slots) == ((0, 6), (6, 15))
    assert (first.frames, second.frames) == ((0, 24 + MARGIN), (24 - MARGIN, 60))


@settings(max_examples=20, deadline=None)
@given(TOKENS, TOKENS, st.integers(1, 59), st.integers(0, 30))
def test_side_by_side_is_each_alone(first: list[int], second: list[int], at: int, seed: int) -> None:
    model = tiny.edit_denoiser()
    memory = tiny.memory([FRAMES], seed=seed)
    spans = [(0, at), (at, FRAMES)]
    fronts = [Front(tuple(t), s, s) for t, s in zip((first, second), spans, strict=True)]
    refiner = Refiner(model, ALL, STRICT)
    both = refiner.settle_fronts(model.prepare(memory, ["de"]), fronts, 60)
    parts = []
    for front in fronts:
        a, b = front.frames
        alone = AcousticMemory(memory.states[:, a:b], memory.mask[:, a:b], 50.0)
        parts.append(refiner.settle(model.prepare(alone, ["de"]), front.tokens, 60))
    assert both.tokens == [t for p in parts for t in p.tokens]
    assert both.steps == max(p.steps for p in parts)
    expected = torch.tensor([c for p in parts for c in p.confidence])
    assert torch.allclose(torch.tensor(both.confidence), expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(TOKENS, TOKENS, st.integers(0, 30))
def test_without_slack_fronts_change_nothing_but_the_way(
    first: list[int], second: list[int], seed: int
) -> None:
    model = tiny.edit_denoiser()
    state = model.prepare(tiny.memory([FRAMES], seed=seed), ["de"])
    spans = [(0, 20), (20, FRAMES)]
    fronts = [Front(tuple(t), s, s) for t, s in zip((first, second), spans, strict=True)]
    refiner = Refiner(model, ALL, STRICT)
    whole = refiner.settle(state, [*first, *second], 440)
    found = settled_in_fronts(refiner, state, fronts, 440)
    shorter = min(len(found.tokens), len(whole.tokens))  # how far a canvas may grow depends on the draft
    assert found.tokens[:shorter] == whole.tokens[:shorter]
    for most in (1, 2, 3, 7):
        few = settled_in_fronts(refiner, state, fronts, most)
        assert few.steps == len(few.history) <= most
        assert len(few.tokens) == len(few.confidence)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    parts = tiny.parts(tmp_path_factory.mktemp("fronts"), refined=True)
    old = parts.refiner
    assert old is not None
    made = EditDenoiser(replace(old.config, front=3)).eval()
    made.load_state_dict(old.state_dict())
    return replace(parts, refiner=made)


@pytest.mark.parametrize("steps", [1, 2, 5, None])
def test_hypotheses(whole: Parts, steps: int | None) -> None:
    asr = tiny.eager(whole)
    memory = asr.encode(torch.from_numpy(tiny.noise(2.0))[None])
    for init in ("draft", "noise"):
        (found,) = asr.denoise(memory, "zh", steps, init, trace=True)
        (plain,) = asr.denoise(memory, "zh", steps, init)
        assert torch.equal(found.denoised.canvas, plain.denoised.canvas)
        assert found.denoised.steps == len(found.denoised.trace) == plain.denoised.steps
        assert steps is None or found.denoised.steps <= steps
