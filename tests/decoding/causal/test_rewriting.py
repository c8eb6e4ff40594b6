"""The edit denoiser and what settles a canvas with it."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from diffusion_asr.decoding.canvas import collapse
from diffusion_asr.decoding.causal import int8
from diffusion_asr.decoding.causal.decoder import Settler, astray
from diffusion_asr.decoding.causal.model import (
    DELETE,
    END,
    INSERT,
    KEEP,
    REPLACE,
    EditDenoiser,
    HeardState,
    apply_edits,
)
from diffusion_asr.decoding.causal.rewriting import Refiner, RefinerOptions
from diffusion_asr.decoding.layers import PROMPT
from diffusion_asr.errors import ModelError
from diffusion_asr.models.packing import ROWS, pack_delta, unpack
from diffusion_asr.models.parts import Parts
from recipes.embedded.refining import align, corrupt
from tests.support import tiny

TOKENS = st.lists(st.integers(1, 9), max_size=12)
ALL = torch.arange(40)
STRICT = RefinerOptions(slack=0.0, ending=0.0, window=6, growth=50.0)


# --- edits -------------------------------------------------------------------------------------------------


def test_each_operation() -> None:
    assert apply_edits([5, 6], [7, 8, END], [KEEP, KEEP]) == [5, 6]
    assert apply_edits([5, 6], [7, 8, END], [REPLACE, DELETE]) == [7]
    assert apply_edits([5, 6], [7, 8, 9], [INSERT, KEEP]) == [7, 5, 6, 9]
    assert apply_edits([], [4], []) == [4]


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS)
def test_the_right_edits_lead_to_the_text(canvas: list[int], text: list[int]) -> None:
    for _ in range(len(text) + 2):
        operations, places = align(canvas, text)
        canvas = apply_edits(canvas, [[*text, END][place] for place in places], operations)
    assert canvas == text


@settings(max_examples=100, deadline=None)
@given(TOKENS, st.integers(0, 999))
def test_corruption_keeps_to_its_rate(text: list[int], seed: int) -> None:
    rng = random.Random(seed)
    assert corrupt(text, 0.0, [1], rng) == text
    assert all(token in (1, *text) for token in corrupt(text, 1.0, [1], rng))


# --- settling ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> EditDenoiser:
    return tiny.edit_denoiser()


def heard(model: EditDenoiser, seed: int) -> HeardState:
    return model.prepare(tiny.memory([30], seed=seed), ["de"])


def greedy(model: EditDenoiser, state: HeardState, most: int) -> list[int]:
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
    model = tiny.edit_denoiser()
    state = heard(model, seed)
    found = Refiner(model, ALL, STRICT).settle(state, draft, 1000)
    limit = int(len(draft) * STRICT.growth) + STRICT.spare
    expected = greedy(model, state, min(limit, len(found.tokens) + 1))
    assert found.tokens == expected[: len(found.tokens)]
    assert len(found.tokens) in (len(expected), limit, 440)
    assert len(found.confidence) == len(found.tokens)
    assert found.steps == len(found.history)


def test_one_pass_settles_a_right_draft(model: EditDenoiser) -> None:
    for seed in range(5):
        state = heard(model, seed)
        text = greedy(model, state, 12)
        assert len(text) == 12
        found = Refiner(model, ALL, RefinerOptions(slack=0.0, ending=0.0, window=100)).settle(state, text, 2)
        assert sum(found.history[1][1]) >= 12
        assert found.tokens[:12] == text


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 39), min_size=1, max_size=20), st.integers(0, 30))
def test_the_draft_can_decide_where_the_text_ends(draft: list[int], seed: int) -> None:
    model = tiny.edit_denoiser()
    options = RefinerOptions(slack=0.0, ending=1e4, growth=50.0)
    found = Refiner(model, ALL, options).settle(heard(model, seed), draft, 1000)
    last, settled = found.history[-1]
    assert found.tokens == last  # neither cut off nor continued
    assert settled.count(False) <= options.window


def test_passes_are_bounded_and_settled_tokens_stay(model: EditDenoiser) -> None:
    found = Refiner(model, ALL, STRICT).settle(heard(model, 1), list(range(1, 20)), 4)
    assert found.steps == len(found.history) <= 4
    for (before, sure), (after, surer) in pairwise(found.history):
        assert sum(surer) >= sum(sure)
        assert after[: sum(sure)] == before[: sum(sure)]


def test_only_allowed_pieces_are_written(model: EditDenoiser) -> None:
    pieces = torch.tensor([0, 3, 5, 9, 20])
    found = Refiner(model, pieces, STRICT).settle(heard(model, 2), [1, 2, 39], 100)
    assert set(found.tokens) <= set(pieces.tolist())


def test_a_step_reads_causally(model: EditDenoiser) -> None:
    state = heard(model, 3)
    a, b = (model.hidden(torch.tensor([ids]), state)[0] for ids in ([4, 5, 6], [4, 5, 30]))
    assert torch.allclose(a[:3], b[:3], atol=1e-5)
    assert not torch.allclose(a[3], b[3], atol=1e-3)
    assert state.prompt.shape == (1, PROMPT, tiny.WIDTH)


# --- in the recogniser -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return tiny.parts(tmp_path_factory.mktemp("refined"), refined=True)


@pytest.mark.parametrize("init", ["draft", "noise"])
@pytest.mark.parametrize("steps", [1, 3, None])
def test_hypotheses(whole: Parts, init: str, steps: int | None) -> None:
    asr = tiny.eager(whole)
    memory = asr.encode(torch.from_numpy(tiny.noise(2.0))[None])
    (found,) = asr.denoise(memory, "en", steps, init, trace=True)  # type: ignore[arg-type]
    (plain,) = asr.denoise(memory, "en", steps, init)  # type: ignore[arg-type]
    clip = found.denoised
    assert torch.equal(clip.canvas, plain.denoised.canvas)
    assert found.words == plain.words
    assert clip.steps == len(clip.trace) <= (steps or 441)
    assert torch.equal(clip.trace[-1].predicted, clip.canvas)
    assert clip.canvas.shape == (25,)
    assert bool(((clip.confidence >= 0) & (clip.confidence <= 1)).all())
    for before, after in pairwise(clip.trace):
        assert torch.equal(before.predicted, after.canvas)


def test_the_canvas_spells_what_was_settled(whole: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settler, "_revised", lambda self, refiner, heard, found, *_: found)
    asr = tiny.eager(whole)
    memory = asr.encode(torch.from_numpy(tiny.noise(3.0, seed=2))[None])
    (found,) = asr.denoise(memory, "fr")
    tokens = [token for token, _, _ in collapse(found.denoised.canvas)]
    assert whole.refiner is not None
    (draft,) = asr.denoise(memory, "fr", steps=1)
    start = [token for token, _, _ in collapse(draft.denoised.canvas)]
    pieces = torch.arange(len(whole.vocabulary))
    state = whole.refiner.prepare(memory, ["fr"])
    settled = Refiner(whole.refiner, pieces).settle(state, start, 441).tokens
    fits = len(settled) + sum(a == b for a, b in pairwise(settled)) <= len(found.denoised.canvas)
    assert tokens == (settled if fits else start)


# --- storage -----------------------------------------------------------------------------------------------


def test_differences_come_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(300, 8, generator=generator)
    weight = base + 0.1 * torch.randn(300, 8, generator=generator)
    weight[7] += 5.0
    path = tmp_path / "w.safetensors"
    packed = pack_delta("table", weight, base, exact=4)
    save_file(packed, path)
    found = unpack(path, torch.float32, {"table": base})["table"]
    assert 7 in packed["table" + ROWS].tolist()
    error: Tensor = (found - weight).abs()
    assert float(error.max()) <= 0.55 * float((weight - base)[error.amax(1) > 0].abs().max()) / 7 + 5e-3
    with pytest.raises(ModelError, match="readable"):
        unpack(path, torch.float32)


# --- int8 --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not int8.available(), reason="this torch has no int8 kernels for this CPU")
def test_int8_layers_are_near_the_trained_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    trained = torch.nn.Linear(64, 200)
    x = torch.randn(3, 5, 64, generator=generator)
    wrapped = torch.nn.Sequential(torch.nn.Sequential(trained))
    with torch.no_grad():
        exact = trained(x)
        int8.quantised(wrapped)
        quick = wrapped(x)
    assert not any(isinstance(m, torch.nn.Linear) for m in wrapped.modules())
    assert float((quick - exact).abs().max()) < 0.03 * float(exact.abs().max())
    assert float((quick - exact).abs().max()) > 0


@pytest.mark.parametrize(
    ("tokens", "draft", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], False),
        ([5] * 8, [1, 2, 3], True),
        ([5] * 7, [1, 2, 3], False),
        ([9, *([1, 2, 3] * 8)], [1, 2, 3], True),
        ([*([1, 2, 3] * 7), 1, 2], [1, 2, 3], False),
        ([5] * 8, [5] * 9, False),  # it was said
        ([4], list(range(1, 10)), True),  # most is left out
        ([4, 5, 6], list(range(1, 10)), False),
        ([4], [1, 2, 3, 4], False),  # of a few tokens, most may be wrong
        ([], list(range(1, 10)), False),  # nothing is said: noise
    ],
)
def test_a_refiner_that_went_astray_is_noticed(tokens: list[int], draft: list[int], expected: bool) -> None:
    assert astray(tokens, draft) is expected
