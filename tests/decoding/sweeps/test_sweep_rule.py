"""The rule of a sweep, on canvases small enough to follow by eye."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_asr.decoding.causal.model import END
from diffusion_asr.decoding.sweeps.rule import (
    USUAL_OFFSET,
    Judgement,
    SweepRule,
    Timed,
    measure_offset,
    next_place,
    repair,
    retime,
)

RULE = SweepRule(slack=0.5)
A, B, C, D, X, Y = 11, 12, 13, 14, 21, 22


def timed(*tokens: int, every: float = 0.5) -> Timed:
    return Timed(tokens, tuple(n * every for n in range(len(tokens))))


def judged(canvas: Timed, wanted: dict[int, tuple[int, float]]) -> Judgement:
    """Agrees with everything but the places in ``wanted``: another token, heard at a second."""
    size = len(canvas.tokens)
    behind, best = [0.0] * (size + 1), [*canvas.tokens, END]
    heard = [*canvas.times, (canvas.times[-1] + 0.5) if size else 0.0]
    for place, (token, second) in wanted.items():
        behind[place], best[place], heard[place] = 3.0, token, second
    return Judgement(behind, best, heard)


def test_what_is_agreed_on_stays() -> None:
    canvas = timed(A, B, C)
    assert repair(canvas, judged(canvas, {}), RULE) == canvas


def test_every_burst_is_repaired_in_the_same_pass() -> None:
    canvas = timed(A, X, C, Y, B)
    after = repair(canvas, judged(canvas, {1: (B, 0.5), 3: (D, 1.5)}), RULE)
    assert after.tokens == (A, B, C, D, B)
    assert after.times == canvas.times


def test_only_the_first_token_of_a_burst_is_replaced() -> None:
    canvas = timed(A, X, Y, D)
    after = repair(canvas, judged(canvas, {1: (B, 0.5), 2: (C, 1.0)}), RULE)
    assert after.tokens == (A, B, Y, D)


def test_a_token_that_is_heard_earlier_is_put_in_before() -> None:
    canvas = timed(A, C)
    assert repair(canvas, judged(canvas, {1: (B, 0.2)}), RULE).tokens == (A, B, C)


def test_a_token_that_is_heard_later_replaces_what_was_said_by_then() -> None:
    canvas = timed(A, X, Y, D, every=0.1)
    assert repair(canvas, judged(canvas, {1: (B, 0.2)}), RULE).tokens == (A, B, D)


def test_what_stands_before_the_same_token_was_superfluous() -> None:
    canvas = timed(A, X, Y, B, C, every=0.1)
    assert repair(canvas, judged(canvas, {1: (B, 0.3)}), RULE).tokens == (A, B, C)


def test_the_same_token_at_another_time_is_another_one() -> None:
    canvas = Timed((A, X, B), (0.0, 0.5, 9.0))
    assert repair(canvas, judged(canvas, {1: (B, 0.5)}), RULE).tokens == (A, B, B)


def test_a_text_ends_where_its_end_is_likelier_and_nothing_before_is_in_doubt() -> None:
    canvas = timed(A, B, X, Y)
    assert repair(canvas, judged(canvas, {2: (END, 1.0)}), RULE).tokens == (A, B)


def test_a_text_does_not_end_behind_a_repair() -> None:
    canvas = timed(A, X, C, Y)
    after = repair(canvas, judged(canvas, {1: (B, 0.5), 3: (END, 1.5)}), RULE)
    assert after.tokens == (A, B, C, Y)


def test_a_text_may_grow_at_its_end() -> None:
    canvas = timed(A, B)
    assert repair(canvas, judged(canvas, {2: (C, 1.4)}), RULE).tokens == (A, B, C)


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 9), st.floats(0, 2), st.integers(0, 5))))
def test_times_and_tokens_go_together(rows: list[tuple[int, float, float, int]]) -> None:
    canvas = Timed(tuple(r[0] for r in rows), tuple(sorted(r[1] for r in rows)))
    said = Judgement([*(r[2] for r in rows), 0.0], [*(r[3] for r in rows), END], [*canvas.times, 9.0])
    after = repair(canvas, said, RULE)
    assert len(after.tokens) == len(after.times)
    assert END not in after.tokens
    assert len(after.tokens) <= 2 * len(canvas.tokens) + 1


def test_times_are_believed_where_both_neighbours_agree() -> None:
    canvas = timed(A, B, C, D)
    said = Judgement([0.0, 0.0, 3.0, 0.0, 0.0], [A, B, X, D, END], [0.0, 0.6, 1.1, 1.6, 2.0])
    assert retime(canvas, said, RULE).times == (0.0, 0.6, 1.0, 1.5)


def test_a_leap_in_time_is_not_believed() -> None:
    canvas = timed(A, B)
    assert retime(canvas, Judgement([0.0] * 3, [A, B, END], [0.0, 5.0, 6.0]), RULE).times == canvas.times


def test_the_draft_s_offset_is_the_median_of_what_is_agreed_on() -> None:
    canvas = timed(A, B, C, D)
    said = Judgement([0.0] * 5, [A, B, C, D, END], [0.0, 0.8, 1.4, 1.8, 2.5])
    assert measure_offset(canvas, said, RULE) == pytest.approx(0.3)


def test_without_agreement_the_usual_offset_is_taken() -> None:
    canvas = timed(A, B, C, D)
    assert measure_offset(canvas, Judgement([3.0] * 5, [X] * 5, [0.0] * 5), RULE) == USUAL_OFFSET


def test_at_most_so_many_tokens_are_replaced() -> None:
    canvas = timed(X, X, X, X, X, every=0.01)
    assert next_place(canvas, 0, A, 9.0, RULE) == RULE.replaced
