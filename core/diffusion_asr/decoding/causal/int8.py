"""Linear layers in int8 on x86: weights by row, activations by tensor as they come (torch's fbgemm kernels).

The refiner reads a few tokens a pass, so other layers mostly wait for memory: on two AVX2 cores these are
five to eight times faster than float32, on AVX-512 cores two to three times faster than bf16. Weights are
stored in int8 by row anyway.
"""

from __future__ import annotations

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn


def has_kernels() -> bool:
    """Whether this torch has the kernels."""
    engines = torch.backends.quantized.supported_engines
    return "fbgemm" in engines and hasattr(torch, "quantize_per_channel")  # torch means to remove the latter


def pack_weight(weight: Tensor, bias: Tensor | None = None) -> Any:
    """A (N, K) float matrix in the kernels' own layout, symmetric int8 by row."""
    rows = weight.detach().float().contiguous()
    scale = (rows.abs().amax(1) / 127).clamp(min=1e-8).double()
    zero = torch.zeros(len(rows), dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the kernels' only entrance is announced to go; see available
        whole = torch.quantize_per_channel(rows, scale, zero, 0, torch.qint8)
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        return torch.ops.quantized.linear_prepack(whole, None if bias is None else bias.detach().float())
    finally:
        torch.backends.quantized.engine = before


def apply_linear(x: Tensor, packed: Any) -> Tensor:
    """(…, K) float32 to (…, N) float32."""
    # Seven bits for activations: eight overflow the 16-bit sums of CPUs without VNNI.
    return cast("Tensor", torch.ops.quantized.linear_dynamic(x, packed, True))


class Int8Linear(nn.Module):
    """A trained ``nn.Linear``, for inference only."""

    def __init__(self, trained: nn.Linear) -> None:
        super().__init__()
        self._packed = pack_weight(trained.weight, trained.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, K) to (…, N)."""
        return apply_linear(x, self._packed)


def quantise_linears(module: nn.Module) -> None:
    """Replace every linear layer inside ``module``, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child))
        else:
            quantise_linears(child)
