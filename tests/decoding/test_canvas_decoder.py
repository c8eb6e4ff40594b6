"""Which way the shipped kind of decoder takes: sweeps with a number of steps, verification without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_asr import Recognizer
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.decoder import Decoded, DecodingOptions
from tests.support import tiny


@pytest.fixture(scope="module")
def asr(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return tiny.eager(tiny.parts(tmp_path_factory.mktemp("tiny"), refined=True))


def decode(asr: Recognizer, language: str = "en", **options: Any) -> Decoded:
    memory = asr.encode(torch.from_numpy(tiny.noise(2.0, 3))[None])
    (found,) = asr.decode(memory, language, DecodingOptions(trace=True, **options))
    return found.decoded


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({}, {"parallel", "causal"}),
        ({"max_steps": 4}, {"parallel", "causal"}),
        ({"steps": 4}, {"parallel"}),
        ({"steps": 4, "verify": True}, {"parallel", "causal"}),
        ({"verify": False}, {"parallel"}),
        ({"steps": 4, "verify": False}, {"parallel"}),
    ],
)
def test_the_options_choose_the_way(asr: Recognizer, options: dict[str, Any], kinds: set[str]) -> None:
    found = decode(asr, **options)
    assert {step.kind for step in found.trace} == kinds
    assert bool(found.causal_passes) == ("causal" in kinds)
    assert found.parallel_passes > 1 or "causal" in kinds


def test_a_language_that_sweeps_make_worse_keeps_its_draft(asr: Recognizer, tmp_path: Path) -> None:
    parts = asr.parts
    whole = parts.decoder
    assert isinstance(whole, CanvasDecoder)
    some = CanvasDecoder(whole.denoiser, whole.refiner, parts.vocabulary, swept=("en",))
    other = Recognizer(replace(parts, decoder=some), asr.detector)
    draft, swept = decode(other, "hi", steps=4), decode(other, "en", steps=4)
    assert (draft.passes, swept.passes > 1) == (1, True)
    assert torch.equal(draft.canvas, decode(asr, "hi", steps=1).canvas)


@pytest.mark.parametrize("verify", ["yes", 1])
def test_verify_is_yes_no_or_none(verify: Any) -> None:
    with pytest.raises(ValueError, match="verify must be True, False or None"):
        DecodingOptions(verify=verify)
