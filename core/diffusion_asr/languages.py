"""The six languages and how they are written; the one place that lists them."""

from __future__ import annotations

NAMES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "hi": "Hindi",
    "zh": "Mandarin Chinese",
}
LANGUAGES = tuple(NAMES)
_UNSPACED = frozenset({"zh"})
_SYLLABIC = frozenset({"hi"})  # scripts whose letters join to syllables: Devanagari


def is_spaced(language: str | None) -> bool:
    """Whether words stand apart by spaces; a language that is not known here is taken to do so."""
    return language not in _UNSPACED


def is_syllabic(language: str | None) -> bool:
    """Whether its script spells syllables, for which Whisper has bytes only."""
    return language in _SYLLABIC
