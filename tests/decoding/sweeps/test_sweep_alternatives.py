"""A round of alternatives, in its parts."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_asr.decoding.causal.model import END
from diffusion_asr.decoding.sweeps.alternatives import (
    AlternativesRule,
    Doubt,
    Judged,
    Stretch,
    apply_stretches,
    choose_stretches,
    deal_doubts,
    find_doubts,
    find_stretches,
    force,
    hold,
)
from diffusion_asr.decoding.sweeps.rule import Judgement, SweepRule, Timed, repair

RULE = AlternativesRule(copies=2, apart=3)


def timed(*tokens: int) -> Timed:
    return Timed(tokens, tuple(0.5 * n for n in range(len(tokens))))


def agreed(canvas: Timed, chances: Sequence[float] = ()) -> Judged:
    """A canvas that a pass agrees with."""
    size = len(canvas.tokens)
    heard = [*canvas.times, 0.5 * size]
    said = Judgement([0.0] * (size + 1), [*canvas.tokens, END], heard, list(chances) or [0.0] * (size + 1))
    return Judged(canvas, said)


def stretch(gain: float, first: int, end: int, *tokens: int) -> Stretch:
    """Of a copy that is nothing but these tokens."""
    return Stretch(gain, first, end, agreed(timed(*tokens)), 0, len(tokens))


def deaf(texts: Sequence[Sequence[int]]) -> list[float]:
    return [0.0] * len(texts)


def test_other_words_are_doubts_other_spellings_are_none() -> None:
    text = agreed(timed(1, 2))
    others: list[tuple[tuple[float, int], ...]] = [((1.0, 7), (2.0, 11)), ((0.0, 2), (9.0, 8))]
    text = Judged(text.canvas, Judgement(text.said.behind, text.said.best, text.said.heard, [], others))
    words = {1: "a", 11: "a", 7: "b", 2: "c", 8: "d"}  # 11 is 1 in capitals
    assert find_doubts(text, lambda token: words[token], gap=4.0) == [Doubt(1.0, 0, 7)]


def test_doubts_near_each_other_come_into_different_copies() -> None:
    doubts = [Doubt(2.0, 1, 7), Doubt(0.5, 0, 8), Doubt(1.0, 5, 9)]
    assert deal_doubts(doubts, RULE) == [{0: 8, 5: 9}, {1: 7}]


def test_a_doubt_without_room_is_left_out() -> None:
    assert deal_doubts([Doubt(float(n), 0, n) for n in range(1, 6)], RULE) == [{0: 1}, {0: 2}]


def test_a_copy_is_put_in_by_time() -> None:
    text = timed(1, 2, 3, 4)
    heard = [0.0, 0.1, 1.0, 1.5, 2.0]  # the decoder listens for another second token before the old is said
    said = Judgement([0.0] * 5, [1, 2, 3, 4, END], heard)
    assert repair(text, force(said, {1: 9}), SweepRule()).tokens == (1, 9, 2, 3, 4)
    said = Judgement([0.0] * 5, [1, 2, 3, 4, END], [0.0, 0.5, 1.0, 1.5, 2.0])
    assert repair(text, force(said, {1: 9, 3: 8}), SweepRule()).tokens == (1, 9, 3, 8)


def test_held_tokens_stay() -> None:
    said = Judgement([3.0, 3.0, 3.0], [7, 7, END], [0.0, 0.5, 1.0])
    assert hold(said, timed(1, 2), frozenset({2})).behind == [3.0, 0.0, 3.0]


def test_a_stretch_counts_what_follows_it() -> None:
    text = agreed(timed(1, 2, 3, 4), [-1.0, -2.0, -3.0, -1.0, 0.0])
    copy = agreed(timed(1, 9, 3, 4), [-1.0, -1.0, -1.0, -1.0, 0.0])
    (found,) = find_stretches(text, copy, tail=1)
    assert (found.first, found.end, found.tokens) == (1, 2, (9,))
    assert found.gain == 3.0


def test_stretches_bring_their_times_and_what_was_said_of_them() -> None:
    text = agreed(timed(1, 2, 3), [-1.0, -2.0, -3.0, -4.0])
    copy = agreed(Timed((1, 8, 9, 3), (0.0, 0.4, 0.6, 1.1)), [-0.1, -0.2, -0.3, -0.4, -0.5])
    changed = apply_stretches(text, find_stretches(text, copy, tail=1))
    assert changed.canvas == Timed((1, 8, 9, 3), (0.0, 0.4, 0.6, 1.0))
    # What follows the stretch was judged after another prefix in the text.
    assert changed.said.chances == [-1.0, -0.2, -0.3, -0.4, -4.0]
    assert changed.said.best == [1, 8, 9, 3, END]


def test_the_best_that_do_not_touch_are_taken() -> None:
    text = agreed(timed(1, 2, 3, 4, 5, 6))
    good, beside = stretch(2.0, 0, 1, 7), stretch(1.0, 1, 2, 8)
    apart, worse = stretch(0.5, 4, 5, 9), stretch(-0.5, 5, 6, 9)
    assert choose_stretches(text, [worse, beside, good, apart], deaf, RULE) == [good, apart]


def test_of_equal_stretches_the_likelier_copy_counts() -> None:
    text = agreed(timed(1, 2))
    assert choose_stretches(text, [stretch(1.0, 0, 1, 7), better := stretch(2.0, 0, 1, 7)], deaf, RULE) == [
        better
    ]


def test_the_slots_have_a_say() -> None:
    text = agreed(timed(1, 2, 3))
    left_out = stretch(1.0, 1, 2)

    def ctc(texts: Sequence[Sequence[int]]) -> list[float]:
        return [-100.0 * (len(each) < 3) for each in texts]

    assert choose_stretches(text, [left_out], ctc, RULE) == []
