"""How passes are spent, with a listener that knows the text: it reads canvases as Whisper's decoder would."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_asr.decoding.causal.model import END
from diffusion_asr.decoding.sweeps.alternatives import AlternativesRule
from diffusion_asr.decoding.sweeps.rule import Judgement, SweepRule, Timed
from diffusion_asr.decoding.sweeps.settling import Settler

RULE = SweepRule(sweeps=6)
SECOND = 1.0  # between the words of a text


def spoken(*tokens: int) -> Timed:
    return Timed(tokens, tuple(SECOND * n for n in range(len(tokens))))


class Listener:
    """Wants ``truth``; after a prefix it expects the word that is said next, by the time of the last token.

    ``misled`` maps a token to the one that it expects to follow it, whatever is said.
    """

    def __init__(self, truth: Timed, misled: dict[int, int] | None = None) -> None:
        self.truth, self.misled, self.reads = truth, misled or {}, list[int]()
        self.offset: float | None = None

    def read(self, canvases: Sequence[Timed]) -> list[Judgement]:
        self.reads.append(len(canvases))
        return [self._judge(canvas) for canvas in canvases]

    def _judge(self, canvas: Timed) -> Judgement:
        behind, best, heard, chances = [], [], [], []
        others: list[tuple[tuple[float, int], ...]] = []
        at = 0  # in the truth
        for place in range(len(canvas.tokens) + 1):
            if place:
                at = bisect_right(self.truth.times, canvas.times[place - 1] + 0.5 * SECOND)
            wanted = self.truth.tokens[at] if at < len(self.truth.tokens) else END
            second = self.truth.times[at] if at < len(self.truth.tokens) else canvas.times[-1] + SECOND
            if place and canvas.tokens[place - 1] in self.misled:
                wanted = self.misled[canvas.tokens[place - 1]]
            own = canvas.tokens[place] if place < len(canvas.tokens) else END
            right = own == wanted
            behind.append(0.0 if right else 5.0)
            best.append(wanted)
            heard.append(second)
            chances.append(-0.1 if right else -5.1)
            true = self.truth.tokens[at] if at < len(self.truth.tokens) else END
            others.append(((2.0, true),) if true not in (own, END) else ())
        return Judgement(behind, best, heard, chances, others)


def settler(listener: Listener, rule: SweepRule = RULE) -> Settler:
    def ctc(texts: Sequence[Sequence[int]]) -> list[float]:
        return [-50.0 * sum(a != b for a, b in zip(t, listener.truth.tokens, strict=False)) for t in texts]

    return Settler(listener, ctc, str, rule, AlternativesRule(copies=3, apart=2))


def test_bursts_everywhere_take_one_pass_and_one_that_agrees() -> None:
    truth = spoken(*range(1, 21))
    draft = Timed(tuple(t + 50 * (t % 4 == 0) for t in truth.tokens), truth.times)
    listener = Listener(truth)
    found = settler(listener).settle(draft, most=20)
    assert found[0].canvas.tokens == truth.tokens
    assert len(found) == 2
    assert found[-1].confidence == pytest.approx((0.905,) * 20, abs=1e-3)


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 12])
def test_passes_are_never_exceeded(most: int) -> None:
    listener = Listener(spoken(1, 2, 3, 4, 5, 6), misled={3: 9, 9: 3})
    found = settler(listener).settle(spoken(7, 8, 9, 7, 8, 9), most)
    assert len(found) == len(listener.reads) <= most


def test_passes_follow_the_longest_burst_and_not_the_text() -> None:
    def passes(words: int) -> int:
        truth = spoken(*range(1, words + 1))
        wrong = Timed(tuple(t + 500 * (t % 6 in (2, 3)) for t in truth.tokens), truth.times)
        return len(settler(Listener(truth)).settle(wrong, most=50))

    assert passes(12) == passes(120) <= 4


def test_a_word_that_fits_its_wrong_surroundings_is_found_by_a_copy() -> None:
    """After 21 the listener expects 22: the sweeps keep both; only the slots know better."""
    truth = spoken(1, 2, 3, 4, 5, 6)
    listener = Listener(truth, misled={1: 21, 21: 22, 22: 4})
    draft = Timed((1, 21, 22, 4, 5, 6), truth.times)
    (*_, last) = settler(listener).settle(draft, most=12)
    assert max(listener.reads) > 1
    assert last.canvas.tokens != draft.tokens
    assert 21 not in last.canvas.tokens


def test_the_last_passes_are_kept_for_copies() -> None:
    listener = Listener(spoken(1, 2, 3, 4, 5, 6), misled={2: 7, 7: 3})
    settler(listener).settle(spoken(8, 8, 8, 8, 8, 8), most=7)
    assert listener.reads[:4] == [1, 1, 1, 1]
    assert all(count > 1 for count in listener.reads[4:])


def test_nothing_is_put_in_doubt_twice() -> None:
    """Rounds end when there is nothing new to try, though passes are left."""
    listener = Listener(spoken(1, 2, 3), misled={1: 9, 9: 3})
    found = settler(listener).settle(Timed((1, 9, 3), (0.0, 1.0, 2.0)), most=40)
    assert len(found) < 12


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 9))
def test_any_draft_ends_with_words_in_time(draft: list[int], most: int) -> None:
    listener = Listener(spoken(1, 2, 3, 4, 5), misled={2: 8})
    for each in settler(listener).settle(spoken(*draft), most):
        assert len(each.canvas.tokens) == len(each.canvas.times) == len(each.confidence)
        assert END not in each.canvas.tokens
        assert all(0 <= sure <= 1 for sure in each.confidence)
