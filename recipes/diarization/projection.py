"""Learns where GE2E embeddings differ by speaker rather than by room and noise (linear discriminants).

113 speakers of LibriSpeech, each heard several times through made-up rooms, levels and noises. No
meeting and no speaker that tunes or tests is among them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.linalg import eigh
from torch.nn import functional as F

from diffusion_asr_pyannote.models import GE2E, embedding_model
from recipes.diarization import data

Array = NDArray[np.float64]
HOP = 40  # frames between partials: denser ones only take longer here
ROOMS = 3  # times that every speaker is heard
DIMENSIONS = 128
SHRINK = 1.0  # of the mean variance, added in all directions: 113 speakers cannot tell all 256 apart


def embeddings(seed: int = 5) -> tuple[Array, NDArray[np.int64]]:
    """Embeddings (N, 256) of windows of 0.8 to 4 s, and the number of the speaker of each."""
    rng, model = np.random.default_rng(seed), embedding_model()
    model.hop = HOP
    vectors, owners = list[Array](), list[int]()
    for owner, pieces in enumerate(data.librispeech("train").values()):
        for _ in range(ROOMS):
            found = _embed(model, _windows(_distorted(np.concatenate(pieces), rng), rng))
            vectors.append(found)
            owners += [owner] * len(found)
    return np.concatenate(vectors), np.array(owners)


def _distorted(samples: data.Samples, rng: np.random.Generator) -> data.Samples:
    heard = np.convolve(samples, data.echo(rng))
    noise = np.sqrt(np.mean(heard**2)) * 10 ** (-rng.uniform(10, 35) / 20)
    heard = heard + noise * rng.standard_normal(len(heard))
    return np.asarray(heard * 10 ** (-rng.uniform(0, 25) / 20), np.float32)


def _windows(samples: data.Samples, rng: np.random.Generator) -> list[data.Samples]:
    windows, start = list[data.Samples](), 0
    while len(samples) - start > 0.8 * data.RATE:
        length = round(rng.uniform(0.8, 4.0) * data.RATE)
        windows.append(samples[start : start + length])
        start += length
    return [w for w in windows if len(w) > 0.6 * data.RATE]


@torch.inference_mode()
def _embed(model: GE2E, windows: list[data.Samples]) -> Array:
    """As the model does it, but windows of different lengths in one batch."""
    partials = [model.partials(torch.from_numpy(w), None) for w in windows]
    units = torch.split(model.embed(torch.cat(partials)), [len(p) for p in partials])
    return torch.stack([F.normalize(u.mean(0), dim=-1) for u in units]).double().numpy()


def discriminants(vectors: Array, owners: NDArray[np.int64]) -> dict[str, NDArray[np.float32]]:
    """Mean and matrix (256, DIMENSIONS) that whiten what varies within a speaker."""
    mean = vectors.mean(0)
    centred = vectors - mean
    centres = np.stack([centred[owners == n].mean(0) for n in range(owners.max() + 1)])
    rest = centred - centres[owners]
    within = rest.T @ rest / len(rest)
    within += SHRINK * np.trace(within) / len(within) * np.eye(len(within))
    _, directions = eigh(centres.T @ centres / len(centres), within)
    matrix = directions[:, ::-1][:, :DIMENSIONS]
    return {"mean": mean.astype(np.float32), "matrix": np.ascontiguousarray(matrix, dtype=np.float32)}


def learn(output: Path) -> None:
    """Write projection.safetensors."""
    vectors, owners = embeddings()
    save_file(discriminants(vectors, owners), output / "projection.safetensors")
    print(f"{len(vectors)} windows of {owners.max() + 1} speakers")
