"""Canvases: where their slots are, and how they collapse."""

from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_asr.decoding.canvas import collapse_canvas, make_slots, read_tokens
from tests.support.tiny import memory

canvases = st.lists(st.integers(0, 3), max_size=40).map(torch.tensor)


@settings(max_examples=200, deadline=None)
@given(canvases)
def test_collapse_gives_the_runs_of_a_canvas(canvas: Tensor) -> None:
    runs = collapse_canvas(canvas)
    painted = torch.zeros(len(canvas), dtype=torch.long)
    for token, first, last in runs:
        assert token != 0
        assert first <= last
        painted[first : last + 1] = token
    assert torch.equal(painted, canvas.long())
    for (a, _, end), (b, start, _) in pairwise(runs):
        assert end < start
        assert a != b or start > end + 1  # equal neighbours have a null between them
    assert read_tokens(canvas) == [token for token, _, _ in runs]


def test_grid_covers_each_clip() -> None:
    slots = make_slots(memory([9, 4, 1]), 4)
    assert slots.times.tolist() == [[2, 6, 10]]
    assert slots.mask.tolist() == [[True, True, True], [True, False, False], [True, False, False]]
