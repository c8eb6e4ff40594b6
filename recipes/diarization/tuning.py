"""Which clustering and threshold: every setting on the tune half, embeddings computed once."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from diffusion_asr_pyannote import OfflineDiarization
from recipes.diarization import data
from recipes.diarization.scoring import Score, pooled, score

METHODS = {"average": (0.45, 0.5, 0.55, 0.6), "complete": (0.7, 0.8, 0.9, 1.0)}
SMALLEST = (6, 9)  # windows in a cluster
ACTIVE = (0.2, 0.35, 0.5)  # share of a window that founds a cluster
_Files = list[tuple[data.Recording, dict[str, Any]]]


def tune(meetings: int, folders: Sequence[Path]) -> None:
    """Print DER (count given, unaided) and the share of right counts for each setting."""
    pipeline = OfflineDiarization()
    settings = pipeline.default_parameters()
    pipeline.instantiate(settings)
    pipeline.training = True  # pyannote then keeps embeddings in the file
    sets = {"simulated": data.simulated("tune", meetings), "AMI tune half": data.ami("tune")}
    sets |= {folder.name: data.meetings(folder) for folder in folders}
    files: list[_Files] = [[(r, r.as_file()) for r in recordings] for recordings in sets.values()]
    print("setting | DER given, DER unaided, right counts in %: " + " | ".join(sets))
    for active, method, smallest in product(ACTIVE, METHODS, SMALLEST):
        pipeline.clustering.min_active = active
        for threshold in METHODS[method]:
            choice = {"method": method, "min_cluster_size": smallest, "threshold": threshold}
            pipeline.instantiate({**settings, "clustering": choice})
            sums = " | ".join(_sums(pipeline, half) for half in files)
            print(f"{active} {method} {smallest} {threshold:.2f} | {sums}", flush=True)


def _sums(pipeline: Any, recordings: _Files) -> str:
    given, alone = list[Score](), list[Score]()
    for recording, file in recordings:
        with contextlib.redirect_stdout(io.StringIO()):  # pyannote prints when it finds fewer clusters
            known = pipeline(file, num_speakers=recording.speakers)
            unaided = pipeline(file)
        given.append(score(recording, known.speaker_diarization))
        alone.append(score(recording, unaided.speaker_diarization))
    der, right = pooled(alone)
    return f"{pooled(given)[0]:5.1f} {der:5.1f} {right:4.0f}"
