"""Speakers in texts that have no field for them: ``[Name]: text``, as WhisperX writes them.

Every text of a file is marked or none is, so that a reader need not guess what is a name: "Remember: close
the door" says nothing about who speaks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from diffusion_asr.formats.base import UNKNOWN, name_from, one_line

_MARK = re.compile(r"\[([^\[\]]+)\]: +(?=\S)")
_BRACKETS = str.maketrans("[]", "()")  # would end a name


def mark_speakers(speakers: Sequence[str | None], texts: Sequence[str]) -> list[str]:
    """What stands before each text: its mark, or nothing for all of them."""
    if not any(speakers) and not (texts and all(_MARK.match(text) for text in texts)):
        return [""] * len(texts)
    return [f"[{one_line(speaker or '').translate(_BRACKETS) or UNKNOWN}]: " for speaker in speakers]


def read_speakers(texts: Sequence[str]) -> list[tuple[str | None, str]]:
    """Speakers and bare texts, if every text is marked; else the texts as they are."""
    marks = [_MARK.match(text) for text in texts]
    if not all(marks):
        return [(None, text) for text in texts]
    pairs = zip(texts, marks, strict=True)
    return [(name_from(mark[1]), text[mark.end() :]) for text, mark in pairs if mark]
