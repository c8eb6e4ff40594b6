"""Linear layers in int8."""

from __future__ import annotations

import pytest
import torch

from diffusion_asr.decoding.causal import int8


@pytest.mark.skipif(not int8.has_kernels(), reason="this torch has no int8 kernels for this CPU")
def test_int8_layers_are_near_the_trained_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    trained = torch.nn.Linear(64, 200)
    x = torch.randn(3, 5, 64, generator=generator)
    wrapped = torch.nn.Sequential(torch.nn.Sequential(trained))
    with torch.no_grad():
        exact = trained(x)
        int8.quantise_linears(wrapped)
        quick = wrapped(x)
    assert not any(isinstance(m, torch.nn.Linear) for m in wrapped.modules())
    assert float((quick - exact).abs().max()) < 0.03 * float(exact.abs().max())
    assert float((quick - exact).abs().max()) > 0
