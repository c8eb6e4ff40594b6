"""Whisper base as a teacher: its greedy text on unlabelled real speech, where it is confident."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_SCRIPT = {"hi": re.compile(r"[\u0900-\u097f]"), "zh": re.compile(r"[\u4e00-\u9fff]")}


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


def pseudo_label(work: Path, shared: Path, threads: int = 1) -> None:
    """Write ``work/pseudo/manifest.jsonl`` for every unlabelled train clip that the teacher is sure of."""
    from faster_whisper import WhisperModel

    folder = shared.resolve() / "data/speech"  # the manifest lies elsewhere
    rows = [json.loads(x) for x in (folder / "manifest.jsonl").read_text(encoding="utf8").splitlines()]
    rows = [r for r in rows if r["split"] == "train" and r["text"] is None]
    model = WhisperModel(str(work / "weights/whisper"), compute_type="int8", cpu_threads=threads)
    out = work / "pseudo/manifest.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows:
        path = folder / row["audio_filepath"]
        found, _ = model.transcribe(
            str(path), language=row["lang"], beam_size=1, temperature=0.0, condition_on_previous_text=False
        )
        segments = list(found)
        text = " ".join(s.text.strip() for s in segments)
        if trusted(segments, text, row["lang"]):
            fresh = {"text": text, "audio_filepath": str(path), "source": row["source"] + " (teacher text)"}
            lines.append(json.dumps(row | fresh, ensure_ascii=False))
    out.write_text("\n".join(lines) + "\n", encoding="utf8")
    print(f"{len(lines)} of {len(rows)} clips kept")
