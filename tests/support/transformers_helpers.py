"""What the tests of the transformers adapter share: the shipped model and a tiny one, as pipelines."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_asr import Recognizer
from tests.support import tiny

transformers = pytest.importorskip("transformers", reason="pip install 'diffusion-asr[transformers]'")
adapter = pytest.importorskip("diffusion_asr_transformers", exc_type=ImportError)

DATA = Path(__file__).parents[1] / "data"
CLIPS = sorted(DATA.glob("*.flac"))
ENGLISH = DATA / "en-arctic_a0239_1592711579.flac"
GERMAN = DATA / "de-de_rhasspy-0208.flac"


@functools.cache
def shipped_model() -> Any:
    return adapter.DiffusionASRForSpeech.from_pretrained()


def shipped_core() -> Recognizer:
    """The recogniser inside, which knows nothing of transformers."""
    recognizer: Recognizer = shipped_model().recognizer
    return recognizer


@functools.cache
def shipped_pipeline() -> Any:
    return transformers.pipeline("automatic-speech-recognition", model=shipped_model())


def tiny_model(folder: Path) -> Any:
    """A random model that takes everything for speech: it says something about any sound, and fast."""
    config = adapter.DiffusionASRConfig(str(tiny.model(folder / "tiny")))
    return adapter.DiffusionASRForSpeech(config, tiny.eager(tiny.parts(folder / "parts"))).eval()


class Elsewhere(torch.Tensor):
    """A tensor on another device, which can be copied to the CPU and computes nothing where it is."""

    copied: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, device=torch.device("meta")
        )
        made.copied = inner
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
            return func(args[0].copied, **kwargs)
        if func is torch.ops.aten.detach.default:
            return cls(args[0].copied)
        raise AssertionError(f"{func} was computed on the other device")
