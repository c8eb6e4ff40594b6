"""The letter canvas: Whisper's top two encoder layers, trained on, and a linear layer on pairs of states."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import WhisperEncoder
from diffusion_asr.languages import LANGUAGES

LOWER = 4  # encoder layers that stay as they are; the letter canvas has its own copy of those above
PAIR = 2  # states of 20 ms that make a slot


class LowerEncoder(WhisperEncoder):
    """Whisper's encoder up to layer ``LOWER``, without its last norm: what the letter canvas hears."""

    def forward(self, mel: Tensor) -> Tensor:
        """(B, n_mels, frames) to (B, ceil(frames / 2), D)."""
        x = F.gelu(self.conv1(mel.to(self.conv1.weight.dtype)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        for layer in self.layers[:LOWER]:
            x = layer(x, None)
        return x


class LetterCanvas(nn.Module):
    """States (B, T, D) to log-probabilities of letters (B, ceil(T / 2), V) and of Hanzi."""

    def __init__(self, encoder: WhisperEncoder, letters: int, hanzi: int, dropout: float = 0.1) -> None:
        super().__init__()
        width = encoder.config.d_model
        self.layers = copy.deepcopy(encoder.layers[LOWER:])
        self.norm = copy.deepcopy(encoder.layer_norm)
        self.language = nn.Embedding(len(LANGUAGES), width)
        self.pair, self.pair_norm = nn.Linear(PAIR * width, width), nn.LayerNorm(width)
        self.letters, self.hanzi = nn.Linear(width, letters), nn.Linear(width, hanzi)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.language.weight, std=0.02)

    def hidden(self, states: Tensor, language: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) states of ``LowerEncoder`` to (B, slots, D); ``mask`` (B, T), True on real states."""
        x = states
        for layer in self.layers:
            x = layer(x, None if mask is None else mask[:, None, None])
        x = self.norm(x) + self.language(language)[:, None]
        x = F.pad(x, (0, 0, 0, x.shape[1] % PAIR)).reshape(len(x), -1, PAIR * x.shape[-1])
        return self.dropout(F.gelu(self.pair_norm(self.pair(x))))  # type: ignore[no-any-return]

    def forward(self, states: Tensor, language: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities of letters (B, slots, V)."""
        return self.letters(self.hidden(states, language, mask)).float().log_softmax(-1)  # type: ignore[no-any-return]


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
