"""The language posterior: probabilities, whatever the padding."""

from __future__ import annotations

import torch

from diffusion_asr.acoustics.language import LanguagePosterior
from diffusion_asr.languages import LANGUAGES
from tests.support.tiny import WIDTH, memory, randomised


def posterior() -> LanguagePosterior:
    return randomised(LanguagePosterior(WIDTH, LANGUAGES), 2)


def test_each_clip_has_probabilities() -> None:
    found = posterior()(memory([50, 20, 1]))
    assert found.shape == (3, len(LANGUAGES))
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(3))
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_padding_does_not_matter() -> None:
    model, lengths = posterior(), [50, 20, 1]
    together = model(memory(lengths))
    for row, length in zip(together, lengths, strict=True):
        torch.testing.assert_close(row, model(memory([length]))[0], atol=1e-5, rtol=1e-5)
