"""Meetings in simulated rooms with voices that only tune: ``recipes.meetings``, LibriSpeech's tune speakers.

There are twelve seconds of each, so these are short, and much is said again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from recipes.diarization.data import SHARED, librispeech_rows
from recipes.meetings.plan import Settings, SimulationError, plan
from recipes.meetings.simulate import name_of, write
from recipes.meetings.voices import Clip, Cutter

SPEAKERS = range(1, 7)
OVERLAPS = (0.0, 0.1, 0.2, 0.3)
SEED = 501  # of the first meeting


def make(folder: Path, shared: Path = SHARED) -> None:
    """Two meetings of each number of speakers and share of overlap; those that are there stay."""
    folder.mkdir(parents=True, exist_ok=True)
    voices: dict[str, list[Clip]] = {}
    for row in librispeech_rows("tune", shared):
        path = shared / "speech" / row["audio_filepath"]
        clip = Clip(path, row["text"] or None, "en", row["speaker"], row["source"], row["license"])
        voices.setdefault(clip.speaker, []).append(clip)
    cutter, cells = Cutter(None), [(s, o) for s in SPEAKERS for o in OVERLAPS for _ in range(2)]
    for seed, (speakers, overlap) in enumerate(cells, start=SEED):
        if speakers == 1 and overlap > 0.1:
            continue  # nobody talks over himself: four monologues are enough
        share = overlap if speakers > 1 else 0.0
        settings = Settings(speakers, share, minutes=0.25 * (speakers + 1), seed=seed)
        if (folder / f"{name_of(settings)}.simulation.json").exists():
            continue
        try:
            write(plan(voices, cutter, settings), name_of(settings), folder, "spread evenly over the speech")
        except SimulationError as error:
            print(f"{name_of(settings)} is left out: {error}", file=sys.stderr)
