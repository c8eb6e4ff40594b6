"""Spaces between words: none around Hanzi."""

from __future__ import annotations

import unicodedata

from diffusion_asr.transcript import Word


def is_han(text: str) -> bool:
    """Whether it begins with a Hanzi."""
    return bool(text) and "\u3400" <= text[0] <= "\u9fff"


def join_words(words: tuple[Word, ...]) -> str:
    """The text of some words: spaces between them, but none around a word that starts with a Hanzi."""
    text, before = "", ""
    for word in words:
        glued = not text or is_han(word.text) or is_han(before) or is_wide(text[-1])
        text += word.text if glued else " " + word.text
        before = word.text
    return text


def is_wide(letter: str) -> bool:
    """Whether a letter is as wide as a Hanzi: full-width marks, kana."""
    return unicodedata.east_asian_width(letter) in "WF"
