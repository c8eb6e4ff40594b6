"""By how much a model's slots run ahead of the speech, measured against Whisper's word times.

On the draft: settled words have their starts from the refiner's attention (``token_times``), not from slots.

Whisper's times come from its cross-attention (dynamic time warping, through faster-whisper), so they are no
truth, but they do not drift. Training clips only; words in the first seconds are left out (``words.RAMP``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from diffusion_asr.audio import files as audio
from diffusion_asr.decoding.calibration import RAMP, Calibration
from diffusion_asr.recognizer import Recognizer
from recipes.embedded.features import manifest_rows

LANGUAGES = ("en", "de", "fr", "es")  # hi: Whisper has other words; zh: it cuts words elsewhere


@dataclass(frozen=True)
class Timed:
    """A word and its start in seconds."""

    text: str
    start: float


def differences(reference: Sequence[Timed], found: Sequence[Timed], since: float) -> list[float]:
    """Seconds by which the words that both have begin later in ``reference``, from ``since`` on."""
    one, other = ([re.sub(r"\W", "", word.text.lower()) for word in words] for words in (reference, found))
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    pairs = [(reference[b.a + n], found[b.b + n]) for b in blocks for n in range(b.size)]
    return [a.start - b.start for a, b in pairs if b.start >= since]


def training_clips(shared: Path, most: int) -> list[dict[str, Any]]:
    """At most ``most`` longer clips of each source and language, spread evenly."""
    rows = manifest_rows(shared / "data/speech/manifest.jsonl")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["split"] == "train" and row["lang"] in LANGUAGES and 4 < row["duration"] < 28:
            groups.setdefault((row["lang"], row["source"]), []).append(row)
    return [row for group in groups.values() for row in group[:: max(1, len(group) // most)][:most]]


def measure(work: Path, shared: Path, model: str, most: int = 12) -> float:
    """Print the lag by language, add their median to ``work/model/calibration.json`` and return it."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(work / "weights/whisper"), compute_type="int8", cpu_threads=1)
    asr = Recognizer.from_pretrained(model)
    known = asr.parts.calibration
    asr.parts = replace(asr.parts, calibration=replace(known, lag=0.0))
    found: dict[str, list[float]] = {lang: [] for lang in LANGUAGES}
    placed: dict[str, list[float]] = {lang: [] for lang in LANGUAGES}
    for row in training_clips(shared, most):
        samples: np.ndarray = audio.read_audio(Path(row["path"]))
        segments, _ = whisper.transcribe(samples, language=row["lang"], beam_size=1, word_timestamps=True)
        reference = [Timed(w.word, w.start) for s in segments for w in s.words or ()]
        draft, settled = (
            [Timed(w.text, w.start) for w in asr.transcribe(samples, language=row["lang"], steps=steps).words]
            for steps in (1, None)
        )
        found[row["lang"]] += differences(reference, draft, RAMP)
        placed[row["lang"]] += differences(reference, settled, 0.0)
    medians = {lang: median(values) for lang, values in found.items() if values}
    for name, differing in (("slots", found), ("settled", placed)):
        for lang, values in differing.items():
            if values:
                low, high = np.percentile(values, (10, 90))
                told = f"median {median(values):.2f} s, 80 % in {low:.2f} to {high:.2f}"
                print(f"{name}, {lang}: {len(values)} words, {told}")
    lag = round(median(medians.values()), 2)
    print(f"lag {lag} s (the median of the languages)")
    path = work / "model/calibration.json"
    fitted = Calibration(**json.loads(path.read_text())) if path.exists() else known
    path.write_text(json.dumps(asdict(replace(fitted, lag=lag))))
    return lag
