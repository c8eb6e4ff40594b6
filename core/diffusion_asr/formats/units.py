"""Pieces of a text that no line end divides, with their times: words, or Hanzi with their marks."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from diffusion_asr.languages import is_glued, is_wide
from diffusion_asr.transcript import Segment, join_lines

_CLOSING = frozenset("，。、；：？！）」』】》〉”’…,.;:?!)]}»")
_OPENING = frozenset("（「『【《〈“‘([{«¿¡")
_JOINER = "\u200d"  # makes one letter of two, as in Devanagari


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of text that no line end divides: a word, or a Hanzi with its marks.

    Attributes:
        text: Without spaces around it.
        start: Seconds.
        end: Seconds.
        glued: No space stands before it.
        word: Number of its word in the segment; None where words have no times.
    """

    text: str
    start: float
    end: float
    glued: bool = False
    word: int | None = None


def has_times(segment: Segment) -> bool:
    """Whether the words are the text's own, in order of time."""
    spoken = "".join("".join(word.text.split()) for word in segment.words)
    ordered = all(a.start <= b.start for a, b in pairwise(segment.words))
    return bool(segment.words) and ordered and spoken == "".join(segment.text.split())


def list_units(segment: Segment, timed: bool, widest: int) -> Iterator[Unit]:
    """The segment's text in pieces; times within a word, or without words, are shared by width."""
    if timed:
        words = [(word.text, word.start, word.end) for word in segment.words]
    else:
        words = [(join_lines(segment.text), segment.start, segment.end)]
    opening, before = "", ""
    for number, (text, start, end) in enumerate(words):
        pieces = list(_divide_word(opening + text, widest))
        opening = ""
        if number + 1 < len(words) and pieces and _ends_open(pieces[-1][0]):
            last, glued = pieces[-1]
            pieces[-1], opening = (last[:-1], glued), last[-1]  # an opening quote goes with what follows
        total, done = sum(width(piece) for piece, _ in pieces) or 1, 0
        for place, (piece, glued) in enumerate(pieces):
            left, done = done, done + width(piece)
            yield Unit(
                piece,
                start + (end - start) * left / total,
                start + (end - start) * done / total,
                glued or (place == 0 and is_glued(before, piece)),
                number if timed else None,
            )
            before = piece


def _divide_word(text: str, widest: int) -> Iterator[tuple[str, bool]]:
    """Pieces of a text, and whether no space stands before them."""
    for part in text.split():
        for place, piece in enumerate(_pieces(part, widest)):
            yield piece, place > 0


def _ends_open(piece: str) -> bool:
    """Whether a word of a wide script ends with a mark that opens what follows."""
    return len(piece) > 1 and (piece[-1] in _OPENING and (is_wide(piece[-1]) or is_wide(piece[-2])))


def _pieces(part: str, widest: int) -> Iterator[str]:
    """Text without spaces, divided around wide letters (marks stay with them), and where it is too wide."""
    piece = ""
    for letter in part:
        wide = bool(piece) and (is_wide(letter) or is_wide(piece[-1])) and piece[-1] not in _OPENING
        if wide and not _joins(letter):
            yield piece
            piece = ""
        elif piece and width(piece) + width(letter) > widest:
            cut = _last_break(piece + letter)
            yield piece[:cut]
            piece = piece[cut:]
        piece += letter
    if piece:
        yield piece


def _joins(letter: str) -> bool:
    """Whether a letter belongs to the one before it."""
    return letter in _CLOSING or letter == _JOINER or unicodedata.category(letter)[0] == "M"


def _last_break(text: str) -> int:
    """The last place in a text where a line may begin; its last letter if there is none."""
    for place in range(len(text) - 1, 0, -1):
        if not _joins(text[place]) and text[place - 1] not in _OPENING:
            return place
    return len(text) - 1


def width(text: str) -> int:
    """Columns of a text."""
    return sum(2 if is_wide(letter) else 1 for letter in text)


def join_units(units: Sequence[Unit], show: Callable[[Unit], str] = lambda unit: unit.text) -> str:
    """The text of units in a row, each as ``show`` writes it."""
    text = ""
    for place, unit in enumerate(units):
        text += show(unit) if unit.glued or place == 0 else f" {show(unit)}"
    return text
