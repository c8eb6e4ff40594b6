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

from diffusion_asr import int8
from diffusion_asr.checkpoint import ROWS, pack_delta, unpack
from diffusion_asr.denoiser import PROMPT, Slots
from diffusion_asr.errors import ModelError
from diffusion_asr.recognizer import Parts
from diffusion_asr.refiner import (
    DELETE,
    END,
    INSERT,
    KEEP,
    REPLACE,
    Anchored,
    EditDenoiser,
    HeardState,
    Refiner,
    RefinerOptions,
    apply_edits,
    between,
)
from diffusion_asr.sampler import collapse
from recipes.embedded.refining import align, corrupt, jittered
from tests import tiny

TOKENS = st.lists(st.integers(1, 9), max_size=12)
ALL = torch.arange(40)
STRICT = RefinerOptions(slack=0.0, ending=0.0, window=6, growth=2.0)


# --- edits -------------------------------------------------------------------------------------------------


def anchored(tokens: list[int], step: int = 3) -> list[Anchored]:
    """Tokens at evenly spaced slots."""
    return [Anchored(token, step * n) for n, token in enumerate(tokens)]


def tokens_of(canvas: list[Anchored]) -> list[int]:
    return [place.token for place in canvas]


def test_each_operation() -> None:
    canvas = [Anchored(5, 10), Anchored(6, 20)]
    assert apply_edits(canvas, [7, 8, END], [KEEP, KEEP], 40) == canvas
    assert apply_edits(canvas, [7, 8, END], [REPLACE, DELETE], 40) == [Anchored(7, 10)]
    made = apply_edits(canvas, [7, 8, 9], [INSERT, KEEP], 40)
    assert made == [Anchored(7, 3), *canvas, Anchored(9, 23)]
    assert apply_edits([], [4], [], 1) == [Anchored(4, 1)]


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS)
def test_the_right_edits_lead_to_the_text(tokens: list[int], text: list[int]) -> None:
    canvas = anchored(tokens)
    for _ in range(len(text) + 2):
        operations, following = align(tokens_of(canvas), text)
        canvas = apply_edits(canvas, following, operations, 60)
        slots = [place.slot for place in canvas]
        assert slots == sorted(slots)
        assert all(0 <= slot <= 60 for slot in slots)
    assert tokens_of(canvas) == text


@given(st.lists(st.integers(0, 30), max_size=3), st.integers(0, 40))
def test_a_new_token_stands_between_its_neighbours(slots: list[int], end: int) -> None:
    before = [Anchored(1, slot) for slot in sorted(slots)]
    found = between(before, end)
    low = before[-1].slot if before else 0
    assert min(low, end) <= found <= max(low, end)


@settings(max_examples=100, deadline=None)
@given(TOKENS, st.integers(0, 999))
def test_corruption_keeps_to_its_rate(tokens: list[int], seed: int) -> None:
    rng, text = random.Random(seed), anchored(tokens)
    assert corrupt(text, 0.0, [1], rng) == text
    assert all(token in (1, *tokens) for token in tokens_of(corrupt(text, 1.0, [1], rng)))
    moved = jittered(text, 2, 30, rng)
    assert tokens_of(moved) == tokens
    assert all(abs(a.slot - b.slot) <= 2 or b.slot > 28 for a, b in zip(moved, text, strict=True))


# --- settling ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> EditDenoiser:
    return tiny.edit_denoiser()


def heard(model: EditDenoiser, seed: int, slots: int = 40) -> HeardState:
    acoustics = torch.randn(1, slots, tiny.WIDTH, generator=torch.Generator().manual_seed(seed))
    places = Slots(4 * torch.arange(slots)[None] + 2, torch.ones(1, slots, dtype=torch.bool))
    return model.prepare(tiny.memory([4 * slots], seed=seed), ["de"], acoustics, places)


def best_after(model: EditDenoiser, canvas: list[Anchored], count: int, state: HeardState) -> int:
    """What should follow the first ``count`` tokens, everything read anew in one plain pass."""
    tokens = torch.tensor([tokens_of(canvas)], dtype=torch.long)
    places = torch.tensor([[place.slot for place in canvas]], dtype=torch.long)
    hidden = model.hidden(tokens, places, state)
    return int(model.logits(hidden[0, count], ALL).argmax())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 39), min_size=1, max_size=12), st.integers(0, 30))
def test_without_slack_a_settled_canvas_is_what_the_model_would_write(tokens: list[int], seed: int) -> None:
    """Every token of a settled canvas is the best after those before it, as a pass with no cache sees it."""
    model = tiny.edit_denoiser()
    state, draft = heard(model, seed, slots=70), anchored(tokens)
    found = Refiner(model, ALL, STRICT).settle(state, draft, 1000)
    limit = int(len(draft) * STRICT.growth) + STRICT.spare
    assert len(found.confidence) == len(found.tokens) == len(found.canvas)
    assert found.steps == len(found.history)
    again = Refiner(model, ALL, STRICT).settle(state, found.canvas, 1000)
    if len(found.tokens) < min(limit, 440):
        assert again.tokens == found.tokens
        assert again.steps <= 1 + len(found.tokens) // STRICT.window
        for n, token in enumerate([*found.tokens, END]):
            assert best_after(model, found.canvas, n, state) == token


def test_one_pass_settles_a_right_draft(model: EditDenoiser) -> None:
    options = RefinerOptions(slack=0.0, ending=0.0, window=100)
    for seed in range(5):
        state = heard(model, seed)
        text = Refiner(model, ALL, options).settle(state, anchored([1, 2, 3]), 1000)
        assert len(text.tokens) >= 5
        again = Refiner(model, ALL, options).settle(state, text.canvas, 2)
        settled = again.history[1][1] if len(again.history) > 1 else len(again.tokens)
        assert settled >= len(text.tokens)
        assert again.tokens[: len(text.tokens)] == text.tokens


def test_anchors_change_what_is_read(model: EditDenoiser) -> None:
    state, tokens = heard(model, 4), torch.tensor([[4, 5, 6]])
    a, b = (model.hidden(tokens, torch.tensor([at]), state)[0] for at in ([3, 6, 9], [3, 6, 20]))
    assert torch.allclose(a[:2], b[:2], atol=1e-5)  # these know nothing of the third token's slot
    assert not torch.allclose(a[2], b[2], atol=1e-3)
    assert not torch.allclose(a[3], b[3], atol=1e-3)


def test_padding_changes_nothing(model: EditDenoiser) -> None:
    alone = heard(model, 5, slots=20)
    memory, acoustics = tiny.memory([80, 120], seed=5), torch.randn(2, 30, tiny.WIDTH)
    memory.states[0, :80] = tiny.memory([80], seed=5).states[0]
    acoustics[0, :20] = alone.acoustics[0]
    places = Slots(4 * torch.arange(30)[None] + 2, torch.arange(30) < torch.tensor([[20], [30]]))
    both = model.prepare(memory, ["de", "en"], acoustics, places)
    one = model.hidden(torch.tensor([[4, 5]]), torch.tensor([[3, 9]]), alone)[0]
    canvas, at = torch.tensor([[4, 5, 0], [7, 8, 9]]), torch.tensor([[3, 9, 19], [1, 2, 3]])
    assert torch.allclose(model.hidden(canvas, at, both)[0, :3], one, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 39), min_size=1, max_size=20), st.integers(0, 30))
def test_the_draft_can_decide_where_the_text_ends(draft: list[int], seed: int) -> None:
    model = tiny.edit_denoiser()
    options = RefinerOptions(slack=0.0, ending=1e4, growth=50.0)
    found = Refiner(model, ALL, options).settle(heard(model, seed), anchored(draft), 1000)
    last, settled = found.history[-1]
    assert found.tokens == last  # neither cut off nor continued
    assert len(last) - settled <= options.window


def test_passes_are_bounded_and_settled_tokens_stay(model: EditDenoiser) -> None:
    found = Refiner(model, ALL, STRICT).settle(heard(model, 1, slots=70), anchored(list(range(1, 20))), 4)
    assert found.steps == len(found.history) <= 4
    for (before, sure), (after, surer) in pairwise(found.history):
        assert surer >= sure
        assert after[:sure] == before[:sure]


def test_only_allowed_pieces_are_written(model: EditDenoiser) -> None:
    pieces = torch.tensor([0, 3, 5, 9, 20])
    found = Refiner(model, pieces, STRICT).settle(heard(model, 2), anchored([1, 2, 39]), 100)
    assert set(found.tokens) <= set(pieces.tolist())


def test_a_step_reads_causally(model: EditDenoiser) -> None:
    state = heard(model, 3)
    a, b = (
        model.hidden(torch.tensor([ids]), torch.tensor([[2, 4, 6]]), state)[0]
        for ids in ([4, 5, 6], [4, 5, 30])
    )
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


def test_the_canvas_spells_what_was_settled(whole: Parts) -> None:
    asr = tiny.eager(whole)
    memory = asr.encode(torch.from_numpy(tiny.noise(3.0, seed=2))[None])
    (found,) = asr.denoise(memory, "fr")
    tokens = [token for token, _, _ in collapse(found.denoised.canvas)]
    assert whole.refiner is not None
    (draft,) = asr.denoise(memory, "fr", steps=1)
    start = [Anchored(token, slot) for token, slot, _ in collapse(draft.denoised.canvas)]
    pieces = torch.arange(len(whole.vocabulary))
    heard = whole.denoiser.prepare(memory, ["fr"])
    state = whole.refiner.prepare(memory, ["fr"], heard.acoustics, heard.slots)
    settled = Refiner(whole.refiner, pieces).settle(state, start, 441).tokens
    fits = len(settled) + sum(a == b for a, b in pairwise(settled)) <= len(found.denoised.canvas)
    assert tokens == (settled if fits else tokens_of(start))


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
