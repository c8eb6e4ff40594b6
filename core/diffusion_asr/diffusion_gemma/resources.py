"""Whether a backbone will fit into memory, from its headers alone."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path

import torch

from diffusion_asr.diffusion_gemma.layout import Entry
from diffusion_asr.errors import ModelError

SPARE = 1.1  # activations, a prompt's cache, scores of one canvas
_NARROW = {"8bit": 1.0, "4bit": 0.55}  # bytes of a quantised weight, its scales included


def measure_need(entries: Iterable[Entry], dtype: torch.dtype, quantise: str | None) -> int:
    """Bytes that the weights take once loaded; only matrices are quantised, and embeddings are not."""
    size = torch.empty(0, dtype=dtype).element_size()
    total = 0.0
    for entry in entries:
        narrow = quantise is not None and len(entry.shape) == 2 and "embed" not in entry.name
        total += prod(entry.shape) * (_NARROW[str(quantise)] if narrow else size)
    return int(total * SPARE)


def measure_room(device: str) -> int:
    """Free bytes on a device: "cpu", "cuda", "cuda:1"; "auto" is all GPUs and the CPU."""
    cpu = _free_ram()
    if device == "cpu" or not torch.cuda.is_available():
        return cpu
    if device == "auto":
        return cpu + sum(torch.cuda.mem_get_info(n)[0] for n in range(torch.cuda.device_count()))
    return int(torch.cuda.mem_get_info(torch.device(device))[0])


def _free_ram() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return 2**62  # not Linux: the loader will have to see for itself


def check_room(need: int, device: str, what: str) -> None:
    """Raise ``ModelError`` if ``need`` bytes are not free on ``device``."""
    free = measure_room(device)
    if need > free:
        raise ModelError(
            f"{what} needs {need / 1e9:.1f} GB on {device}, {free / 1e9:.1f} GB are free: choose another "
            "device, quantise='8bit' or '4bit' (CUDA), or device='auto' to use several"
        )
