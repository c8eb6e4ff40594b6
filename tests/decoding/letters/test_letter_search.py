"""The prefix beam search: sums over alignments, and what a language model changes."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_asr.decoding.letters.search import SearchRule, add_chances, search_text

SPACE, A, B = 1, 2, 3
PLAIN = SearchRule(weight=0.0, bonus=0.0, width=200, least=-100.0, idle=1.1, context=2)


def flat(_: tuple[int, ...]) -> NDArray[np.float64]:
    return np.full(4, np.log(0.25))


def rows(seed: int, slots: int) -> NDArray[np.float32]:
    drawn = np.random.default_rng(seed).normal(size=(slots, 4)) * 2
    rows: NDArray[np.float32] = (drawn - np.log(np.exp(drawn).sum(1, keepdims=True))).astype(np.float32)
    return rows


def likeliest_text(chances: NDArray[np.float32]) -> tuple[int, ...]:
    """By all alignments."""
    sums: dict[tuple[int, ...], float] = {}
    for path in product(range(4), repeat=len(chances)):
        text = tuple(letter for letter, _ in groupby(path) if letter)
        sums[text] = sums.get(text, 0.0) + float(np.exp(sum(chances[n, x] for n, x in enumerate(path))))
    return max(sums, key=lambda text: sums[text])


@pytest.mark.parametrize("seed", range(8))
def test_without_a_model_it_is_the_likeliest_text_of_all_alignments(seed: int) -> None:
    found = rows(seed, 5)
    assert search_text(found, flat, SPACE, PLAIN) == likeliest_text(found)


def test_letters_repeat_only_across_a_null() -> None:
    sure = np.full((4, 4), -20.0, np.float32)
    for n, letter in enumerate((A, A, 0, A)):
        sure[n, letter] = 0.0
    assert search_text(sure, flat, SPACE, PLAIN) == (A, A)


def test_the_model_decides_where_the_slots_do_not() -> None:
    unsure = np.log(np.array([[0.02, 0.02, 0.49, 0.47]], np.float32))

    def prefers_b(before: tuple[int, ...]) -> NDArray[np.float64]:
        assert before == (SPACE,) or before[-1] != SPACE
        chances: NDArray[np.float64] = np.log(np.array([0.01, 0.04, 0.05, 0.9]))
        return chances

    assert search_text(unsure, flat, SPACE, PLAIN) == (A,)
    assert search_text(unsure, prefers_b, SPACE, SearchRule(weight=0.5, context=2)) == (B,)


def test_silence_is_no_text() -> None:
    silence = np.full((6, 4), -12.0, np.float32)
    silence[:, 0] = 0.0
    assert search_text(silence, flat, SPACE, SearchRule(context=2)) == ()


def test_chances_add() -> None:
    assert add_chances(np.log(0.25), np.log(0.5)) == pytest.approx(np.log(0.75))
    assert add_chances(-np.inf, -1.0) == add_chances(-1.0, -np.inf) == -1.0
