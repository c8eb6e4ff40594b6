"""The DER table of a diarization pipeline on recordings that tuned nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffusion_asr_pyannote import OFFLINE_DIARIZATION
from recipes.diarization import data
from recipes.diarization.scoring import Score, evaluate, pooled

from pyannote.audio import Pipeline  # isort: skip


def table(name: str, meetings: int, folders: Sequence[Path] = ()) -> None:
    """Print it: single real recordings, then sums; ``folders`` hold meetings of ``recipes.meetings``."""
    pipeline = Pipeline.from_pretrained(OFFLINE_DIARIZATION if name == "offline" else name)
    print("DER in percent: no collar, overlap counts. miss + false alarm + confusion in seconds.")
    print(f"{'':24} | {'count given':^29} | {'unaided':^29} | speakers")
    sample = evaluate(pipeline, [data.pyannote_sample()])
    real = evaluate(pipeline, data.ami("test"))
    for given, alone in sample + real:
        print(
            f"{given.name:24} | {_cells(given)} | {_cells(alone)} | {alone.speakers}, found {alone.found}",
            flush=True,
        )
    _sum("AMI test half", real)
    made = evaluate(pipeline, data.simulated("test", meetings))
    for size in range(1, 5):
        _sum(f"simulated, {size} speaker(s)", [pair for pair in made if pair[0].speakers == size])
    _sum("simulated, all", made)
    rooms = [pair for folder in folders for pair in evaluate(pipeline, data.meetings(folder))]
    for size in sorted({pair[0].speakers for pair in rooms}):
        _sum(f"in rooms, {size} speakers", [pair for pair in rooms if pair[0].speakers == size])
    _sum("in rooms, all", rooms)
    _sum("all held out", sample + real + made + rooms)


def _cells(s: Score) -> str:
    return f"{s.der:6.1f} ({s.missed:5.2f} {s.false_alarm:5.2f} {s.confusion:6.2f})"


def _sum(name: str, pairs: list[tuple[Score, Score]]) -> None:
    if not pairs:
        return
    given, _ = pooled([given for given, _ in pairs])
    alone, right = pooled([alone for _, alone in pairs])
    count = f"right count in {right:.0f} % of {len(pairs)}"
    print(f"{name:24} | {given:6.1f}{'':23} | {alone:6.1f}{'':23} | {count}", flush=True)
