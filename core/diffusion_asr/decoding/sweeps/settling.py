"""How the passes are spent: sweeps over the text, then rounds of re-noised copies swept beside it.

A pass reads the text and its copies side by side and judges every place of all of them; the rule repairs
every burst; copies that were swept enough are compared with the text, stretch by stretch. Nothing is read
from left to right, and no number here follows the length of the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from diffusion_asr.decoding.causal.model import MAX_TOKENS
from diffusion_asr.decoding.sweeps.alternatives import (
    AlternativesRule,
    CtcScorer,
    Judged,
    Letters,
    apply_stretches,
    choose_stretches,
    deal_doubts,
    find_doubts,
    find_stretches,
    force,
    hold,
)
from diffusion_asr.decoding.sweeps.rule import Judgement, SweepRule, Timed, measure_offset, repair, retime


class Reads(Protocol):
    """One parallel pass over canvases of a clip (``judge.Judge``); ``offset`` is the draft's, in seconds."""

    offset: float | None

    def read(self, canvases: Sequence[Timed]) -> list[Judgement]:
        """A judgement of each."""
        ...


@dataclass(frozen=True)
class Swept:
    """The text after a pass.

    Attributes:
        canvas: Its tokens in time.
        said: What was last said of it, if every token of it was read.
        confidence: Probability of each token; a half where it was not read yet.
    """

    canvas: Timed
    said: Judgement | None
    confidence: tuple[float, ...]


@dataclass
class _Copy:
    canvas: Timed
    fixed: frozenset[int]  # tokens that were put in


class Settler:
    """Settles one clip's text; ``ctc`` is the log-probability of texts in the draft's slots."""

    def __init__(
        self, judge: Reads, ctc: CtcScorer, letters: Letters, rule: SweepRule, alternatives: AlternativesRule
    ) -> None:
        """``letters`` tells what of a token is a matter of words."""
        self.judge, self.ctc, self.letters = judge, ctc, letters
        self.rule, self.alternatives = rule, alternatives
        self._tried: set[tuple[int, ...]] = set()

    def settle(self, canvas: Timed, most: int) -> list[Swept]:
        """The text after each of at most ``most`` passes, until nothing changes."""
        found: list[Swept] = []
        seen: set[tuple[int, ...]] = set()
        rounds = 0
        now = self._read([canvas])[0]
        while True:
            text = self._repaired(now)
            stable = text.tokens == now.canvas.tokens
            copies: list[_Copy] = []
            if self._has_room(most - len(found) - 1, len(found) + 1, rounds, stable):
                copies, rounds = self._copies(now), rounds + 1
            found.append(describe(text, now))
            if len(found) == most or not text.tokens or (stable and not copies):
                return found
            if not copies:
                now = self._read([text])[0]
                continue
            now = self._run_round(text, copies, found)
            if len(found) + 1 == most or now.canvas.tokens in seen:
                return [*found, describe(now.canvas, now)]
            seen.add(now.canvas.tokens)

    def _has_room(self, left: int, swept: int, rounds: int, stable: bool) -> bool:
        """Whether a round begins: sweeps alone bring no more, or the passes are needed for it."""
        cost = self.alternatives.sweeps + 1
        if left < cost or rounds >= self.rule.rounds:
            return False
        return stable or left == cost or rounds > 0 or swept >= self.rule.sweeps

    def _run_round(self, text: Timed, copies: Sequence[_Copy], found: list[Swept]) -> Judged:
        """Text and copies swept side by side, then read and compared; this last pass is not in ``found``."""
        for _ in range(self.alternatives.sweeps):
            now, *others = self._read([text, *(copy.canvas for copy in copies)])
            text = self._repaired(now)
            for copy, read in zip(copies, others, strict=True):
                copy.canvas = self._repaired(Judged(read.canvas, hold(read.said, read.canvas, copy.fixed)))
            found.append(describe(text, now))
        now, *others = self._read([text, *(copy.canvas for copy in copies)])
        return self._better(now, others)

    def _read(self, canvases: Sequence[Timed]) -> list[Judged]:
        """One pass; the text is the first, and its times are told anew."""
        said = self.judge.read(canvases)
        text = canvases[0]
        if self.judge.offset is None:  # the first pass
            self.judge.offset = measure_offset(text, said[0], self.rule)
            text = Timed(text.tokens, tuple(time + self.judge.offset for time in text.times))
        text = retime(text, said[0], self.rule)
        return [Judged(c, s) for c, s in zip([text, *canvases[1:]], said, strict=True)]

    def _repaired(self, read: Judged) -> Timed:
        after = repair(read.canvas, read.said, self.rule)
        return after if len(after.tokens) <= MAX_TOKENS else read.canvas

    def _copies(self, text: Judged) -> list[_Copy]:
        """The doubtful places of a text, dealt out; none is put in doubt twice in the same way."""
        doubts = find_doubts(text, self.letters, self.alternatives.gap)
        fresh = [d for d in doubts if describe_doubt(text.canvas, d.place, d.token) not in self._tried]
        copies = []
        for tokens in deal_doubts(fresh, self.alternatives):
            self._tried |= {describe_doubt(text.canvas, place, token) for place, token in tokens.items()}
            canvas = self._repaired(Judged(text.canvas, force(text.said, tokens)))
            copies.append(_Copy(canvas, frozenset(tokens.values())))
        return copies

    def _better(self, text: Judged, copies: Sequence[Judged]) -> Judged:
        """The text with what is likelier in the copies."""
        stretches = [s for copy in copies for s in find_stretches(text, copy, self.alternatives.tail)]
        if not stretches:
            return text
        return apply_stretches(text, choose_stretches(text, stretches, self.ctc, self.alternatives))


def describe_doubt(canvas: Timed, place: int, token: int) -> tuple[int, ...]:
    """Another token and what stands around its place."""
    return (token, *canvas.tokens[max(0, place - 2) : place + 3])


def describe(after: Timed, read: Judged) -> Swept:
    """The text ``after`` a pass that read another: what it kept is as likely as the pass said."""
    chances = [math.exp(min(0.0, chance)) for chance in read.said.chances]
    if after.tokens == read.canvas.tokens:
        return Swept(after, read.said, tuple(chances[: len(after.tokens)]))
    pairs = zip(read.canvas.tokens, read.canvas.times, chances, strict=False)
    known = {(token, time): chance for token, time, chance in pairs}
    confidence = (known.get(pair, 0.5) for pair in zip(after.tokens, after.times, strict=True))
    return Swept(after, None, tuple(confidence))
