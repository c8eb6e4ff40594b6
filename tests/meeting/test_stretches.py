"""Windows cut where the floor changes hands."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from diffusion_asr.meeting.attribution import Turn, TurnIndex
from diffusion_asr.meeting.stretches import cut_stretches


@st.composite
def floors(draw: st.DrawFn) -> list[Turn]:
    gaps = draw(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 3), st.sampled_from("AB")), max_size=8))
    turns, clock = [], 0.0
    for gap, length, who in gaps:
        turns.append(Turn(clock + gap, clock + gap + length, who))
        clock += gap + length
    return turns


@given(floors(), st.floats(0, 5), st.floats(0.1, 10))
def test_a_window_is_cut_without_gaps_or_crumbs(turns: list[Turn], start: float, length: float) -> None:
    found = cut_stretches(TurnIndex(turns), turns, start, start + length, 0.5)
    assert (found[0].start, found[-1].end) == (start, start + length)
    for a, b in pairwise(found):
        assert a.end == b.start
        assert a.speaker != b.speaker
    if len(found) > 1:
        assert all(s.end - s.start >= (1.0 if s.speaker is None else 0.3) - 1e-9 for s in found)


def test_between_turns_the_nearer_one_has_the_floor_within_the_limit() -> None:
    turns = [Turn(0, 2, "A"), Turn(2.6, 4, "B"), Turn(8, 9, "C")]
    found = [(s.start, s.end, s.speaker) for s in cut_stretches(TurnIndex(turns), turns, 0, 9, 0.5)]
    assert found == [(0, 2.3, "A"), (2.3, 4.5, "B"), (4.5, 7.5, None), (7.5, 9, "C")]
