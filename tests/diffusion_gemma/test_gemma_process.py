"""DiffusionGemma's process in the parts of ours is transformers' own."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.decoding.process import DenoisedRows, denoise_canvas
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser, GemmaState
from diffusion_asr.diffusion_gemma.process import GemmaSampling, SequentialNoise
from tests.support import gemma_tiny
from tests.support.tiny import memory

pytestmark = pytest.mark.filterwarnings("ignore")


def denoise(
    model: DiffusionGemmaDenoiser,
    state: GemmaState,
    sampling: GemmaSampling,
    seed: int,
    first: torch.Tensor | None = None,
    trace: bool = False,
) -> DenoisedRows:
    """From a first canvas, or from noise."""
    batch, length = state.slots.mask.shape
    generator = torch.Generator().manual_seed(seed)
    noise = SequentialNoise((batch, length), model.vocabulary, generator, model.device)
    canvas = noise.canvas(0) if first is None else first
    return denoise_canvas(model, state, canvas, sampling.process(noise), sampling.steps, trace=trace)


def generated(model: DiffusionGemmaDenoiser, state: GemmaState, seed: int, **settings: Any) -> torch.Tensor:
    """What transformers' ``generate`` writes: the audio reaches its prompts through an embedding hook."""
    from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
        DiffusionGemmaGenerationConfig,
        EntropyBoundSamplerConfig,
    )

    backbone = model.backbone
    bound = EntropyBoundSamplerConfig(entropy_bound=settings.pop("entropy_bound"))
    config = DiffusionGemmaGenerationConfig(
        max_new_tokens=gemma_tiny.SIZES.canvas, sampler_config=bound, **settings
    )
    rows = model.prompt.rows(state.counts, ["en"] * len(state.counts))

    def inject(_: Any, given: tuple[torch.Tensor], out: torch.Tensor) -> torch.Tensor:
        slots = given[0] == gemma_tiny.AUDIO
        return out.masked_scatter(slots[..., None], state.heard.flatten(0, 1)) if slots.any() else out

    handle = backbone.model.encoder.get_input_embeddings().register_forward_hook(inject)
    try:
        torch.manual_seed(seed)
        out = backbone.generate(input_ids=rows.ids, generation_config=config)
    finally:
        handle.remove()
    written: torch.Tensor = out.sequences[:, rows.ids.shape[1] :]
    return written


@pytest.mark.parametrize(("bound", "steps", "clips"), [(0.1, 6, 1), (5.0, 6, 1), (30.0, 12, 3), (0.1, 1, 2)])
def test_equals_generate(bound: float, steps: int, clips: int) -> None:
    model = gemma_tiny.denoiser()
    state = model.prepare(memory([80] * clips), ["en"] * clips)
    mine = denoise(model, state, GemmaSampling(steps, bound, confident=None), 7)
    theirs = generated(
        model, state, 7, entropy_bound=bound, max_denoising_steps=steps, t_min=0.4, t_max=0.8,
        stability_threshold=1, confidence_threshold=1e-9,
    )  # fmt: skip
    assert torch.equal(mine.canvas, theirs)
    assert len({tuple(row) for row in mine.canvas.tolist()}) == clips


@pytest.mark.parametrize("stable", [0, 1])
def test_early_stops_equal_generate(stable: int) -> None:
    """Clips that stop keep their answer while the others go on."""
    model = gemma_tiny.denoiser(scale=0.05 if stable else 0.3)
    state = model.prepare(memory([80] * 4), ["en"] * 4)
    sure, hot = (20.0, 0.02) if stable else (1.9, 0.8)
    mine = denoise(model, state, GemmaSampling(30, 300.0, 0.01, hot, stable, sure), 3)
    theirs = generated(
        model, state, 3, entropy_bound=300.0, max_denoising_steps=30, t_min=0.01, t_max=hot,
        stability_threshold=stable, confidence_threshold=sure,
    )  # fmt: skip
    assert torch.equal(mine.canvas, theirs)
    assert len(set(mine.passes)) > 1


def test_a_draft_is_the_first_canvas_and_the_trace_tells_every_step() -> None:
    model = gemma_tiny.denoiser()
    state = model.prepare(memory([80, 80]), ["en", "en"], canvas=10)
    draft = torch.arange(20).view(2, 10)
    sampling = GemmaSampling(4, 5.0, confident=None)
    drafted, plain = (denoise(model, state, sampling, 1, first, trace=True) for first in (draft, None))
    for row, trace in enumerate(drafted.traces):
        assert [(step.kind, step.step) for step in trace] == [("parallel", n) for n in (1, 2, 3, 4)]
        assert torch.equal(trace[0].canvas, draft[row])
        assert torch.equal(trace[-1].predicted, drafted.canvas[row])
        assert torch.equal(trace[-1].confidence, drafted.confidence[row])
        for before, after in pairwise(trace):
            assert before.accepted.any()
            assert not torch.equal(after.canvas, before.canvas)
        assert not torch.equal(trace[0].canvas, plain.traces[row][0].canvas)


def test_wrong_options() -> None:
    for wrong in ({"steps": 0}, {"t_min": 0.8, "t_max": 0.4}, {"t_min": 0.0}, {"entropy_bound": -1.0}):
        with pytest.raises(ValueError, match=r"step|temperatures|entropy_bound"):
            GemmaSampling(**wrong)


def test_a_call_s_options_change_what_they_name() -> None:
    own = GemmaSampling()
    assert own.with_options(DecodingOptions()) == own
    assert own.with_options(DecodingOptions(max_steps=9)) == GemmaSampling(steps=9)
    asked = own.with_options(DecodingOptions(steps=3, entropy_bound=2.0, temperature=0.7))
    assert asked == GemmaSampling(3, 2.0, 0.7, 0.7, confident=None)  # a given number is taken in full
    with pytest.raises(ValueError, match="temperatures must be"):
        own.with_options(DecodingOptions(temperature=0.0))
