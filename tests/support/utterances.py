"""Clips on which an adapter may part from core: of every language, with pauses, silence, and low voices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from tests.support.audio_files import SPEECH

DATA = Path(__file__).parents[1] / "data"
Samples = NDArray[np.float32]
RATE = 16_000


def real_clips() -> dict[str, tuple[str, Samples]]:
    """Name to language and (samples,): all test clips, and a dev clip of every language if they are here."""
    found = {path.stem: (path.name[:2], read(path)) for path in sorted(DATA.glob("*.flac"))}
    manifest = SPEECH / "manifest.jsonl"
    if manifest.is_file():
        rows = [json.loads(line) for line in manifest.read_text(encoding="utf8").splitlines()]
        for language in ("en", "de", "fr", "es", "hi", "zh"):
            mine = [r for r in rows if (r["split"], r["lang"]) == ("dev", language) and r["duration"] > 1]
            shortest = min(mine, key=lambda row: float(row["duration"]))
            path = SPEECH / str(shortest["audio_filepath"])
            found[path.stem] = language, read(path)
    return found


def read(path: Path) -> Samples:
    samples, rate = sf.read(path, dtype="float32")
    assert rate == RATE, path
    return np.asarray(samples)


def made_clips() -> dict[str, tuple[str, Samples]]:
    """Clips in which detecting speech matters, made from the test clips."""
    (_, one), (_, other), *_ = (clip for name, clip in real_clips().items() if name.startswith("en-arctic"))
    rng = np.random.default_rng(0)
    return {
        "silence around": ("en", np.concatenate([silence(3), one, silence(3)])),
        "long pause": ("en", np.concatenate([one, silence(4), other])),
        "noise before": (
            "en",
            np.concatenate([0.01 * rng.standard_normal(3 * RATE).astype(np.float32), other]),
        ),
        "nobody": ("en", 0.01 * rng.standard_normal(2 * RATE).astype(np.float32)),
        "short": ("en", one[: int(0.9 * RATE)]),
    }


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * RATE), np.float32)
