"""Spaces between words: none around Hanzi."""

from __future__ import annotations

from diffusion_asr.languages import is_han, is_wide
from diffusion_asr.transcript import Word

__all__ = ["is_han", "is_wide", "join_words"]


def join_words(words: tuple[Word, ...]) -> str:
    """The text of some words: spaces between them, but none around a word that starts with a Hanzi."""
    text, before = "", ""
    for word in words:
        glued = not text or is_han(word.text) or is_han(before) or is_wide(text[-1])
        text += word.text if glued else " " + word.text
        before = word.text
    return text
