"""A round of alternatives, in its parts."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_asr.decoding.causal.model import END
from diffusion_asr.decoding.sweeps.alternatives import (
    AlternativesRule,
    Doubt,
    Stretch,
    apply_stretches,
    choose_stretches,
    deal_doubts,
    find_stretches,
    hold,
    put_in,
)
from diffusion_asr.decoding.sweeps.rule import Judgement, SweepRule, Timed

RULE = AlternativesRule(copies=2, apart=3)


def timed(*tokens: int) -> Timed:
    return Timed(tokens, tuple(0.5 * n for n in range(len(tokens))))


def test_doubts_near_each_other_come_into_different_copies() -> None:
    doubts = [Doubt(2.0, 1, 7), Doubt(0.5, 0, 8), Doubt(1.0, 5, 9)]
    assert deal_doubts(doubts, RULE) == [{0: 8, 5: 9}, {1: 7}]


def test_a_doubt_without_room_is_left_out() -> None:
    assert deal_doubts([Doubt(float(n), 0, n) for n in range(1, 6)], RULE) == [{0: 1}, {0: 2}]


def test_a_copy_is_put_in_by_time() -> None:
    text = timed(1, 2, 3, 4)
    heard = [0.0, 0.1, 1.0, 1.5]  # the decoder listens for another second token before the old one is said
    assert put_in(text, heard, {1: 9}, SweepRule()).tokens == (1, 9, 2, 3, 4)
    assert put_in(text, [0.0, 0.5, 1.0, 1.5], {1: 9, 3: 8}, SweepRule()).tokens == (1, 9, 3, 8)


def test_held_tokens_stay() -> None:
    said = Judgement([3.0, 3.0, 3.0], [7, 7, END], [0.0, 0.5, 1.0])
    assert hold(said, timed(1, 2), frozenset({2})).behind == [3.0, 0.0, 3.0]


def test_a_stretch_counts_what_follows_it() -> None:
    text, copy = timed(1, 2, 3, 4), timed(1, 9, 3, 4)
    own, theirs = [-1.0, -2.0, -3.0, -1.0, 0.0], [-1.0, -1.0, -1.0, -1.0, 0.0]
    (stretch,) = find_stretches(text, own, copy, theirs, tail=1)
    assert (stretch.first, stretch.end, stretch.tokens) == (1, 2, (9,))
    assert stretch.gain == 3.0


def test_stretches_keep_their_times() -> None:
    changed = apply_stretches(timed(1, 2, 3), [Stretch(1.0, 1, 2, (8, 9), (0.4, 0.6))])
    assert changed == Timed((1, 8, 9, 3), (0.0, 0.4, 0.6, 1.0))


def test_the_best_that_do_not_touch_are_taken() -> None:
    text = timed(1, 2, 3, 4, 5, 6)
    good = Stretch(2.0, 0, 1, (7,), (0.0,))
    beside = Stretch(1.0, 1, 2, (8,), (0.5,))
    apart = Stretch(0.5, 4, 5, (9,), (2.0,))
    worse = Stretch(-0.5, 5, 6, (9,), (2.5,))

    def deaf(texts: Sequence[Sequence[int]]) -> list[float]:
        return [0.0] * len(texts)

    assert choose_stretches(text, [worse, beside, good, apart], deaf, RULE) == [good, apart]


def test_the_slots_have_a_say() -> None:
    text = timed(1, 2, 3)
    left_out = Stretch(1.0, 1, 2, (), ())

    def ctc(texts: Sequence[Sequence[int]]) -> list[float]:
        return [-100.0 * (len(each) < 3) for each in texts]

    assert choose_stretches(text, [left_out], ctc, RULE) == []
