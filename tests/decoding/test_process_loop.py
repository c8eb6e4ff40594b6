"""The diffusion process's loop, with denoisers that are plain arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_asr.decoding.canvas import Slots, read_tokens
from diffusion_asr.decoding.process import (
    DenoisedRows,
    DiffusionProcess,
    SlotNoise,
    TextRepeats,
    denoise_canvas,
)
from tests.support.process_helpers import SIZE, drawn

Clips = Sequence[tuple[int, int]]  # slots and name of each
Score = Callable[[Tensor, Tensor], Tensor]
clip_lists = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 50)), min_size=1, max_size=5)


class Named(NamedTuple):
    """The state of clips that a fake denoiser tells apart by their names."""

    names: Tensor  # (B,)
    slots: Slots


def prepared(clips: Clips) -> Named:
    slots = torch.tensor([n for n, _ in clips])
    longest = int(slots.max())
    places = torch.arange(longest)
    return Named(torch.tensor([name for _, name in clips]), Slots(places[None], places < slots[:, None]))


class Fake:
    """A denoiser that is a function of the clip's name and its canvas; it keeps what it was asked."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.seen: list[Tensor] = []
        self.told: list[Tensor | None] = []

    def hidden(self, canvas: Tensor, state: Named, previous: Tensor | None = None) -> Tensor:
        assert len(canvas) == len(state.names)
        self.seen.append(canvas.clone())
        self.told.append(previous)
        return self.score(canvas, state.names[:, None])

    def logits(self, hidden: Tensor, pieces: Tensor | None = None) -> Tensor:
        return hidden if pieces is None else hidden[..., pieces]

    def conditioning(self, hidden: Tensor, logits: Tensor, pieces: Tensor | None = None) -> Tensor:
        return torch.full(hidden.shape, float(len(self.seen)))  # the number of the step


def restless(canvas: Tensor, names: Tensor) -> Tensor:
    """Scores that change with every slot's token, slot and clip; whole numbers, so rounding plays no part."""
    slot = torch.arange(canvas.shape[1])
    base = canvas * 31 + slot * 17 + names * 101
    return ((base[..., None] * (torch.arange(SIZE) + 3)) % 97).float() / 8


def fixed(canvas: Tensor, names: Tensor) -> Tensor:
    """The same canvas for a clip whatever comes in, with certainty."""
    wanted = (torch.arange(canvas.shape[1]) * 7 + names) % SIZE
    return torch.nn.functional.one_hot(wanted, SIZE).float() * 50


def half(canvas: Tensor, names: Tensor) -> Tensor:
    """Clips of even names are settled at once."""
    return torch.where((names % 2 == 0)[..., None], fixed(canvas, names), restless(canvas, names))


def denoise(
    clips: Clips,
    score: Score | Fake = restless,
    steps: int | None = None,
    most: int = 8,
    bound: float = 4.0,
    seed: int = 0,
    first: Tensor | None = None,
    trace: bool = True,
    heat: float | None = None,
    chained: bool = False,
    pieces: Tensor | None = None,
) -> DenoisedRows:
    """From ``first`` or from noise; until the text repeats where no number of ``steps`` is given."""
    state, fake = prepared(clips), score if isinstance(score, Fake) else Fake(score)
    longest = state.slots.mask.shape[1]
    noise = SlotNoise(seed, longest, SIZE)
    process = DiffusionProcess(
        noise,
        bound,
        temperature=None if heat is None else lambda _left: heat,
        chained=chained,
        stop=TextRepeats(state.slots.mask, first) if steps is None else None,
    )
    canvas = noise.canvas(0).expand(len(clips), -1) if first is None else first
    return denoise_canvas(fake, state, canvas, process, steps or most, pieces, trace)


def row(rows: DenoisedRows, n: int, slots: int) -> tuple[list[int], list[float], int, list[object]]:
    """A clip's own part of a batch, to compare."""
    steps = [[x.tolist() for x in (s.canvas, s.predicted, s.confidence, s.accepted)] for s in rows.traces[n]]
    canvas, confidence = rows.canvas[n, :slots].tolist(), rows.confidence[n, :slots].tolist()
    return canvas, confidence, rows.passes[n], list(steps)


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.integers(1, 9), st.booleans())
def test_a_number_of_steps_is_kept_exactly(clips: Clips, steps: int, drafted: bool) -> None:
    first = torch.zeros(len(clips), max(n for n, _ in clips), dtype=torch.long) if drafted else None
    for score in (fixed, restless):
        found = denoise(clips, score, steps, first=first)
        assert found.passes == [steps] * len(clips)
        assert [len(trace) for trace in found.traces] == [steps] * len(clips)


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.integers(1, 9), st.floats(0, 100))
def test_early_exit_is_never_after_the_limit(clips: Clips, most: int, bound: float) -> None:
    found = denoise(clips, most=most, bound=bound)
    assert found.canvas.shape == found.confidence.shape == (len(clips), max(n for n, _ in clips))
    for n, (slots, _) in enumerate(clips):
        trace, passes = found.traces[n], found.passes[n]
        assert 1 <= passes <= most
        assert [step.step for step in trace] == list(range(1, passes + 1))
        assert {step.kind for step in trace} == {"parallel"}
        assert torch.equal(trace[-1].predicted, found.canvas[n, :slots])
        assert torch.equal(trace[-1].confidence, found.confidence[n, :slots])
        assert bool(((trace[-1].confidence > 0) & (trace[-1].confidence <= 1)).all())
        texts = [read_tokens(step.predicted) for step in trace]
        assert all(a != b for a, b in pairwise(texts[:-1]))  # it would have left earlier
        assert passes == most or texts[-1] == texts[-2]


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.booleans())
def test_a_settled_clip_is_done_after_two_steps(clips: Clips, drafted: bool) -> None:
    first = torch.ones(len(clips), max(n for n, _ in clips), dtype=torch.long) if drafted else None
    found = denoise(clips, fixed, first=first)
    for n, (slots, name) in enumerate(clips):
        assert found.passes[n] <= 2
        assert found.canvas[n, :slots].tolist() == [(slot * 7 + name) % SIZE for slot in range(slots)]
        assert found.confidence[n, :slots].min() > 0.999


def test_a_known_canvas_that_is_right_takes_one_step_and_noise_two() -> None:
    right = (torch.arange(9) * 7 + 4)[None] % SIZE
    assert denoise([(9, 4)], fixed, first=right).passes == [1]
    assert denoise([(9, 4)], fixed).passes == [2]


def test_the_first_canvas_is_read_first() -> None:
    first = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    found = denoise([(4, 1), (3, 2)], first=first)
    assert [trace[0].canvas.tolist() for trace in found.traces] == [[1, 2, 3, 4], [5, 6, 7]]


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.floats(0, 30), st.integers(0, 99))
def test_the_rest_is_redrawn(clips: Clips, bound: float, seed: int) -> None:
    noise = drawn(max(n for n, _ in clips), SIZE, 4, seed)
    found = denoise(clips, steps=4, bound=bound, seed=seed)
    for (slots, _), trace in zip(clips, found.traces, strict=True):
        assert torch.equal(trace[0].canvas, noise[0, :slots])
        for before, after in pairwise(trace):
            redrawn = noise[before.step, :slots]
            assert torch.equal(after.canvas, torch.where(before.accepted, before.predicted, redrawn))
            assert before.accepted.any()


@settings(max_examples=50, deadline=None)
@given(clip_lists, st.integers(0, 99))
def test_the_answer_is_the_likeliest_canvas_also_where_tokens_are_drawn(clips: Clips, seed: int) -> None:
    found = denoise(clips, steps=3, bound=1e9, seed=seed, heat=2.0)
    for (slots, name), trace in zip(clips, found.traces, strict=True):
        for step in trace:
            scores = restless(step.canvas[None], torch.tensor([[name]]))[0]
            assert torch.equal(step.predicted, scores.argmax(-1))
        assert bool(trace[0].accepted.all())
        assert len(trace[0].canvas) == slots
    hot = [int((t[1].canvas != t[0].predicted).sum()) for t in found.traces]
    cold = denoise(clips, steps=3, bound=1e9, seed=seed).traces
    assert all(torch.equal(t[1].canvas, t[0].predicted) for t in cold)
    assert sum(slots for slots, _ in clips) < 20 or sum(hot) > 0


@settings(max_examples=100, deadline=None)
@given(clip_lists, st.integers(0, 99), st.sampled_from([None, 1, 3]), st.booleans(), st.booleans())
def test_the_batch_does_not_change_a_clip(
    clips: Clips, seed: int, steps: int | None, drafted: bool, hot: bool
) -> None:
    longest = max(n for n, _ in clips)
    first = torch.arange(longest).expand(len(clips), -1) % SIZE if drafted else None
    heat = 3.0 if hot else None
    together = denoise(clips, half, steps, bound=3.0, seed=seed, first=first, heat=heat)
    for n, (slots, name) in enumerate(clips):
        own = None if first is None else first[:1, :slots]
        alone = denoise([(slots, name)], half, steps, bound=3.0, seed=seed, first=own, heat=heat)
        assert row(alone, 0, slots) == row(together, n, slots)


def test_a_clip_that_is_done_stays_as_it_is() -> None:
    clips = [(6, 0), (12, 1), (5, 2), (9, 3)]
    fake = Fake(half)
    found = denoise(clips, fake, bound=0.5)
    assert [found.passes[n] for n in (0, 2)] == [2, 2]
    assert max(found.passes) == len(fake.seen) > 2
    for n in (0, 2):  # it goes through with the others, but nothing of it changes
        assert all(torch.equal(canvas[n], fake.seen[2][n]) for canvas in fake.seen[3:])
        assert torch.equal(found.canvas[n, : clips[n][0]], found.traces[n][-1].predicted)


@pytest.mark.parametrize("chained", [False, True])
def test_steps_are_told_of_the_first_one_or_of_the_one_before(chained: bool) -> None:
    fake = Fake(restless)
    denoise([(6, 1), (3, 2)], fake, steps=4, chained=chained)
    assert fake.told[0] is None
    told = [int(given[0, 0, 0]) for given in fake.told if given is not None]
    assert told == ([1, 2, 3] if chained else [1, 1, 1])


def test_a_trace_is_kept_only_if_asked_for() -> None:
    with_trace, without = denoise([(8, 3)]), denoise([(8, 3)], trace=False)
    assert without.traces == [[]]
    assert torch.equal(with_trace.canvas, without.canvas)
    assert with_trace.passes == without.passes == [len(with_trace.traces[0])]


def test_the_seed_decides_and_the_global_generator_does_not() -> None:
    clips = [(12, 5), (7, 8)]
    before = torch.random.get_rng_state()
    first = denoise(clips, steps=3, bound=0.5, seed=1, heat=1.5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    second, third = (denoise(clips, steps=3, bound=0.5, seed=seed, heat=1.5) for seed in (1, 2))
    for n, (slots, _) in enumerate(clips):
        assert row(first, n, slots) == row(second, n, slots)
    assert any(row(first, n, slots) != row(third, n, slots) for n, (slots, _) in enumerate(clips))


def test_only_the_given_pieces_are_written() -> None:
    pieces = torch.tensor([0, 2, 5, 7])
    found = denoise([(9, 1)], steps=3, pieces=pieces, heat=3.0, bound=1e9)
    free = denoise([(9, 1)], steps=3)
    assert set(found.canvas[0].tolist()) <= set(pieces.tolist())
    assert all(set(step.canvas.tolist()) <= set(pieces.tolist()) for step in found.traces[0][1:])
    assert not set(free.canvas[0].tolist()) <= set(pieces.tolist())
