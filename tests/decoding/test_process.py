"""The steps of the diffusion process: which slots are accepted, what noise is drawn, and when to stop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.decoding.process import (
    SlotNoise,
    StableAndSure,
    TextRepeats,
    accept_slots,
    compute_entropy,
    corrupt_canvas,
    draw_first_canvases,
    read_given_canvas,
)
from tests.support.process_helpers import SIZE, drawn

# Multiples of 1/64, so that sums are exact.
entropies = st.lists(st.integers(0, 512), min_size=1, max_size=40).map(lambda x: torch.tensor(x) / 64)
distinct_entropies = st.lists(st.integers(0, 512), min_size=1, max_size=40, unique=True).map(
    lambda x: torch.tensor(x) / 64
)
bounds = st.integers(0, 4000).map(lambda x: x / 64)


# --- acceptance --------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(entropies, bounds)
def test_accept_respects_the_bound(entropy: Tensor, bound: float) -> None:
    kept = accept_slots(entropy, bound)
    assert kept.dtype == torch.bool
    assert kept.shape == entropy.shape
    assert kept.any()
    if (~kept).any():
        assert entropy[kept].max() <= entropy[~kept].min()
    assert entropy[kept].sort().values[:-1].sum() <= bound  # all before the last one


@settings(max_examples=200, deadline=None)
@given(entropies, bounds)
def test_accept_leaves_out_no_slot_that_fits(entropy: Tensor, bound: float) -> None:
    kept = accept_slots(entropy, bound)
    assume(not bool(kept.all()))
    assert entropy[kept].sum() > bound


@settings(max_examples=200, deadline=None)
@given(entropies, bounds, bounds)
def test_a_larger_bound_accepts_no_less(entropy: Tensor, a: float, b: float) -> None:
    small, large = accept_slots(entropy, min(a, b)), accept_slots(entropy, max(a, b))
    assert not (small & ~large).any()


@settings(max_examples=100, deadline=None)
@given(distinct_entropies, bounds, st.integers(1, 40))
def test_padding_does_not_change_acceptance(entropy: Tensor, bound: float, more: int) -> None:
    """Padding is infinitely uncertain."""
    padded = torch.cat([entropy, torch.full((more,), float("inf"))])
    kept = accept_slots(torch.stack([padded, padded.roll(1)]), bound)
    assert torch.equal(kept[0, : len(entropy)], accept_slots(entropy, bound))
    assert not kept[0, len(entropy) :].any()


def test_a_bound_of_nothing_accepts_one_slot() -> None:
    assert accept_slots(torch.tensor([0.3, 0.1, 0.2]), 0.0).tolist() == [False, True, False]


def test_padding_does_not_change_acceptance_of_equals() -> None:
    entropy = torch.full((2,), 0.5)
    padded = torch.cat([entropy, torch.full((15,), float("inf"))])
    assert torch.equal(accept_slots(padded, 0.0)[:2], accept_slots(entropy, 0.0))


def test_accept_keeps_no_slot_over_a_surer_one() -> None:
    assert accept_slots(torch.tensor([1.0, 1e-10, 1e-10]), 0.0).tolist() == [False, True, False]


# --- noise -------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40_000), st.integers(1, 9), st.integers(0, 999))
def test_noise_of_a_shorter_canvas_is_a_prefix(a: int, b: int, size: int, steps: int, seed: int) -> None:
    first, second = drawn(a, size, steps, seed), drawn(b, size, steps, seed)
    assert first.shape == (steps + 1, a)
    assert 0 <= int(first.min()) <= int(first.max()) < size
    n = min(a, b)
    assert torch.equal(first[:, :n], second[:, :n])
    assert torch.equal(first, drawn(a, size, steps, seed))


def test_noise_is_uniform_and_fresh() -> None:
    noise = drawn(4000, SIZE, 2, 0)
    counts = torch.bincount(noise.flatten(), minlength=SIZE).float()
    expected = noise.numel() / SIZE
    assert ((counts - expected).square() / expected).sum() < 35  # chi-square, 10 degrees: p = 1e-4
    agreement = (noise[0] == noise[1]).float().mean()
    assert abs(float(agreement) - 1 / SIZE) < 0.02
    assert not torch.equal(noise, drawn(4000, SIZE, 2, 1))


def test_noise_does_not_depend_on_the_number_of_steps() -> None:
    assert torch.equal(drawn(20, 1000, 2, 0), drawn(20, 1000, 8, 0)[:3])


def test_draws_follow_the_distribution_and_are_the_same_for_every_clip() -> None:
    chances = torch.tensor([0.5, 0.3, 0.15, 0.05])
    logits = chances.log().expand(2, 8000, 4)
    noise = SlotNoise(0, 8000, 4)
    found = noise.draw(1, logits)
    assert torch.equal(found[0], found[1])
    shares = torch.bincount(found[0], minlength=4) / 8000
    torch.testing.assert_close(shares, chances, atol=0.02, rtol=0)
    assert torch.equal(found, SlotNoise(0, 8000, 4).draw(1, logits))
    assert not torch.equal(found, noise.draw(2, logits))
    assert not torch.equal(found, SlotNoise(1, 8000, 4).draw(1, logits))


def test_the_forward_process_noises_a_share_of_the_slots() -> None:
    clean = torch.full((400, 50), 9)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noisy, chosen = corrupt_canvas(clean, torch.full((400, 1), 0.3), 8)
    assert torch.equal(noisy == 9, ~chosen)
    assert float(chosen.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert noisy[chosen].bincount(minlength=8).min() > 0.8 * chosen.sum() / 8


def test_some_clips_start_from_null_in_training() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        canvases = draw_first_canvases(2000, 30, SIZE, 0.25)
    null = ~canvases.any(-1)
    assert float(null.float().mean()) == pytest.approx(0.25, abs=0.03)
    assert set(canvases[~null].flatten().tolist()) == set(range(SIZE))


# --- a given canvas ----------------------------------------------------------------------------------------


def test_a_given_canvas_is_filled_up_with_nulls() -> None:
    options = DecodingOptions(start=((3, 0, 5), (7,)))
    found = [read_given_canvas(options, clip, 4) for clip in (0, 1)]
    assert [None if c is None else c.tolist() for c in found] == [[[3, 0, 5, 0]], [[7, 0, 0, 0]]]
    for start in ("null", "noise"):
        assert read_given_canvas(DecodingOptions(start=start), 0, 4) is None


def test_canvases_that_do_not_fit_are_refused() -> None:
    options = DecodingOptions(start=((3, 0, 5),))
    with pytest.raises(ValueError, match="start holds 1 canvases: give one for each clip"):
        read_given_canvas(options, 1, 4)
    with pytest.raises(ValueError, match="start's canvas 0 has 3 slots, the clip 2: give no more"):
        read_given_canvas(options, 0, 2)


# --- when to stop ------------------------------------------------------------------------------------------


def test_padding_is_no_part_of_a_text_that_repeats() -> None:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    stop = TextRepeats(mask, torch.tensor([[1, 1, 2], [3, 4, 4]]))
    nothing = torch.zeros(2, 3)
    assert stop(torch.tensor([[1, 2, 2], [3, 9, 9]]), nothing).tolist() == [True, True]
    assert stop(torch.tensor([[1, 2, 1], [3, 1, 1]]), nothing).tolist() == [False, True]
    assert TextRepeats(mask)(torch.tensor([[1, 2, 2], [3, 9, 9]]), nothing).tolist() == [False, False]


def test_stable_and_sure_needs_both() -> None:
    stop = StableAndSure(2, 0.5)
    sure, unsure = torch.full((1, 4), 0.1), torch.full((1, 4), 0.9)
    one, other = torch.ones(1, 4), torch.zeros(1, 4)
    answers = [(other, sure), (one, sure), (one, sure), (one, unsure), (one, sure), (other, sure)]
    assert [bool(stop(*each)) for each in answers] == [False, False, False, False, True, False]
    assert bool(StableAndSure(0, 0.5)(one, sure))
    assert not bool(StableAndSure(0, 0.5)(one, unsure))


def test_entropy_is_that_of_the_distribution() -> None:
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.Categorical(logits=logits).entropy()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(compute_entropy(logits), expected)
    one = torch.tensor([0.0, -torch.inf])
    assert float(compute_entropy(one)) == 0.0
