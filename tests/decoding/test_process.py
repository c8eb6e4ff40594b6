"""The denoising loop, with denoisers that are plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import Denoised, Slots, collapse
from diffusion_asr.decoding.denoiser import PreparedState
from diffusion_asr.decoding.diffusion import SamplerOptions, UniformSampler
from diffusion_asr.decoding.process import accept, uniform_noise

SIZE = 11
Score = Callable[[Tensor, Tensor], Tensor]
canvases = st.lists(st.integers(0, 3), max_size=40).map(torch.tensor)
# Multiples of 1/64, so that sums are exact.
entropies = st.lists(st.integers(0, 512), min_size=1, max_size=40).map(lambda x: torch.tensor(x) / 64)
distinct_entropies = st.lists(st.integers(0, 512), min_size=1, max_size=40, unique=True).map(
    lambda x: torch.tensor(x) / 64
)
bounds = st.integers(0, 4000).map(lambda x: x / 64)
clip_lists = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 50)), min_size=1, max_size=5)


def prepared(clips: Sequence[tuple[int, int]]) -> PreparedState:
    """A state of clips of (slots, name); the name is in ``acoustics``, for the fake denoisers to read."""
    slots = torch.tensor([n for n, _ in clips])
    longest = int(slots.max())
    names = torch.tensor([name for _, name in clips])
    return PreparedState(
        (), (), (), (), names[:, None, None].expand(-1, longest, 1), torch.zeros(len(clips), 0, 1),
        Slots(torch.arange(longest)[None], torch.arange(longest) < slots[:, None]),
    )  # fmt: skip


class Fake:
    """A denoiser that is a function of the clip's name and its canvas; it counts its steps."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.seen: list[Tensor] = []
        self.hidden: list[Tensor | None] = []

    def prepare(self, memory: AcousticMemory, languages: Sequence[str]) -> PreparedState:
        raise NotImplementedError

    def denoise(
        self,
        canvas: Tensor,
        state: PreparedState,
        previous: Tensor | None = None,
        pieces: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        assert len(canvas) == len(state.slot_mask)
        assert previous is None or torch.equal(previous[:, 0, 0], state.acoustics[:, 0, 0].float())
        self.seen.append(canvas.clone())
        self.hidden.append(previous)
        scores = self.score(canvas, state.acoustics[:, :1, 0])
        return scores if pieces is None else scores[..., pieces], state.acoustics.float()


def restless(canvas: Tensor, names: Tensor) -> Tensor:
    """Scores that change with every slot's token, slot and clip; whole numbers, so rounding plays no part."""
    slot = torch.arange(canvas.shape[1])
    base = canvas * 31 + slot * 17 + names * 101
    return ((base[..., None] * (torch.arange(SIZE) + 3)) % 97).float() / 8


def fixed(canvas: Tensor, names: Tensor) -> Tensor:
    """The same canvas for a clip whatever comes in, with certainty."""
    wanted = (torch.arange(canvas.shape[1]) * 7 + names) % SIZE
    return torch.nn.functional.one_hot(wanted, SIZE).float() * 50


def sample(
    clips: Sequence[tuple[int, int]],
    score: Score = restless,
    options: SamplerOptions | None = None,
    seed: int = 0,
    draft: Tensor | None = None,
    trace: bool = True,
) -> list[Denoised]:
    sampler = UniformSampler(Fake(score), SIZE)
    generator = torch.Generator().manual_seed(seed)
    return sampler.sample(prepared(clips), options or SamplerOptions(), generator, draft, trace)


def same(a: Denoised, b: Denoised) -> bool:
    return (
        torch.equal(a.canvas, b.canvas)
        and torch.equal(a.confidence, b.confidence)
        and a.steps == b.steps
        and len(a.trace) == len(b.trace)
        and all(
            torch.equal(getattr(x, name), getattr(y, name))
            for x, y in zip(a.trace, b.trace, strict=True)
            for name in ("canvas", "predicted", "confidence", "accepted")
        )
    )


# --- acceptance --------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(entropies, bounds)
def test_accept_respects_the_bound(entropy: Tensor, bound: float) -> None:
    kept = accept(entropy, bound)
    assert kept.dtype == torch.bool
    assert kept.shape == entropy.shape
    assert kept.any()
    if (~kept).any():
        assert entropy[kept].max() <= entropy[~kept].min()
    assert entropy[kept].sort().values[:-1].sum() <= bound  # all before the last one


@settings(max_examples=200, deadline=None)
@given(entropies, bounds)
def test_accept_leaves_out_no_slot_that_fits(entropy: Tensor, bound: float) -> None:
    kept = accept(entropy, bound)
    assume(not bool(kept.all()))
    assert entropy[kept].sum() > bound


@settings(max_examples=200, deadline=None)
@given(entropies, bounds, bounds)
def test_a_larger_bound_accepts_no_less(entropy: Tensor, a: float, b: float) -> None:
    small, large = accept(entropy, min(a, b)), accept(entropy, max(a, b))
    assert not (small & ~large).any()


@settings(max_examples=100, deadline=None)
@given(distinct_entropies, bounds, st.integers(1, 40))
def test_padding_does_not_change_acceptance(entropy: Tensor, bound: float, more: int) -> None:
    """Padding is infinitely uncertain."""
    padded = torch.cat([entropy, torch.full((more,), float("inf"))])
    kept = accept(torch.stack([padded, padded.roll(1)]), bound)
    assert torch.equal(kept[0, : len(entropy)], accept(entropy, bound))
    assert not kept[0, len(entropy) :].any()


def test_a_bound_of_nothing_accepts_one_slot() -> None:
    assert accept(torch.tensor([0.3, 0.1, 0.2]), 0.0).tolist() == [False, True, False]


def test_padding_does_not_change_acceptance_of_equals() -> None:
    entropy = torch.full((2,), 0.5)
    padded = torch.cat([entropy, torch.full((15,), float("inf"))])
    assert torch.equal(accept(padded, 0.0)[:2], accept(entropy, 0.0))


def test_accept_keeps_no_slot_over_a_surer_one() -> None:
    assert accept(torch.tensor([1.0, 1e-10, 1e-10]), 0.0).tolist() == [False, True, False]


# --- noise -------------------------------------------------------------------------------------------------


def drawn(length: int, size: int, steps: int, seed: int) -> Tensor:
    return uniform_noise(length, size, steps, torch.Generator().manual_seed(seed))


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


# --- collapse ----------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(canvases)
def test_collapse_gives_the_runs_of_a_canvas(canvas: Tensor) -> None:
    runs = collapse(canvas)
    painted = torch.zeros(len(canvas), dtype=torch.long)
    for token, first, last in runs:
        assert token != 0
        assert first <= last
        painted[first : last + 1] = token
    assert torch.equal(painted, canvas.long())
    for (a, _, end), (b, start, _) in pairwise(runs):
        assert end < start
        assert a != b or start > end + 1  # equal neighbours have a null between them


# --- the loop ----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.integers(1, 9), st.booleans())
def test_a_number_of_steps_is_kept_exactly(clips: list[tuple[int, int]], steps: int, drafted: bool) -> None:
    draft = torch.zeros(len(clips), max(n for n, _ in clips), dtype=torch.long) if drafted else None
    for score in (fixed, restless):
        found = sample(clips, score, SamplerOptions(steps=steps), draft=draft)
        assert [clip.steps for clip in found] == [steps] * len(clips)
        assert [len(clip.trace) for clip in found] == [steps] * len(clips)


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.integers(1, 9), st.floats(0, 100))
def test_early_exit_is_never_after_the_limit(clips: list[tuple[int, int]], most: int, bound: float) -> None:
    options = SamplerOptions(max_steps=most, entropy_bound=bound)
    for (slots, _), clip in zip(clips, sample(clips, options=options), strict=True):
        assert 1 <= clip.steps <= most
        assert [step.step for step in clip.trace] == list(range(1, clip.steps + 1))
        assert clip.canvas.shape == clip.confidence.shape == (slots,)
        assert torch.equal(clip.trace[-1].predicted, clip.canvas)
        assert torch.equal(clip.trace[-1].confidence, clip.confidence)
        assert bool(((clip.confidence > 0) & (clip.confidence <= 1)).all())
        texts = [[token for token, _, _ in collapse(step.predicted)] for step in clip.trace]
        assert all(a != b for a, b in pairwise(texts[:-1]))  # it would have left earlier
        assert clip.steps == most or texts[-1] == texts[-2]


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.booleans())
def test_a_settled_clip_leaves_after_two_steps(clips: list[tuple[int, int]], drafted: bool) -> None:
    draft = torch.ones(len(clips), max(n for n, _ in clips), dtype=torch.long) if drafted else None
    for (slots, name), clip in zip(clips, sample(clips, fixed, draft=draft), strict=True):
        assert clip.steps <= 2
        assert clip.canvas.tolist() == [(n * 7 + name) % SIZE for n in range(slots)]
        assert clip.confidence.min() > 0.999


def test_a_draft_that_is_right_takes_one_step_and_noise_two() -> None:
    draft = (torch.arange(9) * 7 + 4)[None] % SIZE
    assert sample([(9, 4)], fixed, draft=draft)[0].steps == 1
    assert sample([(9, 4)], fixed)[0].steps == 2


def test_the_draft_is_the_first_canvas() -> None:
    draft = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = sample([(4, 1), (3, 2)], draft=draft)
    assert found[0].trace[0].canvas.tolist() == [1, 2, 3, 4]
    assert found[1].trace[0].canvas.tolist() == [5, 6, 7]
    first = drawn(4, SIZE, SamplerOptions().limit, 0)[0]
    assert torch.equal(sample([(4, 1)])[0].trace[0].canvas, first)


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.floats(0, 30), st.integers(0, 99))
def test_the_rest_is_redrawn(clips: list[tuple[int, int]], bound: float, seed: int) -> None:
    options = SamplerOptions(steps=4, entropy_bound=bound)
    noise = drawn(max(n for n, _ in clips), SIZE, 4, seed)
    for (slots, _), clip in zip(clips, sample(clips, options=options, seed=seed), strict=True):
        for before, after in pairwise(clip.trace):
            redrawn = noise[before.step, :slots]
            assert torch.equal(after.canvas, torch.where(before.accepted, before.predicted, redrawn))
            assert before.accepted.any()


@settings(max_examples=100, deadline=None)
@given(clip_lists, st.integers(0, 99), st.sampled_from([None, 1, 3]), st.booleans())
def test_the_batch_does_not_change_a_clip(
    clips: list[tuple[int, int]], seed: int, steps: int | None, drafted: bool
) -> None:
    longest = max(n for n, _ in clips)
    draft = torch.arange(longest).expand(len(clips), -1) % SIZE if drafted else None
    options = SamplerOptions(steps=steps, entropy_bound=3.0)
    together = sample(clips, options=options, seed=seed, draft=draft)
    for clip, found in zip(clips, together, strict=True):
        own = None if draft is None else draft[:1, : clip[0]]
        assert same(sample([clip], options=options, seed=seed, draft=own)[0], found)


def test_self_conditioning_follows_its_clip() -> None:
    """``Fake`` checks that each clip gets its own hidden states back while others leave the batch."""

    def half(canvas: Tensor, names: Tensor) -> Tensor:
        return torch.where((names % 2 == 0)[..., None], fixed(canvas, names), restless(canvas, names))

    fake = Fake(half)
    clips = [(6, 0), (12, 1), (5, 2), (9, 3)]
    generator = torch.Generator().manual_seed(0)
    UniformSampler(fake, SIZE).sample(prepared(clips), SamplerOptions(entropy_bound=0.5), generator)
    assert fake.hidden[0] is None
    assert all(hidden is not None for hidden in fake.hidden[1:])
    assert len(fake.seen[0]) == 4
    assert len(fake.seen[2]) == 2  # the two settled ones have left


def test_a_trace_is_kept_only_if_asked_for() -> None:
    with_trace, without = sample([(8, 3)]), sample([(8, 3)], trace=False)
    assert without[0].trace == ()
    assert torch.equal(with_trace[0].canvas, without[0].canvas)
    assert with_trace[0].steps == without[0].steps == len(with_trace[0].trace)


def test_the_seed_decides_and_the_global_generator_does_not() -> None:
    clips = [(12, 5), (7, 8)]
    options = SamplerOptions(steps=3, entropy_bound=0.5)
    before = torch.random.get_rng_state()
    first = sample(clips, options=options, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    second, third = sample(clips, options=options, seed=1), sample(clips, options=options, seed=2)
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert not all(same(a, b) for a, b in zip(first, third, strict=True))


def test_results_do_not_hold_the_batch() -> None:
    """A clip's tensors are its own: changing one leaves the others alone."""
    found = sample([(5, 1), (5, 1)])
    with torch.inference_mode():
        found[0].canvas.fill_(9)
    assert torch.equal(found[1].canvas, sample([(5, 1)])[0].canvas)
    assert torch.equal(found[0].trace[-1].predicted, found[1].canvas)


# --- options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"steps": -1}, {"max_steps": 0}])
def test_no_steps_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one denoising step"):
        SamplerOptions(**wrong)


@pytest.mark.parametrize("bound", [-1.0, float("nan")])
def test_a_bound_that_accepts_nothing_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="entropy_bound"):
        SamplerOptions(entropy_bound=bound)


def test_limit() -> None:
    assert SamplerOptions().limit == SamplerOptions().max_steps
    assert SamplerOptions(steps=20).limit == 20


def test_only_the_given_pieces_are_written() -> None:
    pieces = torch.tensor([0, 2, 5, 7])
    generator = torch.Generator().manual_seed(0)
    state = prepared([(9, 1)])
    (clip,) = UniformSampler(Fake(restless), SIZE).sample(state, SamplerOptions(3), generator, pieces=pieces)
    free = UniformSampler(Fake(restless), SIZE).sample(state, SamplerOptions(3), generator)[0]
    assert set(clip.canvas.tolist()) <= set(pieces.tolist())
    assert not set(free.canvas.tolist()) <= set(pieces.tolist())
