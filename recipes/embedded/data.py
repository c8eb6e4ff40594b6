"""Batches of cached acoustic states, languages balanced, clips of a batch alike in length."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory


class Speller(Protocol):
    """What numbers the pieces of texts: a ``Vocabulary``, or the letters' alphabet."""

    def encode(self, text: str, language: str) -> list[int]:
        """Ids of a text."""
        ...


@dataclass
class Clip:
    """One cached recording; ``ids`` are its tokens."""

    states: np.ndarray
    offset: int
    frames: int
    text: str
    lang: str
    source: str
    ids: list[int]
    shard: str = ""  # of the cache


@dataclass(frozen=True)
class Batch:
    """Padded tensors of some clips."""

    memory: AcousticMemory
    languages: list[str]
    targets: Tensor  # (B, N) padded with 0
    counts: Tensor  # (B,)
    texts: list[str]

    def to(self, device: str) -> Batch:
        """The same on another device."""
        memory = replace(self.memory, states=self.memory.states.to(device), mask=self.memory.mask.to(device))
        return replace(self, memory=memory, targets=self.targets.to(device), counts=self.counts.to(device))


def training_shards(cache: Path, pattern: str = "*.jsonl") -> list[Path]:
    """Indexes of the cached clips that training may see."""
    return [p for p in sorted(cache.glob(pattern)) if p.stem != "dev" and not p.stem.endswith(".drafts")]


def load(caches: Sequence[Path], vocabulary: Speller, slot_frames: int) -> list[Clip]:
    """Every row of the shards whose text fits into its slots (CTC needs a null between repeats)."""
    clips = []
    for index in caches:
        # A shard may still be growing: its last line and its last state can be torn.
        whole, _, _ = index.read_text(encoding="utf8").rpartition("\n")
        rows = [json.loads(line) for line in whole.splitlines()]
        if not rows:
            continue  # just begun; an empty file cannot be mapped
        flat = np.memmap(index.with_suffix(".f16"), np.float16, "r")
        states = flat[: len(flat) // 512 * 512].reshape(-1, 512)
        for row in rows:
            ids = vocabulary.encode(row["text"], row["lang"])
            need = len(ids) + sum(a == b for a, b in pairwise(ids))
            if need <= row["frames"] // slot_frames and row["offset"] + row["frames"] <= len(states):
                clips.append(
                    Clip(
                        states,
                        row["offset"],
                        row["frames"],
                        row["text"],
                        row["lang"],
                        row["source"],
                        ids,
                        index.stem,
                    )
                )
    return clips


def collate(clips: Sequence[Clip]) -> Batch:
    """Pad to the longest."""
    frames = max(c.frames for c in clips)
    states, mask = torch.zeros(len(clips), frames, 512), torch.zeros(len(clips), frames, dtype=torch.bool)
    targets = torch.zeros(len(clips), max(1, max(len(c.ids) for c in clips)), dtype=torch.long)
    for k, clip in enumerate(clips):
        whole = np.asarray(clip.states[clip.offset : clip.offset + clip.frames], np.float32)
        states[k, : clip.frames] = torch.from_numpy(whole)
        mask[k, : clip.frames] = True
        targets[k, : len(clip.ids)] = torch.tensor(clip.ids, dtype=torch.long)
    return Batch(
        AcousticMemory(states, mask, 50.0),
        [c.lang for c in clips],
        targets,
        torch.tensor([len(c.ids) for c in clips]),
        [c.text for c in clips],
    )


def batches(
    clips: Sequence[Clip], shares: dict[str, float], frames: int, rng: random.Random
) -> Iterator[list[Clip]]:
    """Endless batches (to be collated) of about ``frames`` padded frames, languages drawn by ``shares``."""
    pools = {lang: [c for c in clips if c.lang == lang] for lang in shares}
    pools = {lang: pool for lang, pool in pools.items() if pool}
    queues: dict[str, list[Clip]] = {lang: [] for lang in pools}
    weights = [shares[lang] / (sum(c.frames for c in pools[lang]) / len(pools[lang])) for lang in pools]
    while True:
        drawn = []
        for _ in range(400):
            lang = rng.choices(list(pools), weights)[0]
            if not queues[lang]:
                queues[lang] = rng.sample(pools[lang], len(pools[lang]))
            drawn.append(queues[lang].pop())
        drawn.sort(key=lambda c: c.frames)
        groups: list[list[Clip]] = [[]]
        for clip in drawn:
            if groups[-1] and clip.frames * (len(groups[-1]) + 1) > frames:
                groups.append([])
            groups[-1].append(clip)
        rng.shuffle(groups)
        yield from groups
