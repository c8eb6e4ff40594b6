"""Clips of a manifest as batches: acoustic memory from the frozen encoder, texts on token canvases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from diffusion_asr.acoustics.encoder import AcousticMemory, WhisperEncoder
from diffusion_asr.audio import files as audio
from diffusion_asr.diffusion_gemma.objective import TokenBatch
from diffusion_asr.diffusion_gemma.vocabulary import GemmaVocabulary
from diffusion_asr.errors import AudioError
from recipes.embedded.features import Row, manifest_rows

LONGEST = 30.0  # seconds that the encoder takes


class SpeechBatch(NamedTuple):
    """What a step needs; tensors only, and strings, so that every launcher can carry it."""

    states: Tensor  # (B, T, D)
    mask: Tensor  # (B, T)
    canvas: Tensor  # (B, L)
    counts: Tensor  # (B,)
    languages: list[str]


class Clips(Dataset[Row]):
    """Rows of manifests whose audio and text fit."""

    def __init__(self, manifests: Sequence[Path], vocabulary: GemmaVocabulary, canvas: int) -> None:
        rows = [row for manifest in manifests for row in manifest_rows(manifest)]
        self.rows = [
            row
            for row in rows
            if row.get("text")
            and float(row.get("duration", 0)) <= LONGEST
            and len(vocabulary.encode(row["text"])) < canvas
        ]
        if not self.rows:
            raise AudioError(
                f"no clip of {', '.join(map(str, manifests))} has a text and at most {LONGEST} s"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, n: int) -> Row:
        return self.rows[n]


@dataclass(frozen=True)
class Collate:
    """Rows to a batch; the encoder runs here, on the CPU or wherever it is, without gradients."""

    encoder: WhisperEncoder
    vocabulary: GemmaVocabulary
    canvas: int
    end: int
    pad: int
    padded: bool

    def __call__(self, rows: Sequence[Row]) -> SpeechBatch:
        """Read, listen, tokenise."""
        waves = [np.concatenate(list(audio.read_blocks(Path(row["path"])))) for row in rows]
        texts = [self.vocabulary.encode(row["text"]) for row in rows]
        lengths = torch.tensor([len(wave) for wave in waves])
        whole = int(LONGEST * audio.SAMPLE_RATE) if self.padded else int(lengths.max())
        batch = torch.zeros(len(waves), whole)
        for row, wave in zip(batch, waves, strict=True):
            row[: len(wave)] = torch.from_numpy(wave[:whole])
        memory = self.encoder.encode(batch, None if self.padded else lengths)
        laid = TokenBatch.of(texts, self.canvas, self.end, self.pad)
        languages = [str(row.get("lang") or row.get("language") or "*") for row in rows]
        return SpeechBatch(memory.states.clone(), memory.mask.clone(), laid.canvas, laid.counts, languages)


def memory_of(batch: SpeechBatch, frame_rate: float = 50.0) -> AcousticMemory:
    """The acoustic memory that a batch carries."""
    return AcousticMemory(batch.states, batch.mask.cpu(), frame_rate)
