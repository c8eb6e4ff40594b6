"""Re-noised copies of the canvas: other tokens at doubtful places, swept beside the text and compared.

Sweeps leave words that are wrong in the same direction as their surroundings, and tokens of the draft that
the slack kept. Here other tokens for doubtful places are dealt out to a few copies of the canvas and put in
by time. Text and copies are swept side by side (the new tokens held) and read. Where a copy differs from the
text, the likelier stretch is taken: the reader's log-probability of it and of what follows, CTC's of the
whole text over the draft's slots (hybrid CTC/attention: Watanabe et al. 2017), and a little for each token.
All functions here are pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from diffusion_asr.decoding.sweeps.rule import Judgement, Timed

CtcScorer = Callable[[Sequence[Sequence[int]]], list[float]]
Letters = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class AlternativesRule:
    """Constants of a round.

    Attributes:
        copies: At most so many.
        apart: Tokens between the changed places of a copy.
        gap: Nats by which another token may be less likely than the one that stands there.
        tail: Tokens after a stretch whose likelihood counts with it.
        sweeps: Over text and copies, before they are compared.
        ctc: Weight of CTC's log-probability beside the reader's.
        longer: Nats for each token: the likelihood of a text favours short ones.
    """

    copies: int = 8
    apart: int = 8
    gap: float = 4.0
    tail: int = 3
    sweeps: int = 2
    ctc: float = 0.08
    longer: float = 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """A canvas and what a pass says about it."""

    canvas: Timed
    said: Judgement


@dataclass(frozen=True, slots=True)
class Doubt:
    """Another token for a place, ``gap`` nats from the one that stands there."""

    gap: float
    place: int
    token: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What stands in ``copy`` from ``start`` to ``stop``, instead of the text's places ``first`` to ``end``.

    ``gain`` is in nats, by the reader.
    """

    gain: float
    first: int
    end: int
    copy: Judged
    start: int
    stop: int

    @property
    def tokens(self) -> tuple[int, ...]:
        """The new tokens."""
        return self.copy.canvas.tokens[self.start : self.stop]


def find_doubts(text: Judged, letters: Letters, gap: float) -> list[Doubt]:
    """Other *words* (the ``letters`` differ) that are nearly as likely as the token that stands there."""
    found = []
    for place, (own, others) in enumerate(zip(text.canvas.tokens, text.said.others, strict=False)):
        for behind, token in others:
            words = letters(token)
            if behind <= gap and token != own and words and words != letters(own):
                found.append(Doubt(abs(behind), place, token))
    return found


def deal_doubts(doubts: Sequence[Doubt], rule: AlternativesRule) -> list[dict[int, int]]:
    """Copies as place to new token: the most doubtful first, each into the first copy with room for it."""
    copies: list[dict[int, int]] = [{} for _ in range(rule.copies)]
    for doubt in sorted(doubts, key=lambda d: (d.gap, d.place, d.token)):
        for copy in copies:
            if all(abs(doubt.place - other) >= rule.apart for other in copy):
                copy[doubt.place] = doubt.token
                break
    return [copy for copy in copies if copy]


def force(said: Judgement, copy: dict[int, int]) -> Judgement:
    """A judgement under which a copy's tokens take their places."""
    behind, best = list(said.behind), list(said.best)
    for place, token in copy.items():
        behind[place], best[place] = math.inf, token
    return replace(said, behind=behind, best=best)


def hold(said: Judgement, canvas: Timed, fixed: frozenset[int]) -> Judgement:
    """A judgement under which ``fixed`` tokens stay."""
    behind = [0.0 if token in fixed else gap for gap, token in zip(said.behind, canvas.tokens, strict=False)]
    return replace(said, behind=[*behind, said.behind[-1]])


def find_stretches(text: Judged, copy: Judged, tail: int) -> list[Stretch]:
    """Where a copy differs."""
    found = []
    own, theirs = text.said.chances, copy.said.chances
    matcher = SequenceMatcher(None, text.canvas.tokens, copy.canvas.tokens, autojunk=False)
    for kind, first, end, start, stop in matcher.get_opcodes():
        if kind != "equal":
            gain = sum(theirs[start : stop + tail]) - sum(own[first : end + tail])
            found.append(Stretch(gain, first, end, copy, start, stop))
    return found


def apply_stretches(text: Judged, stretches: Sequence[Stretch]) -> Judged:
    """The text with stretches that do not touch each other, and what was said of them in their copies."""
    tokens, times, said = list(text.canvas.tokens), list(text.canvas.times), text.said
    for new in sorted(stretches, key=lambda s: -s.first):
        tokens[new.first : new.end] = new.tokens
        times[new.first : new.end] = new.copy.canvas.times[new.start : new.stop]
        # What follows was judged after another prefix.
        said = said.splice(new.first, new.end + 1, new.copy.said.cut(new.start, new.stop + 1))
    return Judged(Timed(tuple(tokens), tuple(times)), said)


def choose_stretches(
    text: Judged, stretches: Sequence[Stretch], ctc_chances: CtcScorer, rule: AlternativesRule
) -> list[Stretch]:
    """The best gains that do not touch, by reader, CTC and length."""
    best: dict[tuple[int, int, tuple[int, ...]], Stretch] = {}
    for new in stretches:
        known = best.setdefault((new.first, new.end, new.tokens), new)
        if new.gain > known.gain:
            best[new.first, new.end, new.tokens] = new
    own, options = text.canvas.tokens, list(best.values())
    texts = [own[: new.first] + new.tokens + own[new.end :] for new in options]
    before, *after = ctc_chances([own, *texts])
    worth = [
        new.gain + rule.ctc * (chance - before) + rule.longer * (len(whole) - len(own))
        for new, chance, whole in zip(options, after, texts, strict=True)
    ]
    taken: list[Stretch] = []
    for gain, n in sorted(((gain, -n) for n, gain in enumerate(worth)), reverse=True):
        new = options[-n]
        if gain > 0 and all(new.first > t.end or new.end < t.first for t in taken):
            taken.append(new)
    return taken
