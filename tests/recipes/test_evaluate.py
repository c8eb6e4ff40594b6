"""The evaluation's report of passes by kind, and its JSON."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_asr.decoding.decoder import Decoded
from recipes.embedded.evaluate import Clip, Score, as_json, passes


def decoded(causal: int) -> Decoded:
    """One parallel pass, some causal ones and one for the times, over two tokens."""
    canvas = torch.tensor([0, 3, 0, 4])
    return Decoded(
        canvas,
        torch.ones(4),
        torch.arange(4.0),
        0.08,
        parallel_passes=1,
        causal_passes=causal,
        timing_passes=1,
    )


def test_passes_are_reported_by_kind() -> None:
    wanted = [decoded(2), decoded(6)]
    rest = iter(wanted)

    def decode(*_: Any) -> list[SimpleNamespace]:
        return [SimpleNamespace(decoded=next(rest))]

    fake = SimpleNamespace(encode=lambda waveforms: waveforms, decode=decode)
    short, long = np.zeros(16_000, np.float32), np.zeros(31 * 16_000, np.float32)
    clips = [Clip(x, "", "en", "made") for x in (short, long, short)]
    cost = passes(fake, clips)
    assert (cost.clips, cost.parallel, cost.causal, cost.timing) == (2, 1.0, 4.0, 1.0)
    assert cost.per_token == pytest.approx(10 / 4)
    assert cost.soon == 50.0
    assert "1.0 parallel, 4.0 causal, 1.0 timing passes" in str(cost)
    told = json.loads(as_json({"null auto": {"en": Score((1,), (4,))}}, cost))
    assert told["rates"] == {"null auto": {"en": 25.0}}
    assert told["passes"]["causal"] == 4.0
    assert told["passes"]["per_token"] == 2.5
