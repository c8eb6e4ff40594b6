"""The shipped kind of decoder with random weights: a draft, and what a causal decoder makes of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.causal.alternatives import Reviser
from diffusion_asr.decoding.causal.decoder import went_astray
from diffusion_asr.decoding.causal.model import MAX_TOKENS
from diffusion_asr.decoding.causal.rewriting import Refined
from diffusion_asr.models.parts import Parts
from tests.support import tiny
from tests.support.tiny import rewriter


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return tiny.parts(tmp_path_factory.mktemp("refined"), refined=True)


@pytest.mark.parametrize("start", ["null", "noise"])
@pytest.mark.parametrize("steps", [1, 3, None])
def test_every_pass_goes_on_from_the_one_before(whole: Parts, start: str, steps: int | None) -> None:
    asr = tiny.eager(whole)
    memory = asr.encode(torch.from_numpy(tiny.noise(2.0))[None])
    (found,) = asr.decode(memory, "en", steps=steps, start=start, verify=True, trace=True)
    (plain,) = asr.decode(memory, "en", steps=steps, start=start, verify=True)
    clip = found.decoded
    assert torch.equal(clip.canvas, plain.decoded.canvas)
    assert found.words == plain.words
    assert clip.passes == len(clip.trace) <= (steps or MAX_TOKENS + 1)
    assert [step.kind for step in clip.trace] == ["parallel", *["causal"] * clip.causal_passes]
    assert torch.equal(clip.trace[-1].predicted, clip.canvas)
    assert clip.canvas.shape == (25,)
    for before, after in pairwise(clip.trace):
        assert torch.equal(before.predicted, after.canvas)


def test_the_canvas_spells_what_was_settled(whole: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(_: Reviser, tokens: list[int], most: int) -> Refined:
        return Refined(list(tokens), [1.0] * len(tokens), 0, ())

    monkeypatch.setattr(Reviser, "revise", keep)
    asr = tiny.eager(whole)
    memory = asr.encode(torch.from_numpy(tiny.noise(3.0, seed=2))[None])
    (found,) = asr.decode(memory, "fr")
    (draft,) = asr.decode(memory, "fr", steps=1)
    tokens, start = (read_tokens(h.decoded.canvas) for h in (found, draft))
    assert isinstance(whole.decoder, CanvasDecoder)
    refiner = whole.decoder.refiner
    pieces = torch.arange(len(whole.vocabulary))
    settled = rewriter(refiner, pieces).settle(refiner.prepare(memory, ["fr"]), start, 441).tokens
    fits = len(settled) + sum(a == b for a, b in pairwise(settled)) <= len(found.decoded.canvas)
    assert tokens == (settled if fits else start)


def test_an_empty_draft_is_final(whole: Parts) -> None:
    """Where the denoiser hears nothing, no pass is spent on it."""
    asr = tiny.eager(whole)
    denoiser = tiny.canvas_denoiser(whole)
    before = denoiser.null_bias.clone()
    with torch.no_grad():
        denoiser.null_bias.fill_(1e4)
    try:
        (found,) = asr.decode(asr.encode(torch.from_numpy(tiny.noise(1.0))[None]), "en", trace=True)
    finally:
        with torch.no_grad():
            denoiser.null_bias.copy_(before)
    assert found.text == ""
    assert (found.decoded.parallel_passes, found.decoded.causal_passes) == (1, 0)
    assert len(found.decoded.trace) == 1


@pytest.mark.parametrize(
    ("tokens", "draft", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], False),
        ([5] * 8, [1, 2, 3], True),
        ([5] * 7, [1, 2, 3], False),
        ([9, *([1, 2, 3] * 8)], [1, 2, 3], True),
        ([*([1, 2, 3] * 7), 1, 2], [1, 2, 3], False),
        ([5] * 8, [5] * 9, False),  # it was said
        ([4], list(range(1, 10)), True),  # most is left out
        ([4, 5, 6], list(range(1, 10)), False),
        ([4], [1, 2, 3, 4], False),  # of a few tokens, most may be wrong
        ([], list(range(1, 10)), False),  # nothing is said: noise
    ],
)
def test_a_refiner_that_went_astray_is_noticed(tokens: list[int], draft: list[int], expected: bool) -> None:
    assert went_astray(tokens, draft) is expected
