"""The rule of a sweep: which tokens stay, and what a new one replaces. Pure functions over lists.

A token stays if the pass finds it at most ``slack`` nats less likely than the best one. The first rejected
token of every burst of errors is replaced, in all bursts at once; those behind it were read after a wrong
prefix and wait for the next pass. *Time* says what a new token replaces: the old ones said no later than it.
So passes follow the longest burst of errors, not the length of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from diffusion_asr.decoding.causal.model import END

USUAL_OFFSET = 0.45  # seconds by which canvas-base's draft runs ahead


@dataclass(frozen=True, slots=True)
class SweepRule:
    """Constants of the rule.

    Attributes:
        slack: Nats; see the module's text.
        evidence: Largest weight of the draft's slots near the time at which the decoder listens.
        doubtful: Mean probability of a draft's tokens up to which its slots have no say.
        trust: Weight that the slots gain for each unit of that mean above it.
        near: Slots on both sides of that time.
        floor: Least log-probability that a slot may give a token.
        ending: Nats by which the end of text is less likely inside a text, and more likely after it.
        later: Seconds after a new token in which an old one still counts as said no later.
        replaced: At most so many old tokens are replaced by a new one.
        ahead: So many tokens further on, the new token is looked for: if it stands there at about the same
            time (``same`` seconds), what lies between was superfluous.
        same: See ``ahead``.
        jump: Seconds; a time that a pass tells anew is believed if it is no further from the old one.
        sweeps: At most so many before the first round of alternatives.
        rounds: At most so many.
    """

    slack: float = 0.7
    evidence: float = 0.4
    doubtful: float = 0.7
    trust: float = 4.0
    near: int = 2
    floor: float = -6.0
    ending: float = 3.0
    later: float = 0.06
    replaced: int = 3
    ahead: int = 4
    same: float = 0.6
    jump: float = 0.8
    sweeps: int = 8
    rounds: int = 4


@dataclass(frozen=True, slots=True)
class Timed:
    """A canvas of tokens, each with the second at which it is heard."""

    tokens: tuple[int, ...] = ()
    times: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a pass, with all evidence, says about a canvas of N tokens; all lists have N + 1 entries.

    Attributes:
        behind: Nats by which the token that stands there is less likely than the best one; the last entry is
            the end's.
        best: The likeliest token, or ``END``.
        heard: Second at which the decoder listens.
        chances: Log-probability by the decoder alone of the token that stands there.
        others: The likeliest tokens, each after the nats by which it is less likely than what stands there.
        listening: Weights (T,) with which the alignment heads attend to each encoder frame.
    """

    behind: list[float]
    best: list[int]
    heard: list[float]
    chances: list[float] = field(default_factory=list)
    others: list[tuple[tuple[float, int], ...]] = field(default_factory=list)
    listening: list[Tensor] = field(default_factory=list)

    @property
    def _columns(self) -> tuple[list[Any], ...]:
        return self.behind, self.best, self.heard, self.chances, self.others, self.listening

    def cut(self, first: int, end: int) -> Judgement:
        """Of the places from ``first`` to ``end``."""
        return Judgement(*(column[first:end] for column in self._columns))

    def splice(self, first: int, end: int, other: Judgement) -> Judgement:
        """With ``other`` for the places from ``first`` to ``end``."""
        pairs = zip(self._columns, other._columns, strict=True)
        return Judgement(*([*mine[:first], *theirs, *mine[end:]] for mine, theirs in pairs))


def join_judgements(parts: Sequence[Judgement]) -> Judgement:
    """Of places that follow each other."""
    columns = zip(*(part._columns for part in parts), strict=True)
    return Judgement(*([row for column in same for row in column] for same in columns))


def repair(canvas: Timed, said: Judgement, rule: SweepRule) -> Timed:
    """The canvas after one sweep: every burst of errors is repaired at its beginning."""
    tokens, times = canvas.tokens, canvas.times
    out: list[int] = []
    seconds: list[float] = []
    at, agreed, untouched = 0, True, True
    while at <= len(tokens):
        rejected = said.behind[at] > rule.slack
        new = said.best[at]
        if rejected and agreed and new == END and untouched and at < len(tokens):
            break  # nothing before it is in doubt: the text ends here
        if not (rejected and agreed) or new == END:
            if at < len(tokens):
                out.append(tokens[at])
                seconds.append(times[at])
            agreed, at = not rejected, at + 1
            continue
        agreed = untouched = False
        out.append(new)
        seconds.append(said.heard[at])
        if at == len(tokens):
            break
        following = next_place(canvas, at, new, said.heard[at], rule)
        if following == at:  # put in before a token, which is kept
            out.append(tokens[at])
            seconds.append(times[at])
            following = at + 1
        at = following
    return Timed(tuple(out), tuple(seconds))


def next_place(canvas: Timed, at: int, new: int, heard: float, rule: SweepRule) -> int:
    """Where the old canvas goes on after ``new``, said at ``heard``, was put at place ``at``."""
    tokens, times, size = canvas.tokens, canvas.times, len(canvas.tokens)
    for place in range(at + 1, min(size, at + 1 + rule.ahead)):
        if tokens[place] == new and abs(times[place] - heard) <= rule.same:
            return place + 1
    end = at
    while end < min(size, at + rule.replaced) and times[end] <= heard + rule.later:
        end += 1
    return end


def retime(canvas: Timed, said: Judgement, rule: SweepRule) -> Timed:
    """Tokens whose neighbourhood is agreed on take the time at which the decoder listens for them."""
    times = list(canvas.times)
    for n in range(1, len(times)):
        agreed = max(said.behind[n], said.behind[n - 1]) <= rule.slack
        if agreed and abs(said.heard[n] - times[n]) < rule.jump:
            times[n] = said.heard[n]
    return Timed(canvas.tokens, tuple(times))


def measure_offset(canvas: Timed, said: Judgement, rule: SweepRule) -> float:
    """Seconds by which the draft writes words down before they are heard, by what is agreed on."""
    shifts = [
        said.heard[n] - canvas.times[n]
        for n in range(1, len(canvas.tokens))
        if max(said.behind[n], said.behind[n - 1]) <= rule.slack
    ]
    return median(shifts) if len(shifts) >= 3 else USUAL_OFFSET


def median(values: Sequence[float]) -> float:
    """The middle value; of two, their mean."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
