"""The text that words make: where spaces stand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Word


def word(text: str) -> Word:
    return Word(text, 0.0, 1.0)


@pytest.mark.parametrize(
    ("texts", "whole"),
    [
        (["a", "b."], "a b."),
        (["你", "好，", "Python", "写。"], "你好，Python写。"),
        (["好。", "好"], "好。好"),
        (["a.", "b"], "a. b"),
        (["नमस्ते", "।"], "नमस्ते ।"),
    ],
)
def test_words_are_joined(texts: Sequence[str], whole: str) -> None:
    assert join_words(tuple(word(t) for t in texts)) == whole
