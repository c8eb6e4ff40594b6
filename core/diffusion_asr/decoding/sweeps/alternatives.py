"""A round of alternatives in three parallel passes: re-noised copies of the canvas, compared bit by bit.

Sweeps leave words that are wrong in the same direction as their surroundings, and tokens of the draft that
the slack kept. Here other tokens for doubtful places are dealt out to a few copies of the canvas, put in by
time, swept twice side by side (the new tokens fixed) and read. Where a copy differs from the text, the
likelier stretch is taken: the reader's log-probability of it and of what follows, CTC's of the whole text
over the draft's slots (hybrid CTC/attention: Watanabe et al. 2017), and a little for each token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from diffusion_asr.decoding.sweeps.rule import Judgement, SweepRule, Timed, next_place

PASSES = 3  # of a round, after the reading of the text


@dataclass(frozen=True, slots=True)
class AlternativesRule:
    """Constants of a round.

    Attributes:
        copies: At most so many.
        apart: Tokens between the changed places of a copy.
        gap: Nats by which another token may be less likely than the one that stands there.
        each: Other tokens of a place.
        tail: Tokens after a stretch whose likelihood counts with it.
        sweeps: Over the copies, before they are read.
        ctc: Weight of CTC's log-probability beside the reader's.
        longer: Nats for each token: the likelihood of a text favours short ones.
    """

    copies: int = 8
    apart: int = 8
    gap: float = 4.0
    each: int = 3
    tail: int = 3
    sweeps: int = 2
    ctc: float = 0.08
    longer: float = 0.5


@dataclass(frozen=True, slots=True)
class Doubt:
    """Another token for a place, ``gap`` nats from the one that stands there."""

    gap: float
    place: int
    token: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """``tokens`` instead of the text's from ``first`` to ``end``; ``gain`` in nats by the reader."""

    gain: float
    first: int
    end: int
    tokens: tuple[int, ...]
    times: tuple[float, ...]


def deal_doubts(doubts: Sequence[Doubt], rule: AlternativesRule) -> list[dict[int, int]]:
    """Copies as place to new token: the most doubtful first, each into the first copy with room for it."""
    copies: list[dict[int, int]] = [{} for _ in range(rule.copies)]
    for doubt in sorted(doubts, key=lambda d: (d.gap, d.place, d.token)):
        for copy in copies:
            if all(abs(doubt.place - other) >= rule.apart for other in copy):
                copy[doubt.place] = doubt.token
                break
    return [copy for copy in copies if copy]


def put_in(canvas: Timed, heard: Sequence[float], copy: dict[int, int], rule: SweepRule) -> Timed:
    """The canvas with a copy's tokens put in by time, as in a sweep."""
    tokens: list[int] = []
    times: list[float] = []
    at, todo = 0, dict(copy)
    while at < len(canvas.tokens):
        new = todo.pop(at, None)
        if new is None:
            tokens.append(canvas.tokens[at])
            times.append(canvas.times[at])
            at += 1
        else:
            tokens.append(new)
            times.append(heard[at])
            at = next_place(canvas, at, new, heard[at], rule)
    return Timed(tuple(tokens), tuple(times))


def hold(said: Judgement, canvas: Timed, fixed: frozenset[int]) -> Judgement:
    """A judgement under which ``fixed`` tokens stay."""
    behind = [0.0 if token in fixed else gap for gap, token in zip(said.behind, canvas.tokens, strict=False)]
    return Judgement([*behind, said.behind[-1]], said.best, said.heard)


def find_stretches(
    text: Timed, own: Sequence[float], copy: Timed, theirs: Sequence[float], tail: int
) -> list[Stretch]:
    """Where a copy differs; ``own`` and ``theirs`` are log-probabilities of tokens and of the end."""
    found = []
    matcher = SequenceMatcher(None, text.tokens, copy.tokens, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            gain = sum(theirs[c : d + tail]) - sum(own[a : b + tail])
            found.append(Stretch(gain, a, b, copy.tokens[c:d], copy.times[c:d]))
    return found


def apply_stretches(text: Timed, stretches: Sequence[Stretch]) -> Timed:
    """The text with stretches that do not touch each other."""
    tokens, times = list(text.tokens), list(text.times)
    for stretch in sorted(stretches, key=lambda s: -s.first):
        tokens[stretch.first : stretch.end] = stretch.tokens
        times[stretch.first : stretch.end] = stretch.times
    return Timed(tuple(tokens), tuple(times))


def choose_stretches(
    text: Timed,
    stretches: Sequence[Stretch],
    ctc_chances: Callable[[Sequence[Sequence[int]]], list[float]],
    rule: AlternativesRule,
) -> list[Stretch]:
    """The best gains that do not touch, by reader, CTC and length."""
    options = sorted({(s.first, s.end, s.tokens): s for s in stretches}.values(), key=lambda s: s.first)
    texts = [apply_stretches(text, [option]).tokens for option in options]
    before, *after = ctc_chances([text.tokens, *texts])
    worth = [
        option.gain + rule.ctc * (chance - before) + rule.longer * (len(whole) - len(text.tokens))
        for option, chance, whole in zip(options, after, texts, strict=True)
    ]
    taken: list[Stretch] = []
    for gain, _, option in sorted(zip(worth, range(len(options)), options, strict=True), reverse=True):
        if gain > 0 and all(option.first > t.end or option.end < t.first for t in taken):
            taken.append(option)
    return taken
