"""Forced alignment: the best canvas with a given text."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.canvas import read_tokens
from tests.support.tiny import log_probs


def brute_force(scores: Tensor, target: list[int]) -> tuple[float, tuple[int, ...] | None]:
    """The most probable canvas with this text, by trying every canvas."""
    best, found = float("-inf"), None
    rows = scores.tolist()
    for canvas in itertools.product(sorted({0, *target}), repeat=len(rows)):
        if read_tokens(torch.tensor(canvas)) == target:
            total = sum(row[token] for row, token in zip(rows, canvas, strict=True))
            if total > best:
                best, found = total, canvas
    return best, found


def need(target: list[int]) -> int:
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


targets = st.lists(st.integers(1, 3), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), targets, st.integers(0, 99))
def test_alignment_is_the_best_of_all(slots: int, target: list[int], seed: int) -> None:
    scores = log_probs(slots, 4, seed)
    padded = torch.tensor([target + [0] * (4 - len(target))])
    found = align_canvas(scores[None], torch.tensor([slots]), padded, torch.tensor([len(target)]))[0]
    best, canvas = brute_force(scores, target)
    feasible = not F.ctc_loss(
        scores[:, None], padded, torch.tensor([slots]), torch.tensor([len(target)]), reduction="none"
    ).isinf()
    assert bool(feasible) == (canvas is not None) == (need(target) <= slots)
    if canvas is None:
        assert not found.any()
    else:
        assert read_tokens(found) == target
        assert float(scores.gather(1, found[:, None]).sum()) == pytest.approx(best, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), targets), min_size=1, max_size=5), st.integers(0, 99))
def test_alignment_of_a_batch_is_that_of_its_clips(clips: list[tuple[int, list[int]]], seed: int) -> None:
    longest, most = max(n for n, _ in clips), max(1, max(len(t) for _, t in clips))
    scores = torch.stack([log_probs(longest, 4, seed + k) for k in range(len(clips))])
    padded = torch.tensor([t + [0] * (most - len(t)) for _, t in clips])
    slots, counts = torch.tensor([n for n, _ in clips]), torch.tensor([len(t) for _, t in clips])
    found = align_canvas(scores, slots, padded, counts)
    for k, (n, target) in enumerate(clips):
        alone = align_canvas(
            scores[k : k + 1, :n], slots[k : k + 1], padded[k : k + 1, : max(1, len(target))],
            counts[k : k + 1],
        )  # fmt: skip
        assert torch.equal(found[k, :n], alone[0])
        assert not found[k, n:].any()
