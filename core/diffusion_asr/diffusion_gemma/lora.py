"""Low-rank adapters (Hu et al. 2022) on the attention of both stacks, in PEFT's arithmetic and names.

The stacks share their weights but not their adapters, so these cannot be merged. Layers are wrapped where
they are: quantised ones, and ones that another device holds, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_asr.errors import ModelError

PREFIX = "base_model.model."  # of PEFT
TARGETS = re.compile(r"model\.(encoder\.language_model|decoder)\.layers\.\d+\.self_attn\.[qkvo]_proj")
_STORED = re.compile(
    r"(encoder|decoder)(?:\.language_model)?\.layers\.(\d+)\.self_attn\.([qkvo])_proj\.lora_([AB])"
    r"(?:\.[^.]+)?\.weight$"
)


class LoraLinear(nn.Module):
    """``base(x) + scale * B(A(x))``; B starts at zero."""

    def __init__(self, base: nn.Module, inputs: int, outputs: int, rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.lora_A = nn.Linear(inputs, rank, bias=False)
        self.lora_B = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        low = self.lora_B(self.lora_A(x.to(self.lora_A.weight.dtype)))
        return self.base(x) + (self.scale * low).to(x.dtype)  # type: ignore[no-any-return]


def add_adapters(backbone: Any, rank: int, alpha: float) -> list[LoraLinear]:
    """Wrap every attention projection of both stacks, and freeze all else.

    Raises:
        ModelError: No such layer, or a rank that is not positive.
    """
    if rank < 1:
        raise ModelError(f"a LoRA rank of {rank}: give 1 or more")
    backbone.requires_grad_(False)
    found = [name for name, module in backbone.named_modules() if TARGETS.fullmatch(name)]
    if not found:
        raise ModelError("the backbone has no attention projections to adapt: it is not a DiffusionGemma")
    made = []
    for name in found:
        base = backbone.get_submodule(name)
        wrapped = LoraLinear(base, base.in_features, base.out_features, rank, alpha / rank)
        parent, _, leaf = name.rpartition(".")
        setattr(backbone.get_submodule(parent), leaf, wrapped.to(_device(base)))
        made.append(wrapped)
    return made


def _device(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def list_adapters(backbone: Any) -> Iterator[tuple[str, LoraLinear]]:
    """Names and modules of what ``add_adapters`` wrapped."""
    for name, module in backbone.named_modules():
        if isinstance(module, LoraLinear):
            yield name, module


def pack_adapters(backbone: Any) -> dict[str, Tensor]:
    """The adapters' weights under PEFT's names."""
    out = {}
    for name, module in list_adapters(backbone):
        out[f"{PREFIX}{name}.lora_A.weight"] = module.lora_A.weight.detach()
        out[f"{PREFIX}{name}.lora_B.weight"] = module.lora_B.weight.detach()
    return out


def place(name: str) -> tuple[str, int, str, str] | None:
    """(stack, layer, projection, A or B) of a stored tensor; None for others."""
    match = _STORED.search(name)
    return (match[1], int(match[2]), match[3], match[4]) if match else None


def fill_adapters(backbone: Any, tensors: Mapping[str, Tensor]) -> None:
    """Load adapters by where they belong, whatever comes before in their names.

    Raises:
        ModelError: Missing, additional or misshapen ones; all are listed.
    """
    expected: dict[tuple[str, int, str, str], Tensor] = {}
    for name, module in list_adapters(backbone):
        for half, linear in (("A", module.lora_A), ("B", module.lora_B)):
            where = place(f"{name}.lora_{half}.weight")
            assert where is not None
            expected[where] = linear.weight
    given = {place(name): (name, value) for name, value in tensors.items()}
    wrong = [f"{name}: no such layer in the backbone" for k, (name, _) in given.items() if k not in expected]
    for where, weight in expected.items():
        label = "{} layer {} {}_proj lora_{}".format(*where)
        if where not in given:
            wrong.append(f"{label}: missing")
        elif given[where][1].shape != weight.shape:
            wrong.append(f"{label}: {tuple(given[where][1].shape)}, expected {tuple(weight.shape)}")
    if wrong:
        raise ModelError("the LoRA does not fit the backbone:\n  " + "\n  ".join(sorted(wrong)))
    with torch.no_grad():
        for where, weight in expected.items():
            weight.copy_(given[where][1])
