"""Write the CSV files that SpeechBrain's Whisper recipes read, from a NeMo-style manifest.

    python -m recipes.speechbrain.prepare ../shared/data/speech/manifest.jsonl OUT --language en

For corpora whose own preparation SpeechBrain has, use that and leave ``skip_prep`` at False.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import soundfile as sf
import soxr
import typer

RATE = 16_000


def write_csv(rows: list[dict[str, str | float]], wavs: Path, out: Path) -> None:
    """One CSV; clips are converted to 16 kHz mono WAV files in ``wavs``, which the recipes can read."""
    wavs.mkdir(parents=True, exist_ok=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="", encoding="utf8") as file:
        table = csv.writer(file)
        table.writerow(["ID", "duration", "wav", "spk_id", "wrd"])
        for number, row in enumerate(rows):
            samples, rate = sf.read(row["path"], dtype="float32", always_2d=True)
            path = wavs / f"{out.stem}-{number:05d}.wav"
            sf.write(path, soxr.resample(samples.mean(1), rate, RATE), RATE, subtype="PCM_16")
            seconds = round(len(samples) / rate, 3)
            table.writerow([path.stem, seconds, path.absolute(), row.get("speaker", ""), row["text"]])


def prepare(manifest: Path, language: str, split: str, most: int) -> list[dict[str, str | float]]:
    """Rows of a manifest with a text, of at most 30 s."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf8").splitlines()]
    rows = [r for r in rows if r["text"] and r["lang"] == language and r.get("split", split) == split]
    rows = [r | {"path": str(manifest.parent / r["audio_filepath"])} for r in rows if r["duration"] <= 30]
    return rows[:: max(1, len(rows) // most)][:most]


def main(
    manifest: Path,
    out: Path,
    language: str = "en",
    train: Annotated[int, typer.Option(help="Clips of the train split.")] = 16,
    dev: Annotated[int, typer.Option(help="Clips of the dev split, for validation and test.")] = 8,
) -> None:
    """Write OUT/train.csv, OUT/dev.csv and OUT/test.csv."""
    for name, split, most in (("train", "train", train), ("dev", "dev", dev), ("test", "dev", dev)):
        write_csv(prepare(manifest, language, split, most), out / "wavs", out / f"{name}.csv")
    print(f"{out}: train.csv, dev.csv and test.csv ({language})")


if __name__ == "__main__":
    typer.run(main)
