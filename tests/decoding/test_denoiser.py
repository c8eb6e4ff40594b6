"""The canvas denoiser: shapes, padding, and what each slot can see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffusion_asr.decoding.canvas import Slots, make_slots
from diffusion_asr.decoding.denoiser import CanvasDenoiser, PreparedState, bucket_times, pool_states
from tests.support.tiny import WIDTH, denoiser, memory

SIZE = 40


@pytest.fixture(scope="module")
def model() -> CanvasDenoiser:
    return denoiser(SIZE)


def canvas(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(0, SIZE, (rows, length), generator=torch.Generator().manual_seed(seed))


def denoise(
    model: CanvasDenoiser, ids: Tensor, state: PreparedState, previous: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All logits of a pass, and what the next one is told."""
    hidden = model.hidden(ids, state, previous)
    logits = model.logits(hidden)
    return logits, model.conditioning(hidden, logits)


@torch.inference_mode()
def logits(model: CanvasDenoiser, ids: Tensor, lengths: list[int], languages: list[str]) -> Tensor:
    found, _ = denoise(model, ids, model.prepare(memory(lengths), languages))
    return found


@pytest.mark.parametrize(("frames", "slots"), [(1, 1), (4, 1), (5, 2), (25, 7), (1500, 375)])
@torch.inference_mode()
def test_shapes(model: CanvasDenoiser, frames: int, slots: int) -> None:
    state = model.prepare(memory([frames]), ["de"])
    assert state.slot_mask.tolist() == [[True] * slots]
    found, hidden = denoise(model, canvas(1, slots), state)
    assert found.shape == (1, slots, SIZE)
    assert hidden.shape == (1, slots, WIDTH)
    assert torch.isfinite(found).all()
    again, _ = denoise(model, canvas(1, slots), state, hidden)
    assert again.shape == found.shape
    assert not torch.allclose(again, found)  # self-conditioning is used


@pytest.mark.parametrize("longest", [41, 44, 100, 333])
@torch.inference_mode()
def test_padding_changes_no_logits(model: CanvasDenoiser, longest: int) -> None:
    lengths, languages = [longest, 37, 1, 40], ["en", "hi", "zh", "fr"]
    state = model.prepare(memory(lengths), languages)
    ids = canvas(4, state.slot_mask.shape[1])
    first, hidden = denoise(model, ids, state)
    second, _ = denoise(model, ids, state, hidden)
    for k, (length, language) in enumerate(zip(lengths, languages, strict=True)):
        alone = model.prepare(memory([length]), [language])
        slots = alone.slot_mask.shape[1]
        expected, own = denoise(model, ids[k : k + 1, :slots], alone)
        torch.testing.assert_close(first[k, :slots], expected[0], atol=1e-4, rtol=0)
        expected, _ = denoise(model, ids[k : k + 1, :slots], alone, own)
        torch.testing.assert_close(second[k, :slots], expected[0], atol=1e-4, rtol=0)


def test_what_padding_slots_hold_changes_nothing(model: CanvasDenoiser) -> None:
    ids = canvas(2, 25)
    other = ids.clone()
    other[1, 10:] = canvas(1, 15, seed=1)[0]  # the second clip has 10 slots
    first, second = (logits(model, x, [100, 40], ["en", "es"]) for x in (ids, other))
    torch.testing.assert_close(first[1, :10], second[1, :10], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("changed", "seen"), [(24, 0), (0, 24), (12, 13)])
def test_slots_see_each_other_in_both_directions(model: CanvasDenoiser, changed: int, seen: int) -> None:
    ids = canvas(1, 25)
    other = ids.clone()
    other[0, changed] = (other[0, changed] + 1) % SIZE
    first, second = (logits(model, x, [100], ["en"]) for x in (ids, other))
    assert (first[0, seen] - second[0, seen]).abs().max() > 1e-4


def test_canvas_language_and_sound_matter(model: CanvasDenoiser) -> None:
    base = logits(model, canvas(1, 25), [100], ["en"])
    assert not torch.allclose(base, logits(model, canvas(1, 25, seed=1), [100], ["en"]), atol=1e-3)
    assert not torch.allclose(base, logits(model, canvas(1, 25), [100], ["zh"]), atol=1e-3)
    state = model.prepare(memory([100], seed=9), ["en"])
    assert not torch.allclose(base, denoise(model, canvas(1, 25), state)[0], atol=1e-3)


def test_position_in_time_matters(model: CanvasDenoiser) -> None:
    """The same tokens and slots, told to be a second later, hear something else."""
    with torch.inference_mode():
        heard = memory([200])
        slots = make_slots(heard, 4)
        here = Slots(slots.times[:, :25], slots.mask[:, :25])
        later = Slots(here.times + 100, here.mask)
        first, second = (
            denoise(model, canvas(1, 25), model.prepare(heard, ["en"], x))[0] for x in (here, later)
        )
    assert not torch.allclose(first, second, atol=1e-3)


def test_some_pieces_are_columns_of_all(model: CanvasDenoiser) -> None:
    pieces = torch.tensor([0, 3, 4, 17, SIZE - 1])
    hidden = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(
            model.logits(hidden, pieces), model.logits(hidden)[..., pieces], atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(model.logits(hidden[0]), model.logits(hidden)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [2, 3, 100])
@torch.inference_mode()
def test_likeliest_is_the_top_of_the_logits(
    model: CanvasDenoiser, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("diffusion_asr.decoding.denoiser.BLOCK", block)
    pieces = torch.tensor([0, 3, 4, 17, SIZE - 1])
    hidden = torch.randn(2, 50, WIDTH, generator=torch.Generator().manual_seed(0))
    best, places, total = model.likeliest(hidden, pieces)
    expected = model.logits(hidden, pieces).log_softmax(-1)
    assert torch.equal(places, expected.argmax(-1))
    assert 0 in places
    torch.testing.assert_close(best, expected.amax(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        model.logits(hidden, pieces) - total[..., None], expected, atol=1e-5, rtol=1e-5
    )


def test_null_bias_is_added_to_null_alone(model: CanvasDenoiser) -> None:
    hidden = torch.randn(1, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = hidden @ model.embed_tokens.weight.T
        extra = model.logits(hidden) - plain
    torch.testing.assert_close(extra[..., 0], model.null_bias.expand(1, 3), atol=1e-5, rtol=1e-4)
    assert extra[..., 1:].abs().max() < 1e-5


def test_pooled_means_hold_real_states_only() -> None:
    states = torch.tensor([[1.0, 3.0, 5.0], [2.0, 7.0, 9.0]])[..., None]
    mask = torch.tensor([[True, True, True], [True, False, False]])
    means, used = pool_states(states, mask, 2)
    assert means[..., 0].tolist() == [[2.0, 5.0], [2.0, 0.0]]
    assert used.tolist() == [[True, True], [True, False]]


def test_time_buckets_are_in_order_and_tell_before_from_after() -> None:
    found = bucket_times(torch.arange(-1500, 1501), 32).tolist()
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == 31
    assert found[1499] < found[1500]
    assert bucket_times(torch.tensor([-(10**6), 10**6]), 32).tolist() == [0, 31]


def test_unknown_language_is_refused(model: CanvasDenoiser) -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        model.prepare(memory([8]), ["xx"])
