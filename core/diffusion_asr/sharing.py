"""A model beside others: in forked and spawned processes, and inside somebody's autocast."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffusion_asr.errors import ModelError
from diffusion_asr.models.parts import Parts

if TYPE_CHECKING:
    from diffusion_asr.loading import LoadOptions

# A forked child has none of its parent's threads, for which libgomp would wait for ever.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

NAME_ONLY = (
    "cannot go to another process: it would be loaded there by the name of its model or folder. "
    "Save it to a folder and give its name to the worker, or make it in the worker"
)


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a model was loaded from.

    Attributes:
        name: A name, a folder, or an adapter of a hub.
        options: How it was loaded.
        parts: What came of it.
        writes: How often its weights had been written to by then.
    """

    name: str | os.PathLike[str]
    options: LoadOptions | None
    parts: Parts
    writes: int

    @classmethod
    def of(cls, name: str | os.PathLike[str], options: LoadOptions | None, parts: Parts) -> Origin:
        """Of parts that were just loaded."""
        return cls(name, options, parts, _count_writes(parts))

    def name_for(self, parts: Parts) -> str:
        """The name by which another process loads the very same.

        Raises:
            ModelError: They are other parts, or were trained meanwhile.
        """
        if parts is not self.parts or _is_trainable(parts) or _count_writes(parts) != self.writes:
            raise ModelError(f"a recogniser whose parts were changed since it was loaded {NAME_ONLY}")
        is_folder = Path(self.name).is_dir()
        return str(Path(self.name).absolute()) if is_folder else os.fspath(self.name)


def _is_trainable(parts: Parts) -> bool:
    """Whether a weight may have been trained: fused optimizers write without being counted."""
    return any(tensor.requires_grad for module in parts.modules for tensor in module.parameters())


def _count_writes(parts: Parts) -> int:
    """Torch counts them for every tensor, but for those made in inference mode."""
    weights = (tensor for module in parts.modules for tensor in module.parameters())
    return sum(tensor._version for tensor in weights if not tensor.is_inference())


@contextmanager
def exact_types(tensor: Tensor) -> Iterator[None]:
    """Compute in the model's own types, whatever autocast the caller is in."""
    with ExitStack() as stack:
        for kind in sorted({"cpu", tensor.device.type}):
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
