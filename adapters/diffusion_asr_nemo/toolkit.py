"""Imports NeMo, or says how to install it; our errors as NeMo's kind, our precision under its autocast."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from diffusion_asr.errors import DiffusionASRError, ToolkitMissingError

try:
    import nemo.collections.asr as _nemo_asr  # noqa: F401 - shows that the asr extra is there, not only nemo
    from nemo.package_info import __version__ as _version
    from nemo.utils.exceptions import NeMoBaseException
except ImportError as error:
    raise ToolkitMissingError(
        f"NeMo's speech recognition cannot be imported ({error}): pip install 'diffusion-asr[nemo]'"
    ) from error

VERSION: str = _version
P = ParamSpec("P")
R = TypeVar("R")


def in_core_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Keep ``amp=True`` and ``trainer.precision`` out of core, which chooses its own precision."""

    @wraps(function)
    def undisturbed(*args: P.args, **kwargs: P.kwargs) -> R:
        given = torch.get_default_dtype()  # Lightning's "16-true" changes what torch makes
        torch.set_default_dtype(torch.float32)
        try:
            with torch.autocast("cpu", enabled=False):
                return function(*args, **kwargs)
        finally:
            torch.set_default_dtype(given)

    return undisturbed


class RecognitionError(NeMoBaseException, DiffusionASRError, ValueError):  # type: ignore[misc]
    """What went wrong, in our words; NeMo's callers catch it as their own exception or as ValueError."""
