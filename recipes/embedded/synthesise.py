"""Speak Common Voice sentences with every synthesiser that can; resumable, one process a shard."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

from recipes.embedded.texts import LANGUAGES, dev_keys, sentences
from recipes.embedded.voices import RATE, Espeak, Festival, Kokoro, Pico, Voice


def plan(engine: str, hours: dict[str, float], texts: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Endless (language, sentence) pairs, languages in proportion to the hours asked for."""
    languages = [lang for lang in hours if hours[lang] > 0]
    rng = random.Random(f"{engine}-plan")
    cursor = {lang: rng.randrange(len(texts[lang])) for lang in languages}
    while True:
        lang = rng.choices(languages, [hours[x] for x in languages])[0]
        cursor[lang] = (cursor[lang] + 1) % len(texts[lang])
        yield lang, texts[lang][cursor[lang]]


def synthesiser(engine: str, work: Path) -> Voice:
    """One of the four, by name."""
    if engine == "kokoro":
        return Kokoro(work / "weights/kokoro")
    if engine == "festival":
        return Festival()
    return Espeak() if engine == "espeak" else Pico()


def usable(samples: np.ndarray, text: str) -> bool:
    """Refuse empty, clipped-off, silent or runaway syntheses."""
    seconds = len(samples) / RATE
    return 0.6 < seconds < 28 and bool(np.isfinite(samples).all()) and float(np.abs(samples).max()) > 0.02


def synthesise(
    work: Path, shared: Path, engine: str, hours: dict[str, float], shard: int = 0, shards: int = 1
) -> None:
    """Write ``work/synth/<engine>-<shard>/*.flac`` and a manifest until every language has its hours.

    ``hours`` counts this shard only. A second run continues after the last manifest line.
    """
    folder = work / "synth" / f"{engine}-{shard}"
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.jsonl"
    held_out = dev_keys(shared / "data/speech/manifest.jsonl")
    texts = {lang: sentences(shared / "data/text", lang, held_out) for lang in LANGUAGES}
    synth = synthesiser(engine, work)
    lines = manifest.read_text(encoding="utf8").splitlines() if manifest.exists() else []
    done = [json.loads(line) for line in lines]
    seconds = {lang: sum(r["duration"] for r in done if r["lang"] == lang) for lang in hours}
    first = 1 + max((r["index"] for r in done), default=-1)
    with manifest.open("a", encoding="utf8") as out:
        for index, (lang, text) in enumerate(plan(engine, hours, texts)):
            if all(seconds[x] >= hours[x] * 3600 for x in hours):
                return
            if index < first or index % shards != shard or seconds[lang] >= hours[lang] * 3600:
                continue
            voice = synth.draw(lang, random.Random(f"{engine}-{index}"))
            try:
                samples = synth.speak(text, lang, voice)
            except Exception as error:  # one unreadable sentence must not end a night's run
                print(f"{engine} {lang} {text!r}: {error}", flush=True)
                continue
            if not usable(samples, text):
                continue
            name = f"{lang}-{index:07d}.flac"
            sf.write(folder / name, 0.7 * samples / np.abs(samples).max(), RATE, subtype="PCM_16")
            row = {
                "audio_filepath": name,
                "duration": round(len(samples) / RATE, 3),
                "text": text,
                "lang": lang,
                "speaker": f"{engine}:{voice}",
                "source": f"synthetic: {engine}",
                "split": "train",
                "index": index,
            }
            out.write(json.dumps(row, ensure_ascii=False) + os.linesep)
            out.flush()
            seconds[lang] += row["duration"]
