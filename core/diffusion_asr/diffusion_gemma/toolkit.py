"""Imports transformers' DiffusionGemma, or says how to get it."""

from __future__ import annotations

from diffusion_asr.errors import ToolkitMissingError

try:
    from transformers import (
        DiffusionGemmaConfig,
        DiffusionGemmaForBlockDiffusion,
        DiffusionGemmaTextConfig,
        DynamicCache,
        Gemma4VisionConfig,
    )
except ImportError as error:
    raise ToolkitMissingError(
        f"DiffusionGemma cannot be imported ({error}): pip install 'diffusion-asr[gemma]'"
    ) from error

__all__ = [
    "DiffusionGemmaConfig",
    "DiffusionGemmaForBlockDiffusion",
    "DiffusionGemmaTextConfig",
    "DynamicCache",
    "Gemma4VisionConfig",
]
