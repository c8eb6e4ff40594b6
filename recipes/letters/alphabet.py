"""What the letter canvas writes: Latin and Devanagari letters as written, Mandarin as sounds and as Hanzi."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LEAST = 5  # times that a letter has to occur in the training texts
_HANZI = re.compile(r"[\u4e00-\u9fff]")


def letters_of(text: str) -> list[str]:
    """Lower-case letters, marks and single spaces; punctuation is left to later passes."""
    text = unicodedata.normalize("NFC", text.lower()).replace("’", "'")
    return list(
        " ".join(re.sub(r"[^\w\s'\u0900-\u0963\u0966-\u097f]|[ªº]", " ", text).replace("_", " ").split())
    )


def hanzi_of(text: str) -> list[str]:
    """The Hanzi of a text; none if it holds other letters or digits, which nobody could hear from them."""
    if re.search(r"[^\W\u4e00-\u9fff]", text):
        return []
    return _HANZI.findall(text)


def sounds_of(text: str) -> list[str]:
    """Initials and toned finals of Mandarin, two symbols a syllable at most: 'zh', 'ong1', 'g', 'uo2'."""
    from pypinyin import Style, lazy_pinyin

    hanzi = "".join(hanzi_of(text))
    initials = lazy_pinyin(hanzi, style=Style.INITIALS, strict=False)
    finals = lazy_pinyin(hanzi, style=Style.FINALS_TONE3, strict=False, neutral_tone_with_five=True)
    return [f"<{part}>" for pair in zip(initials, finals, strict=True) for part in pair if part]


def symbols_of(text: str, language: str) -> list[str]:
    """What stands on the letter canvas for a text."""
    return sounds_of(text) if language == "zh" else letters_of(text)


@dataclass(frozen=True)
class Alphabet:
    """Symbols of the letter canvas and of its second output, Hanzi; number 0 is null in both."""

    letters: tuple[str, ...]
    hanzi: tuple[str, ...]

    @classmethod
    def collect(cls, texts: Iterable[tuple[str, str]]) -> Alphabet:
        """Every symbol that occurs often enough in (text, language) pairs; Hanzi all."""
        letters: Counter[str] = Counter()
        hanzi: Counter[str] = Counter()
        for text, language in texts:
            if language == "zh":
                hanzi.update(hanzi_of(text))
            if not re.search(r"\d", text):
                letters.update(symbols_of(text, language))
        common = (s for s, n in letters.most_common() if n >= LEAST)
        return cls(("", *common), ("", *(s for s, _ in hanzi.most_common())))

    def encode(self, text: str, language: str) -> list[int] | None:
        """Numbers of a text's symbols; None if one is missing or it holds digits."""
        symbols = symbols_of(text, language)
        if re.search(r"\d", text) or any(s not in self._letters for s in symbols):
            return None
        return [self._letters[s] for s in symbols]

    def encode_hanzi(self, text: str) -> list[int]:
        """Numbers of a text's Hanzi; [] if one is missing."""
        symbols = hanzi_of(text)
        return [self._hanzi[s] for s in symbols] if all(s in self._hanzi for s in symbols) else []

    @cached_property
    def _letters(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.letters)}

    @cached_property
    def _hanzi(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.hanzi)}

    def save(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps({"letters": self.letters, "hanzi": self.hanzi}, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> Alphabet:
        """What ``save`` wrote."""
        stored = json.loads(path.read_text(encoding="utf8"))
        return cls(tuple(stored["letters"]), tuple(stored["hanzi"]))
