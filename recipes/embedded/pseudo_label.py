"""Whisper base as a teacher: its greedy text on unlabelled real speech, where it is confident.

Short clips share a window of 30 s: Whisper takes as long for one second as for thirty, and a window that is
cut shorter makes it say things again and again. Where a text is given it is only checked: some recordings
say what an older text said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from diffusion_asr.audio import files as audio
from recipes.embedded.features import Row, manifest_rows
from recipes.embedded.texts import key

WINDOW, GAP = 29.0, 1.0  # seconds
_SCRIPT = {"hi": re.compile(r"[\u0900-\u097f]"), "zh": re.compile(r"[\u4e00-\u9fff]")}
_FAR = 0.5  # of a given text's letters that the teacher may hear differently


def trusted(segments: Sequence[Any], text: str, language: str) -> bool:
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


def candidates(work: Path, shared: Path) -> list[Row]:
    """Clips to listen to, with absolute paths: unlabelled ones of shared data, and all found ones."""
    found = work.resolve() / "found/clips.jsonl"
    rows = [r for r in manifest_rows(shared.resolve() / "data/speech/manifest.jsonl") if r["text"] is None]
    rows += manifest_rows(found) if found.exists() else []
    return [row | {"audio_filepath": row["path"]} for row in rows if row["split"] == "train"]


def windows(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Clips of one language and source, in order, as many as a window holds."""
    for _, alike in groupby(rows, key=lambda row: (row["lang"], row["source"])):
        group: list[Row] = []
        for row in alike:
            if group and sum(r["duration"] + GAP for r in group) + row["duration"] > WINDOW:
                yield group
                group = []
            group.append(row)
        yield group


def shared_out(
    segments: Sequence[Any], lengths: Sequence[float], tolerance: float = 0.6
) -> list[list[Any] | None]:
    """Each clip's segments; None where a segment says what two clips say.

    Args:
        segments: With ``start`` and ``end``, seconds in the window.
        lengths: Seconds of each clip; ``GAP`` seconds of silence follow each.
        tolerance: By so much may a segment's times be off, seconds.
    """
    found: list[list[Any] | None] = [[] for _ in lengths]
    starts = list(accumulate((n + GAP for n in lengths[:-1]), initial=0.0))
    for segment in segments:
        within = [
            k
            for k, (start, length) in enumerate(zip(starts, lengths, strict=True))
            if min(segment.end, start + length) - max(segment.start, start) > min(tolerance, length / 2)
        ]
        if len(within) == 1 and (own := found[within[0]]) is not None:
            own.append(segment)
        for k in within if len(within) > 1 else ():
            found[k] = None
    return found


def pseudo_label(work: Path, shared: Path, threads: int = 1) -> None:
    """Write ``work/pseudo/manifest.jsonl``: the clips whose text is known or heard for sure; resumable."""
    from faster_whisper import WhisperModel

    rows = candidates(work, shared)
    model = WhisperModel(str(work / "weights/whisper"), compute_type="int8", cpu_threads=threads)
    out, log = work / "pseudo/manifest.jsonl", work / "pseudo/heard"
    out.parent.mkdir(parents=True, exist_ok=True)
    known = set(log.read_text(encoding="utf8").splitlines()) if log.exists() else set()
    silence = np.zeros(round(GAP * audio.SAMPLE_RATE), np.float32)
    with out.open("a", encoding="utf8") as kept, log.open("a", encoding="utf8") as done:
        for group in windows([row for row in rows if row["audio_filepath"] not in known]):
            waves = [audio.read_audio(Path(row["audio_filepath"])) for row in group]
            said, _ = model.transcribe(
                np.concatenate([part for wave in waves for part in (wave, silence)]),
                language=group[0]["lang"],
                beam_size=1,
                temperature=0.0,
                condition_on_previous_text=False,
            )
            lengths = [len(wave) / audio.SAMPLE_RATE for wave in waves]
            for row, own in zip(group, shared_out(list(said), lengths), strict=True):
                text = " ".join(s.text.strip() for s in own or ())
                if agrees(row["text"], text) if row["text"] else trusted(own or (), text, row["lang"]):
                    fresh = {} if row["text"] else {"text": text, "source": f"{row['source']} (teacher text)"}
                    kept.write(json.dumps(row | fresh, ensure_ascii=False) + "\n")
                done.write(row["audio_filepath"] + "\n")
            kept.flush()
            done.flush()
    print(f"{len(out.read_text(encoding='utf8').splitlines())} of {len(rows)} clips kept")
