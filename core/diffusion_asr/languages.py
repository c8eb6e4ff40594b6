"""The six languages, how they are written and what people call them; the one place that lists them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from diffusion_asr.errors import LanguageError

AUTO = "auto"  # a language that is to be detected
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

# Beside the code: the codes of ISO 639-2 and -3, and the names in English and in the language itself.
_OTHERWISE = {
    "en": "eng english",
    "de": "deu ger german deutsch",
    "fr": "fra fre french français francais",
    "es": "spa spanish español espanol castilian castellano",
    "hi": "hin hindi हिन्दी हिंदी",
    "zh": "zho chi cmn chinese mandarin putonghua 中文 汉语 漢語 普通话 普通話 国语 國語 华语 華語",
}
_CODES = {name: code for code, names in _OTHERWISE.items() for name in (code, *names.split())}
_CODES |= {name.casefold(): code for code, name in NAMES.items()} | {"chinese mandarin": "zh"}
# BCP 47 (RFC 5646), with the underscore and the encoding of POSIX: de-DE, zh-cmn-Hans-CN, fr_FR.UTF-8
_TAG = re.compile(r"([a-z]{2,3})((?:[-_][a-z0-9]{1,8})*)(?:\.[a-z0-9-]+)?(?:@[a-z0-9]+)?")
_TOKEN = re.compile(r"<\|(.*)\|>")  # as Whisper's and Canary's prompts name a language


def find_language(given: str | None, known: Sequence[str] = LANGUAGES) -> str | None:
    """The code of ``known`` that a person means; None if the language is to be detected.

    Args:
        given: A code, a name or a tag, in any case: ``de``, ``German``, ``Deutsch``, ``de-DE``, ``deu``,
            ``<|de|>``, ``zh_CN.UTF-8``; "auto" and None ask to detect.
        known: Codes of the languages that there are.

    Raises:
        LanguageError: It names none of them.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if given in known:
            return given
        code = _read_language(given)
        if code == AUTO:
            return None
        if found := [one for one in known if one.casefold() == code]:
            return found[0]
    listed = ", ".join(known)
    raise LanguageError(f"unknown language {given!r}; this model knows {listed}, or {AUTO} to detect")


def is_spaced(language: str | None) -> bool:
    """Whether words stand apart by spaces; a language that is not known here is taken to do so."""
    return language is None or _read_language(language) not in _UNSPACED


def is_han(text: str) -> bool:
    """Whether it begins with a Hanzi."""
    return bool(text) and "\u3400" <= text[0] <= "\u9fff"


def is_wide(letter: str) -> bool:
    """Whether a letter is as wide as a Hanzi: full-width marks, kana."""
    return unicodedata.east_asian_width(letter) in "WF"


def is_syllabic(language: str | None) -> bool:
    """Whether its script spells syllables, for which Whisper has bytes only."""
    return language is not None and _read_language(language) in _SYLLABIC


@lru_cache(maxsize=1024)
def _read_language(given: str) -> str | None:
    """The code that a name or a tag stands for, or a tag's first part; None for what is neither."""
    name = given.strip()
    if token := _TOKEN.fullmatch(name):
        name = token[1].strip()
    name = " ".join(name.casefold().replace(",", " ").split())
    if name == AUTO or name in _CODES:
        return _CODES.get(name, AUTO)
    tag = _TAG.fullmatch(name)
    if tag is None:
        return None
    code = _CODES.get(tag[1], tag[1])
    dialect = re.match(r"[-_]([a-z]{3})(?![a-z0-9])", tag[2])  # zh-yue is Cantonese
    if dialect and _CODES.get(dialect[1]) != code:
        return dialect[1]
    return code


def is_glued(before: str, word: str) -> bool:
    """Whether no space stands between a word and the one before."""
    return not before or is_han(word) or is_han(before) or is_wide(before[-1])
