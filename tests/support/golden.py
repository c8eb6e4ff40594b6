"""What the shipped model says to the four test clips: the record that a change of structure must not change.

python -m tests.support.golden    writes the record anew, for a change of behaviour that is meant
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from diffusion_asr import Recognizer
from diffusion_asr.audio import files as audio
from diffusion_asr.cli import app

DATA = Path(__file__).parents[1] / "data"
RECORD = DATA / "golden.json"
CLIPS = sorted(DATA.glob("*.flac"))
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "steps 1": {"steps": 1},
    "steps 8": {"steps": 8},
    "noise 8": {"steps": 8, "start": "noise"},
}


def precision(recognizer: Recognizer) -> str:
    """Machines with bf16 round otherwise: what was recorded on one kind says little about the other."""
    return str(next(recognizer.parts.modules[0].parameters()).dtype)


def decode_clip(recognizer: Recognizer, clip: Path, way: str) -> dict[str, Any]:
    """Text, words, confidence and passes of one clip, decoded one way."""
    memory = recognizer.encode(torch.from_numpy(audio.read_audio(clip))[None])
    (found,) = recognizer.decode(memory, clip.name[:2], **WAYS[way])
    words = [[w.text, w.start, w.end, w.confidence] for w in found.words]
    passes = {"parallel": found.decoded.parallel_passes, "causal": found.decoded.causal_passes}
    return {"text": found.text, "confidence": found.confidence, "passes": passes, "words": words}


def run_command(clip: Path) -> dict[str, Any]:
    """The document that ``diffusion-asr transcribe --format json`` writes, but for its making."""
    arguments = ["transcribe", str(clip), "--language", clip.name[:2], "--format", "json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    document: dict[str, Any] = json.loads(result.stdout.replace(str(clip), clip.name))
    for transcript in document["transcripts"]:
        for name in ("language", "model", "processing_seconds", "speed"):
            del transcript[name]  # what is in the segments, and what differs from run to run
    return document


def record() -> None:
    recognizer = Recognizer.from_pretrained()
    decoded = {f"{c.name}, {way}": decode_clip(recognizer, c, way) for c in CLIPS for way in WAYS}
    whole = {
        "precision": precision(recognizer),
        "decoded": decoded,
        "command": {c.name: run_command(c) for c in CLIPS},
    }
    RECORD.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf8")


if __name__ == "__main__":
    record()
