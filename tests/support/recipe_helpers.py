"""What the recipe's tests share: generators of their own, caches, and clips that say their tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_asr.acoustics.encoder import AcousticMemory
from recipes.embedded.data import Batch
from tests.support import tiny

TEXTS = [[1, 2, 3, 4], [5, 6], [4, 3, 2, 1], [7, 8, 9, 1, 5]]


@pytest.fixture(autouse=True)
def own_generators() -> Iterator[None]:
    """The recipe draws from the global generators: seeded here, and given back as they were."""
    kept = random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random.seed(0)
        yield
    random.setstate(kept)


def write_cache(index: Path, rows: list[dict[str, Any]]) -> Path:
    """A cache of random states, 512 wide as ``data.load`` expects."""
    index.parent.mkdir(parents=True, exist_ok=True)
    offset = 0
    with index.open("w", encoding="utf8") as file:
        for row in rows:
            file.write(json.dumps({"offset": offset, "source": "made", **row}, ensure_ascii=False) + "\n")
            offset += row["frames"]
    states = np.random.default_rng(0).normal(0, 1, (offset, 512)).astype(np.float16)
    states.tofile(index.with_suffix(".f16"))
    return index


def synthetic(texts: list[list[int]], frames: int = 40) -> Batch:
    """Clips whose states say their tokens: each token for its share of the clip, as a fixed random vector."""
    codes = torch.randn(60, tiny.WIDTH, generator=torch.Generator().manual_seed(4))
    states = torch.stack([codes[torch.tensor(t).repeat_interleave(frames // len(t))] for t in texts])
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    counts = torch.tensor([len(t) for t in texts])
    padded = torch.zeros(len(texts), int(counts.max()), dtype=torch.long)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    return Batch(AcousticMemory(states, mask, 50.0), ["en"] * len(texts), padded, counts, [""] * len(texts))
