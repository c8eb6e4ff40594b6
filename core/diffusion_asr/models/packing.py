"""Tensors made small: int8 by row, or four bits by group.

Large matrices may be stored as int8 with one scale for each row (``name`` int8, ``name::scale``), or in
four bits with one scale for some values of a row (``name::nibbles``, ``name::scale``), which makes the
embedded model small; they are widened to the compute type when loaded. Of a matrix in four bits some rows may
be there in full as well (``name::rows``, ``name::exact``): those that matter most.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusion_asr.errors import REINSTALL, ModelError
from diffusion_asr.models.stored import (
    EXACT,
    NIBBLES,
    ROWS,
    SCALE,
    Shape,
    Stored,
    check_shapes,
    list_matrices,
)

_DIFFERENCES = "::delta"  # of releases that stored a table as differences to another file's
LARGEST = 65_504.0  # float16's largest
LARGE = 16_384  # values from which a matrix is stored narrow
GROUP = 32  # values that share a scale in four bits, unless told otherwise
BLOCK = 512  # rows that are widened at a time: they stay in the core's cache


def quantise_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 by row: ``(int8 (rows, …), scale (rows,) float16)``."""
    rows = weight.float().flatten(1)
    scale = (rows.abs().amax(1) / 127).clamp(min=1e-8).to(torch.float16)
    scale = torch.where(scale == 0, torch.tensor(6e-8, dtype=torch.float16), scale)
    whole = (rows / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)
    return whole.reshape(weight.shape), scale


def quantise_groups(weight: Tensor, size: int = GROUP) -> tuple[Tensor, Tensor]:
    """Four bits by group: ``(uint8 (rows, columns / 2), scale (rows, columns / size) float16)``."""
    groups = weight.float().view(len(weight), -1, size)
    scale = choose_scales(groups)
    return pack_nibbles(round_to_steps(groups, scale).flatten(1)), scale.to(torch.float16)


def choose_scales(groups: Tensor) -> Tensor:
    """The size of a four-bit step for each group, (…, GROUP) to (…): of a few, the one that errs least.

    Cutting a group's largest value off a little makes all others finer.
    """
    largest = groups.abs().amax(-1)
    scale = torch.zeros_like(largest)
    least = torch.full_like(largest, torch.inf)
    for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7):
        tried = (largest * share / 7).clamp(min=6e-8).to(torch.float16).float()
        error = (round_to_steps(groups, tried) * tried[..., None] - groups).square().sum(-1)
        scale, least = torch.where(error < least, tried, scale), torch.minimum(error, least)
    return scale


def round_to_steps(groups: Tensor, scale: Tensor) -> Tensor:
    """Values (…, N) as whole steps of ``scale`` (…), -8 to 7."""
    return (groups / scale[..., None]).round().clamp(-8, 7)


def pack_nibbles(whole: Tensor) -> Tensor:
    """(rows, columns) of -8 to 7 to uint8 (rows, columns / 2)."""
    shifted = (whole + 8).to(torch.uint8)
    return shifted[:, ::2] * 16 + shifted[:, 1::2]


def _from_bytes(packed: Tensor) -> Tensor:
    """What ``pack_nibbles`` put together, float32."""
    return torch.stack([packed >> 4, packed & 15], dim=-1).flatten(1).to(torch.float32).sub_(8)


def pack_tensors(tensors: Mapping[str, Tensor], narrow: bool = False) -> dict[str, Tensor]:
    """Matrices as int8 with scales (``narrow``: layers' in four bits), everything else as float16."""
    out: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if value.ndim < 2 or value.numel() < LARGE:
            out[name] = value.to(torch.float16)
        elif narrow and value.ndim == 2 and value.shape[1] % GROUP == 0 and not name.startswith("embed_"):
            out[name + NIBBLES], out[name + SCALE] = quantise_groups(value)
        else:
            out[name], out[name + SCALE] = quantise_rows(value)
    return {name: value.contiguous() for name, value in out.items()}


def keep_rows(packed: dict[str, Tensor], name: str, weight: Tensor, rows: Tensor) -> dict[str, Tensor]:
    """What is stored of a matrix in four bits, with some of its ``rows`` (R,) in float16 as well."""
    rows = rows.sort().values
    return packed | {name + ROWS: rows.to(torch.int32), name + EXACT: weight[rows].to(torch.float16)}


def _widened(whole: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """What ``quantise_rows`` made narrow."""
    value = torch.empty(whole.shape, dtype=dtype)
    for start in range(0, len(whole), BLOCK):
        part = slice(start, start + BLOCK)
        value[part] = whole[part].float() * scale[part].float().view(-1, *[1] * (whole.ndim - 1))
    return value


def _widened_nibbles(packed: Tensor, scale: Tensor) -> Tensor:
    """What ``quantise_groups`` made narrow, float32; the groups' size is in the shapes."""
    whole, groups = _from_bytes(packed), scale.shape[1]
    return whole.view(len(whole), groups, -1).mul_(scale.float()[..., None]).flatten(1)


def unpack_file(
    path: Path,
    dtype: torch.dtype,
    others: Mapping[str, torch.dtype] | None = None,
    expected: Mapping[str, Shape] | None = None,
    optional: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, widened to ``dtype`` or to its own among ``others``.

    Args:
        path: The file.
        dtype: To compute in.
        others: By name, where it is another.
        expected: The shape of every tensor that must be there and no others; None takes what there is.
        optional: Names of ``expected`` that may be missing.

    Raises:
        ModelError: The file cannot be read or is not what is expected (told before any tensor is read), or a
            tensor holds NaN, infinity or a value that is no weight's.
    """
    out: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as data:
            header = {name: _described(data, name) for name in data.keys()}  # noqa: SIM118 - no dict
            if any(name.endswith(_DIFFERENCES) for name in header):
                raise ModelError(
                    f"{path} holds differences to another file, of an older release. {REINSTALL}"
                )
            shapes = list_matrices(header)
            if expected is not None:
                check_shapes(shapes, expected, optional, path)
            for name, shape in shapes.items():
                wanted = (others or {}).get(name, dtype)
                out[name] = _read_tensor(data, header, name, shape, wanted).to(wanted)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: not readable weights ({error}). {REINSTALL}") from error
    return out


def read_shapes(path: Path) -> dict[str, Shape]:
    """The shape of every tensor that ``unpack_file`` would give; only the header is read.

    Raises:
        ModelError: See ``unpack_file``.
    """
    try:
        with safe_open(path, framework="pt") as data:
            return list_matrices({name: _described(data, name) for name in data.keys()})  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: not readable weights ({error}). {REINSTALL}") from error


def _described(data: Any, name: str) -> Stored:
    part = data.get_slice(name)
    return Stored(part.get_dtype(), tuple(part.get_shape()))


def _read_tensor(
    data: Any, header: Mapping[str, Stored], name: str, shape: Shape, wanted: torch.dtype
) -> Tensor:
    """One tensor as it was packed, in a layout that ``list_matrices`` found right."""
    if name + NIBBLES in header:
        value = _widened_nibbles(data.get_tensor(name + NIBBLES), _finite(data, name + SCALE, steps=8))
        if name + ROWS in header:
            rows = data.get_tensor(name + ROWS).long()
            if not bool(((rows >= 0) & (rows < shape[0])).all()):
                raise ValueError(f"{name + ROWS} names rows that a matrix of {shape[0]} does not have")
            value[rows] = _finite(data, name + EXACT).float()
        return value
    if name + SCALE in header:
        return _widened(data.get_tensor(name), _finite(data, name + SCALE, steps=127), wanted)
    return _finite(data, name)


def _finite(data: Any, stored: str, steps: int = 1) -> Tensor:
    """A stored tensor, if that many times its values are weights; a comparison with NaN is false."""
    value: Tensor = data.get_tensor(stored)
    if value.numel() and not bool(value.abs().amax().float() * steps <= LARGEST):
        raise ValueError(f"{stored} holds NaN, infinity or values above {LARGEST:g}: no trained weight does")
    return value
