"""The denoising loop is transformers' own, and the denoiser's batches are its clips."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser, GemmaState
from diffusion_asr.diffusion_gemma.sampler import GemmaSampler, GemmaSamplerOptions
from tests.support import gemma_tiny
from tests.support.tiny import memory

pytestmark = pytest.mark.filterwarnings("ignore")


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
    mine = GemmaSampler(model).sample(
        state,
        GemmaSamplerOptions(steps, bound, confident=None),
        torch.Generator().manual_seed(7),
    )
    theirs = generated(
        model, state, 7, entropy_bound=bound, max_denoising_steps=steps, t_min=0.4, t_max=0.8,
        stability_threshold=1, confidence_threshold=1e-9,
    )  # fmt: skip
    assert torch.equal(torch.stack([clip.canvas for clip in mine]), theirs)
    assert len({tuple(clip.canvas.tolist()) for clip in mine}) == clips


@pytest.mark.parametrize("stable", [0, 1])
def test_early_stops_equal_generate(stable: int) -> None:
    """Clips that stop keep their answer while the others go on."""
    model = gemma_tiny.denoiser(scale=0.05 if stable else 0.3)
    state = model.prepare(memory([80] * 4), ["en"] * 4)
    sampler, sure, hot = GemmaSampler(model), *((20.0, 0.02) if stable else (1.9, 0.8))
    options = GemmaSamplerOptions(30, 300.0, 0.01, hot, stable, sure)
    mine = sampler.sample(state, options, torch.Generator().manual_seed(3))
    theirs = generated(
        model, state, 3, entropy_bound=300.0, max_denoising_steps=30, t_min=0.01, t_max=hot,
        stability_threshold=stable, confidence_threshold=sure,
    )  # fmt: skip
    assert torch.equal(torch.stack([clip.canvas for clip in mine]), theirs)
    assert len({clip.steps for clip in mine}) > 1


def test_a_draft_is_the_first_canvas_and_the_trace_tells_every_step() -> None:
    model = gemma_tiny.denoiser()
    state = model.prepare(memory([80, 80]), ["en", "en"], canvas=10)
    draft = torch.arange(20).view(2, 10)
    options = GemmaSamplerOptions(4, 5.0, confident=None)
    drafted, plain = (
        GemmaSampler(model).sample(state, options, torch.Generator().manual_seed(1), first, trace=True)
        for first in (draft, None)
    )
    for row, clip in enumerate(drafted):
        assert [step.step for step in clip.trace] == [1, 2, 3, 4]
        assert torch.equal(clip.trace[0].canvas, draft[row])
        assert torch.equal(clip.trace[-1].predicted, clip.canvas)
        assert torch.equal(clip.trace[-1].confidence, clip.confidence)
        for before, after in zip(clip.trace[:-1], clip.trace[1:], strict=True):
            assert before.accepted.any()
            assert not torch.equal(after.canvas, before.canvas)
        assert not torch.equal(clip.trace[0].canvas, plain[row].trace[0].canvas)


def test_wrong_options() -> None:
    for wrong in ({"steps": 0}, {"t_min": 0.8, "t_max": 0.4}, {"t_min": 0.0}, {"entropy_bound": -1.0}):
        with pytest.raises(ValueError, match=r"step|temperatures|entropy_bound"):
            GemmaSamplerOptions(**wrong)
