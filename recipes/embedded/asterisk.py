"""Debian's Asterisk prompts: real speakers of en, es, fr (CC-BY-SA-3.0), decoded from G.722."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import soundfile as sf

from recipes.embedded.texts import sentences

SOUNDS = {"en": "en_US_f_Allison", "es": "es_MX_f_Allison", "fr": "fr_CA_f_June"}
_WORD = re.compile(r"[^\W\d_]+")
_UNSPOKEN = re.compile(r"[\[\]<>(*&%\ufffd]")  # stage directions and placeholders


def bare(text: str) -> str:
    """Without accents."""
    return "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")


def accents(lines: list[str]) -> dict[str, str]:
    """Bare word to its most frequent spelling: the Spanish prompts are written without accents."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        for word in _WORD.findall(line.lower()):
            counts[bare(word)][word] += 1
    return {word: found.most_common(1)[0][0] for word, found in counts.items()}


def _accented(text: str, table: dict[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        word = match[0]
        spelled = table.get(word.lower(), word.lower())
        return spelled.capitalize() if word[0].isupper() else spelled

    return _WORD.sub(one, text)


def prompts(language: str) -> dict[str, str]:
    """Prompt name to text, from the package's list."""
    path = Path(f"/usr/share/doc/asterisk-core-sounds-{language}/core-sounds-{language}.txt.gz")
    with gzip.open(path, "rt", encoding="utf8", errors="replace") as lines:
        pairs = (line.strip().split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
        return {name.strip(): " ".join(text.split()) for name, text in pairs}


def decode(source: Path, target: Path) -> float:
    """G.722 to 16 kHz FLAC; returns seconds."""
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "g722", "-i", str(source)]
    subprocess.run([*command, "-ar", "16000", "-ac", "1", str(target)], check=True)
    return float(sf.info(target).duration)


def build(work: Path, shared: Path) -> None:
    """Write ``work/asterisk/*.flac`` and a manifest."""
    out = work / "asterisk"
    out.mkdir(parents=True, exist_ok=True)
    table = accents(sentences(shared / "data/text", "es", set()))
    rows: list[dict[str, Any]] = []
    for language, speaker in SOUNDS.items():
        for name, text in prompts(language).items():
            source = Path("/usr/share/asterisk/sounds") / speaker / f"{name}.g722"
            if not source.exists() or not re.search(r"\w{2}", text) or _UNSPOKEN.search(text):
                continue
            target = out / f"{language}-{name.replace('/', '_')}.flac"
            seconds = decode(source, target)
            if not 0.3 < seconds < 25:
                continue
            text = _accented(text, table) if language == "es" else text
            row = {"audio_filepath": target.name, "duration": round(seconds, 3), "lang": language}
            row |= {"text": text[0].upper() + text[1:], "speaker": speaker}
            rows.append(row | {"source": "Debian asterisk prompts", "split": "train"})
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    (out / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    print(f"{len(rows)} prompts, {sum(r['duration'] for r in rows) / 3600:.2f} h")
