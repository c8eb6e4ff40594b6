"""Which language is spoken, from the acoustic memory alone, and from the rest of a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

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


class LanguagePrior:
    """What a recording's other parts say about the language of one.

    A second of speech can sound like any language; people rarely change theirs for a second. Bayes' rule: a
    part's own probabilities, which count for less the shorter it is, times how many seconds of the others
    were in each language. Several seconds of another language still win.
    """

    _RELIABLE = 1.5  # seconds from which probabilities are right; of less they are too sure (dev clips)
    _UNHEARD = 0.5  # seconds that every language is given in advance
    _CHANGES = 0.02  # how likely somebody speaks another language that was not heard yet

    def __init__(self, languages: Sequence[str]) -> None:
        self._seconds = dict.fromkeys(languages, 0.0)

    @property
    def heard(self) -> float:
        """Seconds of speech that it knows of."""
        return sum(self._seconds.values())

    def add(self, likely: Mapping[str, float], seconds: float) -> None:
        """Take in a part: the probability of each language, and how long it is."""
        for code, probability in likely.items():
            if code in self._seconds:
                self._seconds[code] += probability * seconds

    def choose(self, likely: Mapping[str, float], seconds: float) -> str:
        """The language of a part that was added before, in view of all others."""
        own = min(1.0, seconds / self._RELIABLE)
        others = {k: max(0.0, self._seconds[k] - likely[k] * seconds) + self._UNHEARD for k in likely}
        total = sum(others.values())

        def score(code: str) -> float:
            return own * math.log(max(likely[code], 1e-9)) + math.log(others[code] / total + self._CHANGES)

        return max(likely, key=score)
