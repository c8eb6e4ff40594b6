"""transformers' DiffusionGemma as it is used here: small configurations, dense layers, stored weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_asr.diffusion_gemma.toolkit import (
    DiffusionGemmaConfig,
    DiffusionGemmaForBlockDiffusion,
    DiffusionGemmaTextConfig,
    Gemma4VisionConfig,
)
from diffusion_asr.errors import ModelError


@dataclass(frozen=True, slots=True)
class BackboneConfig:
    """Sizes of a small backbone; the published one brings transformers' own configuration.

    Attributes:
        experts: Experts of each layer's second branch; 0 leaves it out (dense layers, much faster on CPUs).
        window: Keys that sliding layers see; prompts must be shorter.
    """

    vocabulary: int
    d_model: int = 256
    layers: int = 6
    heads: int = 4
    key_heads: int = 2
    head_size: int = 64
    feed_forward: int = 1024
    experts: int = 0
    window: int = 512
    canvas: int = 256
    pad: int = 0
    bos: int = 2
    eos: int = 1


def transformers_config(config: BackboneConfig) -> Any:
    """The same sizes as a ``DiffusionGemmaConfig``; its vision tower is as small as it can be."""
    text = DiffusionGemmaTextConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.d_model,
        intermediate_size=config.feed_forward,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.key_heads,
        head_dim=config.head_size,
        global_head_dim=config.head_size,
        num_global_key_value_heads=config.key_heads,
        num_experts=max(1, config.experts),
        top_k_experts=min(2, max(1, config.experts)),
        moe_intermediate_size=16,
        layer_types=_layer_types(config.layers),
        sliding_window=config.window,
        max_position_embeddings=4096,
        pad_token_id=config.pad,
        eos_token_id=config.eos,
        bos_token_id=config.bos,
    )
    vision = Gemma4VisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=16, position_embedding_size=16,
    )  # fmt: skip
    return DiffusionGemmaConfig(text_config=text, vision_config=vision, canvas_length=config.canvas)


def _layer_types(layers: int) -> list[str]:
    """Five sliding layers to one full one, the last always full."""
    kinds = ["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(layers)]
    return [*kinds[:-1], "full_attention"]


class NoExperts(nn.Module):
    """Stands for the experts of a dense layer: adds nothing."""

    def forward(self, hidden: Tensor, index: Tensor | None, weights: Tensor | None) -> Tensor:
        """Zeros."""
        return torch.zeros_like(hidden)


class NoRouter(nn.Module):
    """Chooses none of no experts."""

    def forward(self, hidden: Tensor) -> tuple[None, None, None]:
        """Nothing."""
        return None, None, None


def build_backbone(config: BackboneConfig) -> Any:
    """A ``DiffusionGemmaForBlockDiffusion`` with random weights, without vision."""
    model = DiffusionGemmaForBlockDiffusion(transformers_config(config))
    model.model.encoder.vision_tower = nn.Identity()
    model.model.encoder.embed_vision = nn.Identity()
    if config.experts == 0:
        for layer in [*model.model.encoder.language_model.layers, *model.model.decoder.layers]:
            layer.router, layer.experts = NoRouter(), NoExperts()
    else:
        model.set_experts_implementation("eager")
    return model


def get_embeddings(model: Any) -> Tensor:
    """The token embeddings (V, D), shared by encoder, decoder and head."""
    return model.model.decoder.embed_tokens.weight  # type: ignore[no-any-return]


def get_window(model: Any) -> int:
    """Positions that a sliding layer can look back on."""
    return int(model.config.get_text_config().sliding_window)


def pack_state(model: Any) -> dict[str, Tensor]:
    """What a small backbone's file holds: each shared tensor once, under the decoder's name."""
    return {name: value for name, value in model.state_dict().items() if name.startswith("model.decoder.")}


def check_state(expected: Mapping[str, Tensor], stored: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ``ModelError`` unless a file stores what ``pack_state`` gave; all that is wrong is listed."""
    wanted = {name: tuple(value.shape) for name, value in expected.items()}
    wrong = [
        f"{name}: {stored.get(name, 'missing')}, expected {wanted.get(name, 'missing')}"
        for name in sorted({*wanted, *stored})
        if stored.get(name) != wanted.get(name)
    ]
    if wrong:
        raise ModelError("the backbone's weights do not fit its configuration:\n  " + "\n  ".join(wrong))


def fill_backbone(model: Any, tensors: Mapping[str, Tensor]) -> None:
    """Load what ``pack_state`` gave.

    Raises:
        ModelError: Tensors that are missing, too many or of another shape; all are listed.
    """
    check_state(pack_state(model), {name: tuple(value.shape) for name, value in tensors.items()})
    model.load_state_dict(dict(tensors), strict=False)
