"""Imports transformers, or says how to install it."""

from __future__ import annotations

from diffusion_asr.errors import ToolkitMissingError

try:
    import transformers as _transformers
    from transformers.pipelines import Pipeline as _Pipeline  # noqa: F401 - the part that needs torch
except ImportError as error:
    raise ToolkitMissingError(
        f"transformers cannot be imported ({error}): pip install 'diffusion-asr[transformers]'"
    ) from error

VERSION: str = _transformers.__version__
