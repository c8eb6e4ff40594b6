"""The letter canvas in training: Whisper's top encoder layers as a start, and a second output for Hanzi."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from diffusion_asr.acoustics.encoder import WhisperEncoder
from diffusion_asr.decoding.letters.model import PAIR, LetterCanvas, LetterConfig
from diffusion_asr.languages import LANGUAGES

__all__ = ["LOWER", "PAIR", "LowerEncoder", "TrainedLetterCanvas", "collapse", "numbers_of"]
LOWER = 4  # encoder layers that stay as they are; the letter canvas has its own copy of those above


class LowerEncoder(WhisperEncoder):
    """Whisper's encoder up to layer ``LOWER``, without its last norm: what the letter canvas hears."""

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, frames) to (B, ceil(frames / 2), D)."""
        return self.climb(self.embed(mel), self.layers[:LOWER])


class TrainedLetterCanvas(LetterCanvas):
    """A letter canvas of all languages that starts from an encoder's top layers.

    ``hanzi`` reads the same hidden states as ``letters``.
    """

    def __init__(self, encoder: WhisperEncoder, letters: int, hanzi: int, dropout: float = 0.1) -> None:
        sizes = encoder.config
        top = sizes.layers - LOWER
        super().__init__(LetterConfig(letters, tuple(LANGUAGES), sizes.d_model, top, sizes.heads))
        self.layers = copy.deepcopy(encoder.layers[LOWER:])
        self.norm = copy.deepcopy(encoder.layer_norm)
        self.hanzi = nn.Linear(sizes.d_model, hanzi)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.language.weight, std=0.02)

    def hidden(self, states: Tensor, language: Tensor, mask: Tensor | None = None) -> Tensor:
        """See ``LetterCanvas.hidden``."""
        return self.dropout(super().hidden(states, language, mask))  # type: ignore[no-any-return]


def numbers_of(languages: list[str]) -> Tensor:
    """(B,) rows of the language table."""
    return torch.tensor([LANGUAGES.index(code) for code in languages])


def collapse(rows: Tensor, symbols: tuple[str, ...]) -> list[str]:
    """The likeliest symbol of each slot (slots, V), repeats and nulls dropped."""
    out, before = [], 0
    for number in rows.argmax(-1).tolist():
        if number and number != before:
            out.append(symbols[number])
        before = number
    return out
