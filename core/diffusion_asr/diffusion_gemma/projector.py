"""From acoustic states to the backbone's embeddings: strided convolutions, then linear layers.

The published system's has three convolutions of stride 2 (8 encoder frames, 160 ms, become one embedding);
``diffusion-gemma-tiny``'s is canvas-base's slot acoustics: one convolution over 8 frames with stride 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.errors import ModelError


@dataclass(frozen=True, slots=True)
class ProjectorConfig:
    """Shapes of a projector.

    Attributes:
        convolutions: (inputs, outputs, kernel, stride) each.
        linears: Widths from the last convolution's outputs to the backbone's embeddings.
        normed: A layer norm between convolutions and linear layers.
    """

    convolutions: tuple[tuple[int, int, int, int], ...]
    linears: tuple[int, ...]
    normed: bool = True

    def __post_init__(self) -> None:
        widths = [(made, read) for (_, made, _, _), (read, _, _, _) in pairwise(self.convolutions)]
        if not self.convolutions or len(self.linears) < 2 or self.linears[0] != self.convolutions[-1][1]:
            raise ModelError(f"not a projector: convolutions {self.convolutions}, then widths {self.linears}")
        if any(made != read for made, read in widths):
            raise ModelError(f"the projector's convolutions do not follow each other: {self.convolutions}")

    @property
    def subsampling(self) -> int:
        """Encoder frames that become one embedding."""
        factor = 1
        for _, _, _, stride in self.convolutions:
            factor *= stride
        return factor


def make_published(inputs: int, hidden: int, outputs: int) -> ProjectorConfig:
    """The reference system's shapes: 8x by three convolutions, then one linear layer."""
    first, later = (inputs, hidden, 3, 2), (hidden, hidden, 3, 2)
    return ProjectorConfig((first, later, later), (hidden, outputs))


class AudioProjector(nn.Module):
    """See the module's text. GELU after every convolution and between linear layers."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.config = config
        self.convolutions = nn.ModuleList(
            nn.Conv1d(inputs, outputs, kernel, stride)
            for inputs, outputs, kernel, stride in config.convolutions
        )
        self.norm = nn.LayerNorm(config.linears[0]) if config.normed else nn.Identity()
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(config.linears))

    def forward(self, memory: AcousticMemory) -> tuple[Tensor, Tensor]:
        """Audio embeddings (B, A, D), zero where padded, and their number for each clip (B,).

        A clip's embeddings do not depend on the padding that its neighbours bring.

        Raises:
            ModelError: States of another width than the projector reads.
        """
        weight = self.linears[0].get_parameter("weight")
        expected = self.config.convolutions[0][0]
        if memory.states.shape[-1] != expected:
            raise ModelError(
                f"the projector reads acoustic states of width {expected}, the encoder gives "
                f"{memory.states.shape[-1]}: give the encoder that the adapter was trained on"
            )
        x = memory.states.to(weight.device, weight.dtype).transpose(1, 2)
        x = x * memory.mask[:, None].to(x.device)
        counts = memory.lengths
        for conv in self.convolutions:
            assert isinstance(conv, nn.Conv1d)
            counts = -(-counts // conv.stride[0])
            x = F.gelu(conv(_padded(x, conv.kernel_size[0], conv.stride[0])))
            x = x * (torch.arange(x.shape[2]) < counts[:, None])[:, None].to(x.device)
        x = self.norm(x.transpose(1, 2))
        for number, linear in enumerate(self.linears):
            x = linear(F.gelu(x) if number else x)
        return x * (torch.arange(x.shape[1]) < counts[:, None])[..., None].to(x.device), counts


def _padded(x: Tensor, kernel: int, stride: int) -> Tensor:
    """So that a convolution gives ceil(T / stride) outputs, each around the middle of its frames."""
    frames, left = x.shape[2], max(0, kernel - stride + (stride == kernel - 1)) // 2
    outputs = -(-frames // stride)
    right = max(0, (outputs - 1) * stride + kernel - frames - left)
    return F.pad(x, (left, right))
