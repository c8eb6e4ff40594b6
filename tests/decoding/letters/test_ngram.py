"""The language model of letters: Witten-Bell by hand, a trie of bytes, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from diffusion_asr.decoding.letters.ngram import STEPS, LetterModel, build_model, count_letters
from diffusion_asr.errors import ModelError
from diffusion_asr.models.ngrams import load_ngram, save_ngram

SPACE, A, B, C = 1, 2, 3, 4
SIZE = 5
TEXTS = [(A, B, A, B, C), (A, B, B), (C, A, B)]


def witten_bell(texts: list[tuple[int, ...]], before: tuple[int, ...], letter: int) -> float:
    """By its definition: P(l | h) = (c(hl) + n(h) P(l | h')) / (c(h) + n(h))."""
    chance = 1 / SIZE
    for size in range(len(before) + 1):
        context = before[len(before) - size :]
        following = [
            whole[n + size]
            for text in texts
            for whole in [(SPACE, *text, SPACE)]
            for n in range(len(whole) - size)
            if whole[n : n + size] == context
        ]
        if not following:
            break
        kinds = len(set(following))
        chance = (following.count(letter) + kinds * chance) / (len(following) + kinds)
    return chance


@pytest.mark.parametrize("before", [(), (A,), (B,), (SPACE, A), (A, B), (C, C), (B, A, B), (SPACE, C)])
def test_chances_are_witten_bells(before: tuple[int, ...]) -> None:
    model = build_model(count_letters(TEXTS, SPACE, 4), SIZE, least=1)
    found = np.exp(model.chances(before))
    expected = [witten_bell(TEXTS, before, letter) for letter in range(SIZE)]
    assert found == pytest.approx(expected, rel=4 / STEPS)  # weights are rounded
    assert found.sum() == pytest.approx(1, abs=0.05)


def test_rare_strings_are_left_out_and_their_share_goes_to_shorter_ones() -> None:
    counts = count_letters(TEXTS, SPACE, 3)
    whole, pruned = build_model(counts, SIZE, least=1), build_model(counts, SIZE, least=2)
    assert len(pruned.letters) < len(whole.letters)
    assert np.exp(pruned.chances((A, B))).sum() == pytest.approx(1, abs=0.05)
    # "abc" occurs once: what is left of it is what "bc" and "c" say.
    assert pruned.chances((A, B))[C] < whole.chances((A, B))[C]


def test_a_model_comes_back_from_its_file(tmp_path: Path) -> None:
    model = build_model(count_letters(TEXTS, SPACE, 3), SIZE)
    save_ngram(tmp_path / "ngram.safetensors", model)
    again = load_ngram(tmp_path / "ngram.safetensors", SIZE)
    assert np.array_equal(again.chances((A, B)), model.chances((A, B)))


@pytest.mark.parametrize(
    ("letters", "children", "weights"),
    [
        ([1, 2], [3, 0], [1, 1]),  # more children than nodes
        ([1, 2], [0], [1, 1]),  # columns of unequal length
        ([1, 9], [0, 0], [1, 1]),  # a letter beyond the alphabet
        ([2, 1], [0, 0], [1, 1]),  # out of order: it would not be found
        ([1, 1], [0, 0], [1, 1]),
    ],
)
def test_broken_models_are_refused(
    letters: list[int], children: list[int], weights: list[int], tmp_path: Path
) -> None:
    columns = [np.array(each, np.uint8) for each in (letters, children, weights)]
    with pytest.raises(ValueError, match="letter model"):
        LetterModel(SIZE, *columns)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ngram.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="no language model of letters"):
        load_ngram(tmp_path / "ngram.safetensors", SIZE)
    with pytest.raises(ModelError, match="no language model of letters"):
        load_ngram(tmp_path / "missing.safetensors", SIZE)


def test_the_logarithm_of_a_certain_letter_is_near_zero() -> None:
    model = build_model(count_letters([(A,) * 50], SPACE, 2), SIZE)
    assert model.chances((A,))[A] == pytest.approx(math.log(49 / 52), abs=0.1)
