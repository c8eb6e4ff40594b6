"""CTC prefix beam search with a language model of letters (Graves & Jaitly 2014; Hannun et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEVER = -math.inf
Chances = Callable[[tuple[int, ...]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class SearchRule:
    """Constants of the search.

    Attributes:
        weight: Of the language model's log-probability beside the slots'.
        bonus: Nats for each letter: the language model favours short texts.
        width: Texts that are kept after each slot.
        least: Log-probability from which a slot's letter is tried.
        idle: Probability of null from which a slot adds no letter.
        context: Letters that the language model looks back.
    """

    weight: float = 0.5
    bonus: float = 1.0
    width: int = 24
    least: float = -6.0
    idle: float = 0.99
    context: int = 5


def search_text(rows: NDArray[np.float32], chances: Chances, space: int, rule: SearchRule) -> tuple[int, ...]:
    """The likeliest letters by slots and language model together.

    Args:
        rows: (L, V) log-probabilities of the slots' letters; 0 is null.
        chances: (V,) log-probabilities of the next letter after some; see ``LetterModel.chances``.
        space: The letter between words, with which texts begin for the language model.
        rule: Constants.
    """
    beams: dict[tuple[int, ...], tuple[float, float, float]] = {(): (0.0, NEVER, 0.0)}
    idle = math.log(rule.idle)
    for row in rows:
        near = [] if row[0] > idle else [int(n) for n in np.flatnonzero(row[1:] > rule.least) + 1]
        grown: dict[tuple[int, ...], tuple[float, float, float]] = {}
        for text, (null, letter, told) in beams.items():
            both = add_chances(null, letter)
            _add(grown, text, both + float(row[0]), NEVER, told)
            if not near:
                continue
            model = chances(((space, *text) if len(text) < rule.context else text)[-rule.context :])
            for new in near:
                heard = float(row[new])
                longer = told + rule.weight * float(model[new]) + rule.bonus
                if text and text[-1] == new:
                    _add(grown, text, NEVER, letter + heard, told)
                    _add(grown, (*text, new), NEVER, null + heard, longer)
                else:
                    _add(grown, (*text, new), NEVER, both + heard, longer)
        worth = sorted(grown.items(), key=lambda item: -add_chances(item[1][0], item[1][1]) - item[1][2])
        beams = dict(worth[: rule.width])

    def worth_whole(item: tuple[tuple[int, ...], tuple[float, float, float]]) -> float:
        """With the end of the last word."""
        text, (null, letter, told) = item
        ends = bool(text) and text[-1] != space
        model = rule.weight * float(chances(text[-rule.context :])[space]) if ends else 0.0
        return add_chances(null, letter) + told + model

    return max(beams.items(), key=worth_whole)[0]


def add_chances(a: float, b: float) -> float:
    """log(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a if b == NEVER else a + math.log1p(math.exp(b - a))


def _add(
    beams: dict[tuple[int, ...], tuple[float, float, float]],
    text: tuple[int, ...],
    null: float,
    letter: float,
    told: float,
) -> None:
    known = beams.get(text)
    if known is None:
        beams[text] = (null, letter, told)
    else:
        beams[text] = (add_chances(known[0], null), add_chances(known[1], letter), known[2])
