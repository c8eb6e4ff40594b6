"""Four-bit layers whose rounding errors make up for each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.models.packing import GROUP, pack_tensors, quantise_groups, unpack_file
from diffusion_asr.models.stored import NIBBLES, SCALE
from recipes.embedded.compensate import compensated, input_moments, narrowed
from recipes.embedded.data import Clip
from tests.support import tiny


def widened(packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    whole = torch.stack([packed >> 4, packed & 15], dim=-1).flatten(1).float() - 8
    return (whole.view(len(whole), -1, GROUP) * scale.float()[..., None]).flatten(1)


def test_outputs_are_nearer_than_with_plain_rounding() -> None:
    torch.manual_seed(0)
    weight = torch.randn(48, 4 * GROUP)
    inputs = torch.randn(2000, 6) @ torch.randn(6, 4 * GROUP) + 0.1 * torch.randn(2000, 4 * GROUP)
    wanted = inputs @ weight.T

    def error(rounded: torch.Tensor) -> float:
        return float((inputs @ rounded.T - wanted).square().mean())

    plain = error(widened(*quantise_groups(weight)))
    assert error(widened(*compensated(weight, inputs.T @ inputs))) < 0.5 * plain


def test_inputs_that_are_not_alike_are_rounded_as_usual() -> None:
    torch.manual_seed(1)
    weight = torch.randn(8, 2 * GROUP)
    packed, scale = compensated(weight, torch.eye(2 * GROUP) * 5)
    expected, steps = quantise_groups(weight)
    assert torch.equal(packed, expected)
    assert torch.allclose(scale.float(), steps.float(), rtol=1e-3)


def test_a_denoisers_layers_are_stored_and_read_again(tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = CanvasDenoiser(replace(tiny.denoiser_config(50), d_model=512, heads=8)).eval()
    states = torch.randn(80, 512).half().numpy()
    clips = [Clip(states, 0, 80, "", "en", "test", [])]
    moments = input_moments(model, clips)
    assert "layers.0.encoder_attn.k_proj" in moments
    assert "condition" not in moments  # a first step has no earlier one to hear of
    stored = narrowed(model, moments)
    names = {k.removesuffix(NIBBLES) for k in stored if k.endswith(NIBBLES)}
    assert names
    assert {k for k in stored if k.endswith(SCALE)} == {n + SCALE for n in names}
    rest = {k: v for k, v in model.state_dict().items() if k not in names}
    save_file({**pack_tensors(rest), **stored}, tmp_path / "denoiser.safetensors")
    again = unpack_file(tmp_path / "denoiser.safetensors", torch.float32)
    for name in names:
        off = (again[name] - model.state_dict()[name]).square().mean().sqrt()
        assert float(off) < 0.2 * float(model.state_dict()[name].std())
