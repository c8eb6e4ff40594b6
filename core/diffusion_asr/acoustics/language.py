"""Which language is spoken, from the acoustic memory alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffusion_asr.acoustics.encoder import AcousticMemory


class LanguagePosterior(nn.Module):
    """Which of the languages is spoken: attention-pooled encoder states and one hidden layer."""

    def __init__(self, d_model: int, languages: Sequence[str]) -> None:
        super().__init__()
        self.languages = tuple(languages)
        self.attend = nn.Linear(d_model, 1)
        self.hidden = nn.Linear(d_model, 128)
        self.score = nn.Linear(128, len(self.languages))

    def forward(self, memory: AcousticMemory) -> Tensor:
        """Log-probabilities (B, languages)."""
        states = memory.states.to(self.score.weight.dtype)
        weight = self.attend(states)[..., 0].masked_fill(~memory.mask, -1e4).softmax(-1)
        pooled = (weight[..., None] * states).sum(1)
        return self.score(torch.tanh(self.hidden(pooled))).float().log_softmax(-1)  # type: ignore[no-any-return]
