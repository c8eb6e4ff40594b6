"""Spaces between words: none around Hanzi."""

from __future__ import annotations

from diffusion_asr.languages import is_glued, is_han
from diffusion_asr.transcript import Word

__all__ = ["is_han", "join_words"]


def join_words(words: tuple[Word, ...]) -> str:
    """The text of some words: spaces between them, but none around a word that starts with a Hanzi."""
    text, before = "", ""
    for word in words:
        text += word.text if not text or is_glued(before, word.text) else " " + word.text
        before = word.text
    return text
