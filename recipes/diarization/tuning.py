"""Which clustering and threshold: every setting on the tune half, embeddings computed once."""

from __future__ import annotations

import contextlib
import io
from itertools import product
from typing import Any

from diffusion_asr_pyannote import OfflineDiarization
from recipes.diarization import data
from recipes.diarization.scoring import Score, pooled, score

METHODS = {"average": (0.5, 0.6, 0.7, 0.8), "complete": (0.7, 0.8, 0.9, 1.0, 1.1)}
SMALLEST = (3, 6, 9)  # windows in a cluster


def tune(meetings: int) -> None:
    """Print DER (count given, unaided) and the share of right counts for each setting."""
    pipeline = OfflineDiarization()
    settings = pipeline.default_parameters()
    pipeline.instantiate(settings)
    pipeline.training = True  # pyannote then keeps embeddings in the file
    made = [(r, r.as_file()) for r in data.simulated("tune", meetings)]
    real = [(r, r.as_file()) for r in data.ami("tune")]
    print("setting | simulated: DER given, DER unaided, right counts in % | AMI tune half: the same")
    for method, smallest in product(METHODS, SMALLEST):
        for threshold in METHODS[method]:
            choice = {"method": method, "min_cluster_size": smallest, "threshold": threshold}
            pipeline.instantiate({**settings, "clustering": choice})
            sums = " | ".join(_sums(pipeline, half) for half in (made, real))
            print(f"{method} {smallest} {threshold:.2f} | {sums}", flush=True)


def _sums(pipeline: Any, recordings: list[tuple[data.Recording, dict[str, Any]]]) -> str:
    given, alone = list[Score](), list[Score]()
    for recording, file in recordings:
        with contextlib.redirect_stdout(io.StringIO()):  # pyannote prints when it finds fewer clusters
            known = pipeline(file, num_speakers=recording.speakers)
            unaided = pipeline(file)
        given.append(score(recording, known.speaker_diarization))
        alone.append(score(recording, unaided.speaker_diarization))
    der, right = pooled(alone)
    return f"{pooled(given)[0]:5.1f} {der:5.1f} {right:4.0f}"
