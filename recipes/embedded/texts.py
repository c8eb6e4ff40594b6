"""Sentences to speak: loading, cleaning, and keeping dev texts out of training."""

from __future__ import annotations

import gzip
import json
import random
import re
import unicodedata
from pathlib import Path

LANGUAGES = ("en", "de", "fr", "es", "hi", "zh")

_LATIN = re.compile(r"^[a-zà-öø-ÿœßA-ZÀ-ÖØ-ÞŒẞ0-9 .,;:!?'’\"„“”«»()¿¡–—-]+$")
_HINDI = re.compile(r"^[\u0900-\u097f0-9 .,;:!?'\"“”‘’()–—-]+$")
_CHINESE = re.compile(r"^[\u4e00-\u9fff0-9，。？！、；：“”《》（）…—]+$")
_ALLOWED = {"hi": _HINDI, "zh": _CHINESE}
_LENGTHS = {"zh": (4, 45), "hi": (8, 140)}  # characters; others below
_QUOTES = str.maketrans({"„": '"', "“": '"', "”": '"', "«": '"', "»": '"', "’": "'", "‘": "'"})


def key(text: str) -> str:
    """A comparison key: letters, marks and digits only, lower case."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def clean(text: str) -> str:
    """Plain quotes and single spaces; everything else stays as it was written."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    text = text.replace('"', "")  # unpaired as often as not, and nobody hears them
    return " ".join(text.split()).strip(" -–—\u2060")


def speakable(text: str, language: str) -> bool:
    """Whether every synthesiser can read this sentence as it is written."""
    low, high = _LENGTHS.get(language, (12, 160))
    return low <= len(text) <= high and bool(_ALLOWED.get(language, _LATIN).match(text))


def dev_keys(manifest: Path) -> set[str]:
    """Keys of every dev text in a NeMo-style manifest: these are never spoken for training."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf8").splitlines()]
    return {key(row["text"]) for row in rows if row["split"] == "dev" and row["text"]}


def sentences(folder: Path, language: str, exclude: set[str], seed: int = 0) -> list[str]:
    """Cleaned, distinct sentences of one language in a fixed random order."""
    with gzip.open(folder / f"{language}.txt.gz", "rt", encoding="utf8") as lines:
        cleaned = {clean(line): None for line in lines}
    kept = [s for s in cleaned if speakable(s, language) and key(s) not in exclude]
    random.Random(seed).shuffle(kept)
    return kept
