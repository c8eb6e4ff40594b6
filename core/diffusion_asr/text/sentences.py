"""Where a sentence ends: after which word, told by its marks and by the word that follows."""

from __future__ import annotations

import re

# These end a sentence wherever they stand: CJK marks, dandas, Urdu's and Arabic's.
_ALWAYS = "。｡！？।॥۔؟"
_MOSTLY = ".?!…"  # unless the sentence plainly goes on
_CLOSING = "\"'“”’»›)]}」』】》〉）］ "
_OPENING = "\"'“‘«‹([{「『【《〈（［„‚¿¡-–— "
_INITIAL = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]|[A-Z]")  # z.B. or U.S. or J., without the last dot
_ORDINAL = re.compile(r"\d{1,2}")
_ORDINALS = frozenset({"de"})  # languages that write "3." for "third"

# Without their last dot. What also ends sentences ("etc.", "Jr.") does so before a capital letter.
_ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof st vs no nos vol fig gen col sgt capt lt rev hon gov sen rep mt ave approx dept
    hr fr nr bzw ca evtl ggf inkl vgl sog str tel abs bd zzgl usw
    mme mlle mgr cf av bd env
    sr sra srta dra ud uds núm pág aprox avda
    डॉ श्री प्रो
    """.split()  # noqa: SIM905 - a list of so many is worse to read
)
_CLOSERS = frozenset({"no", "usw", "str"})  # words of their own, or ends of lists: dots after these do end


def ends_sentence(
    text: str, following: str | None, language: str | None = None, paused: bool = False
) -> bool:
    """Whether a sentence ends between two words.

    Args:
        text: What comes before, at least its last words, marks attached: ``dismay.``, ``他说。``, ``"No!"``.
        following: The next word, None if there is none.
        language: A code, if it is known.
        paused: The speaker makes a pause there.
    """
    bare = text.rstrip(_CLOSING)
    if not bare or bare[-1] not in _ALWAYS + _MOSTLY:
        return False
    if following is None:
        return True
    if not following.strip(_CLOSING):
        return False  # French sets its quotes apart: « Bien. »
    if bare[-1] in _ALWAYS:
        return True
    begin = following.lstrip(_OPENING)[:1]
    if begin.islower() and not paused:
        return False  # "Yahoo! is", "... and then", "e.g. this"
    if not bare.endswith("."):
        return True
    stem = bare[:-1].split()[-1].lstrip(_OPENING) if bare[:-1].strip() else ""
    if language in _ORDINALS and _ORDINAL.fullmatch(stem):
        return False
    return not _is_abbreviation(stem, begin)


def _is_abbreviation(stem: str, begin: str) -> bool:
    """Whether the dot after ``stem`` belongs to it; ``begin`` is the next word's first letter."""
    name = stem.casefold()
    if name in _ABBREVIATIONS:
        return begin.isdigit() or name not in _CLOSERS  # "No. 5", but "I said no. Then"
    return stem != "I" and _INITIAL.fullmatch(stem) is not None  # "So do I. Then"
