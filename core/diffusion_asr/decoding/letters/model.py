"""The letter canvas: upper encoder layers of its own, and a linear layer on groups of states; CTC.

It hears the states below the encoder's top layers: those lose what only a language other than Whisper's own
text of it needs. One parallel pass; every slot tells the log-probability of each letter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import EncoderLayer

PAIR = 2  # states of 20 ms that make a slot


@dataclass(frozen=True, slots=True)
class LetterConfig:
    """Sizes of a letter canvas.

    Attributes:
        letters: Of its alphabet, with null.
        languages: Codes of the languages that it writes.
        d_model: Width of the states.
        layers: Of its own.
        heads: Of these layers.
    """

    letters: int
    languages: tuple[str, ...]
    d_model: int = 512
    layers: int = 2
    heads: int = 8


class LetterCanvas(nn.Module):
    """Encoder states (B, T, D) to log-probabilities of letters (B, ceil(T / PAIR), letters)."""

    def __init__(self, config: LetterConfig) -> None:
        super().__init__()
        self.config, width = config, config.d_model
        self.layers = nn.ModuleList(EncoderLayer(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.language = nn.Embedding(len(config.languages), width)
        self.pair, self.pair_norm = nn.Linear(PAIR * width, width), nn.LayerNorm(width)
        self.letters = nn.Linear(width, config.letters)

    def hidden(self, states: Tensor, language: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, D) states to (B, slots, D).

        Args:
            states: Below the encoder's top layers.
            language: (B,) rows of the table of languages.
            mask: (B, T), True on real states.
        """
        x = states
        for layer in self.layers:
            x = layer(x, None if mask is None else mask[:, None, None])
        x = self.norm(x) + self.language(language)[:, None]
        x = F.pad(x, (0, 0, 0, x.shape[1] % PAIR)).reshape(len(x), -1, PAIR * x.shape[-1])
        return F.gelu(self.pair_norm(self.pair(x)))

    def forward(self, states: Tensor, language: Tensor, mask: Tensor | None = None) -> Tensor:
        """See the class; arguments as of ``hidden``."""
        return self.letters(self.hidden(states, language, mask)).float().log_softmax(-1)  # type: ignore[no-any-return]

    def rows_of(self, languages: list[str]) -> Tensor:
        """(B,) rows of the table of languages."""
        return torch.tensor([self.config.languages.index(code) for code in languages])
