"""Whisper base as a teacher: its greedy text on unlabelled real speech, where it is confident.

Where a text is given it is only checked: some recordings say what an older text said.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from rapidfuzz.distance import Levenshtein

from recipes.embedded.texts import key

_SCRIPT = {"hi": re.compile(r"[\u0900-\u097f]"), "zh": re.compile(r"[\u4e00-\u9fff]")}
_FAR = 0.5  # of a given text's letters that the teacher may hear differently


def trusted(segments: list[Any], text: str, language: str) -> bool:
    """Confident, not a loop, and in the language's script."""
    if not segments or len(text) < 4:
        return False
    script = _SCRIPT.get(language, re.compile(r"[A-Za-zÀ-ÿ]"))
    return (
        min(s.avg_logprob for s in segments) > -0.5
        and max(s.compression_ratio for s in segments) < 2.2
        and max(s.no_speech_prob for s in segments) < 0.5
        and bool(script.search(text))
    )


def agrees(given: str, heard: str) -> bool:
    """Whether a written text may be what was said."""
    return Levenshtein.normalized_distance(key(given), key(heard)) <= _FAR


def candidates(work: Path, shared: Path) -> list[dict[str, Any]]:
    """Clips to listen to, with absolute paths: unlabelled ones of shared data, and all found ones."""
    rows = []
    for manifest in (shared.resolve() / "data/speech/manifest.jsonl", work / "found/clips.jsonl"):
        lines = manifest.read_text(encoding="utf8").splitlines() if manifest.exists() else []
        given = [json.loads(line) for line in lines]
        rows += [
            row | {"audio_filepath": str(manifest.parent / row["audio_filepath"])}
            for row in given
            if row["split"] == "train" and (row["text"] is None or manifest.name == "clips.jsonl")
        ]
    return rows


def pseudo_label(work: Path, shared: Path, threads: int = 1) -> None:
    """Write ``work/pseudo/manifest.jsonl``: the clips whose text is known or heard for sure; resumable."""
    from faster_whisper import WhisperModel

    rows = candidates(work, shared)
    model = WhisperModel(str(work / "weights/whisper"), compute_type="int8", cpu_threads=threads)
    out, log = work / "pseudo/manifest.jsonl", work / "pseudo/heard"
    out.parent.mkdir(parents=True, exist_ok=True)
    heard = set(log.read_text(encoding="utf8").splitlines()) if log.exists() else set()
    with out.open("a", encoding="utf8") as kept, log.open("a", encoding="utf8") as done:
        for row in rows:
            path = row["audio_filepath"]
            if path in heard:
                continue
            found, _ = model.transcribe(
                path,
                language=row["lang"],
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
                chunk_length=math.ceil(row["duration"]) + 1,  # 30 s take four times as long
            )
            segments = list(found)
            text = " ".join(s.text.strip() for s in segments)
            if agrees(row["text"], text) if row["text"] else trusted(segments, text, row["lang"]):
                fresh = {} if row["text"] else {"text": text, "source": f"{row['source']} (teacher text)"}
                kept.write(json.dumps(row | fresh, ensure_ascii=False) + "\n")
                kept.flush()
            done.write(path + "\n")
            done.flush()
    print(f"{len(out.read_text(encoding='utf8').splitlines())} of {len(rows)} clips kept")
