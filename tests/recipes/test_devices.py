"""Objectives and the denoiser on a GPU, as far as a machine without one can tell.

Fake tensors hold a device and no values: an operation that mixes devices fails as it would on a GPU. What
reads values (the denoising loop, sampled pieces) cannot be run this way.
"""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.diffusion import make_first_canvas
from diffusion_asr.decoding.objective import compute_losses
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.decoding.process import SlotNoise
from recipes.embedded.data import Batch
from recipes.embedded.training import losses
from tests.support import recipe_helpers, tiny
from tests.support.recipe_helpers import TEXTS, synthetic

own_generators = recipe_helpers.own_generators
SIZE = 50


def on_gpu(clips: int = 2, frames: int = 40) -> tuple[CanvasDenoiser, Batch]:
    """Call it under ``FakeTensorMode``."""
    config = tiny.denoiser_config(SIZE)
    memory = AcousticMemory(
        torch.zeros(clips, frames, config.d_model, device="cuda"),
        torch.ones(clips, frames, dtype=torch.bool, device="cuda"),
        50.0,
    )
    targets = torch.ones(clips, 3, dtype=torch.long, device="cuda")
    counts = torch.full((clips,), 3, device="cuda")
    with torch.device("cuda"):
        model = CanvasDenoiser(config)
    return model, Batch(memory, ["en"] * clips, targets, counts, ["x"] * clips)


def test_fake_tensors_notice_mixed_devices() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="at least two devices"):
        torch.zeros(2, device="cuda") + torch.zeros(2)


def fake_ctc(log_probs: Tensor, targets: Tensor, slots: Tensor, counts: Tensor, **_: object) -> Tensor:
    """CTC, which has no kernel for fake tensors: what it reads must lie on one device."""
    assert log_probs.device == targets.device == slots.device == counts.device
    return log_probs.sum((0, 2))


def test_losses_stay_on_the_memorys_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "ctc_loss", fake_ctc)
    with FakeTensorMode():
        model, batch = on_gpu()
        texts = [torch.ones(3, dtype=torch.long)] * len(batch.languages)  # toolkits collate on the CPU
        found = [*losses(model, batch, unroll=True, others=SIZE)]
        found += compute_losses(model, batch.memory, batch.languages, texts)
        assert {loss.device.type for loss in found} == {"cuda"}


@pytest.mark.parametrize("start", ["null", "noise", ((1, 2), (3,))])
def test_a_first_pass_stays_on_the_memorys_device(start: object) -> None:
    with FakeTensorMode():
        model, batch = on_gpu(clips=1)
        state = model.prepare(batch.memory, batch.languages)
        noise = SlotNoise(0, state.slots.mask.shape[1], SIZE)
        options = DecodingOptions(start=start)  # type: ignore[arg-type]
        # A seed's noise is read, so the parts that draw it are given it: a canvas of the CPU.
        noise.canvas = lambda step: torch.zeros(1, noise.length, dtype=torch.long)  # type: ignore[method-assign]
        canvas = make_first_canvas(model, state, options, noise)
        pieces = torch.arange(SIZE, device="cuda")
        best, places, _ = model.likeliest(model.hidden(canvas, state), pieces)
        assert {x.device.type for x in (canvas, best, places)} == {"cuda"}


def test_losses_under_autocast_are_close_to_exact_ones() -> None:
    """A GPU run computes a float32 model under bf16 autocast; the CPU's autocast stands in for it."""
    model = tiny.randomised(CanvasDenoiser(tiny.denoiser_config(len(TEXTS) * 20)), 0)
    batch = synthetic(TEXTS)
    exact: list[torch.Tensor] = []
    rounded: list[torch.Tensor] = []
    for found, enabled in ((exact, False), (rounded, True)):
        torch.manual_seed(0)
        random.seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found += losses(model, batch, unroll=True, others=10_000)
    assert [float(x.detach()) for x in rounded] == pytest.approx([float(x.detach()) for x in exact], rel=0.05)
