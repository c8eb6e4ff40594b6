"""Measuring by how much word times run ahead."""

from __future__ import annotations

import pytest

from recipes.embedded.lag import Timed, differences


def timed(text: str, first: float) -> list[Timed]:
    return [Timed(word, first + n) for n, word in enumerate(text.split())]


def test_words_that_both_heard_are_compared_from_a_second_on() -> None:
    reference = timed("So, the old house stands here today.", 0.5)
    found = timed("so the odd house stands heir today", 0.2)
    assert differences(reference, found, 1.0) == pytest.approx([0.3] * 4)  # the house stands today
    assert differences(reference, found, 0.0) == pytest.approx([0.3] * 5)


def test_words_put_in_or_left_out_shift_nothing() -> None:
    reference, found = timed("one two three four five", 0.0), timed("one three four and five", 0.0)
    assert differences(reference, found, 0.0) == pytest.approx([0.0, 1.0, 1.0, 0.0])
    assert differences(reference, [], 0.0) == []
