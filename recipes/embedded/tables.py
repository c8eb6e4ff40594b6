"""The denoiser's table of pieces in four bits: compensated, with the rows that matter most in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.languages import LANGUAGES
from diffusion_asr.models.packing import keep_rows
from diffusion_asr.models.stored import NIBBLES, SCALE
from diffusion_asr.text.vocabulary import NULL, Vocabulary
from recipes.embedded.compensate import compensated
from recipes.embedded.data import Clip, collate
from recipes.embedded.texts import sentences

TABLE = "embed_tokens.weight"
GROUP = 64  # values that share a scale: half as many scales as in layers, for 46,063 rows of 512
KEPT = 400  # rows in float16: 0.4 MB, which keeps the folder below 100 MB
SENTENCES = 3000  # of each language, to count pieces in


def frequent_pieces(vocabulary: Vocabulary, texts: Path, count: int = KEPT) -> Tensor:
    """Null, and the pieces with the largest share of their languages' sentences; (count,) ids."""
    shares: Counter[int] = Counter()
    for language in LANGUAGES:
        counts: Counter[int] = Counter()
        for sentence in sentences(texts, language, set())[:SENTENCES]:
            counts.update(vocabulary.encode(sentence, language))
        for piece, times in counts.items():
            shares[piece] += times / counts.total()  # type: ignore[assignment]
    return torch.tensor([NULL, *(piece for piece, _ in shares.most_common(count - 1))])


@torch.inference_mode()
def output_moments(model: CanvasDenoiser, clips: Sequence[Clip]) -> Tensor:
    """The sum of the outer products of the states that meet the table, (D, D), in a first step."""
    total = torch.zeros(model.config.d_model, model.config.d_model)
    for clip in clips:
        one = collate([clip])
        state = model.prepare(one.memory, one.languages)
        hidden = model.hidden(model.null_canvas(state), state)[0].float()
        total += hidden.T @ hidden
    return total


def pack_table(weight: Tensor, moments: Tensor, kept: Tensor) -> dict[str, Tensor]:
    """The table as a checkpoint stores it, by itself."""
    nibbles, scale = compensated(weight, moments, GROUP)
    return keep_rows({TABLE + NIBBLES: nibbles, TABLE + SCALE: scale}, TABLE, weight, kept)
