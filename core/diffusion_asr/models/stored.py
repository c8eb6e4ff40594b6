"""What a safetensors file says it holds, checked by its header alone: names, shapes, kinds of numbers.

A matrix may be stored in full (float16 or float32), as int8 by row with ``name::scale``, or in four bits by
group as ``name::nibbles`` with ``name::scale``, and then some of its rows in full (``name::rows``,
``name::exact``). bfloat16 is never written, so that a float16 under its name is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from diffusion_asr.errors import REINSTALL, ModelError

SCALE, NIBBLES, ROWS, EXACT = "::scale", "::nibbles", "::rows", "::exact"
_FLOATS = ("F16", "F32")
_TOLD = 3  # problems that a message tells

Shape = tuple[int, ...]


class Stored(NamedTuple):
    """One tensor of the header."""

    kind: str  # as safetensors calls it: F16, I8
    shape: Shape


def list_matrices(header: Mapping[str, Stored]) -> dict[str, Shape]:
    """The tensors that the stored ones make, by name.

    Raises:
        ValueError: Stored ones that make none, with their name.
    """
    found: dict[str, Shape] = {}
    for stored in header:
        if not stored.endswith((SCALE, ROWS, EXACT)):
            name = stored.removesuffix(NIBBLES)
            if name in found:
                raise ValueError(f"{name} is stored twice")
            found[name] = _grouped(header, name) if stored.endswith(NIBBLES) else _plain(header, name)
    for stored in header:
        base, mark, part = stored.partition("::")
        if mark and (base not in found or mark + part not in (SCALE, NIBBLES, ROWS, EXACT)):
            raise ValueError(f"{stored} belongs to no tensor")
    return found


def _plain(header: Mapping[str, Stored], name: str) -> Shape:
    """In full, or int8 by row."""
    own = header[name]
    if name + ROWS in header or name + EXACT in header:
        raise ValueError(f"{name} has rows in full, but is not stored in four bits")
    if name + SCALE not in header:
        _require(name, own, _FLOATS, own.shape)
    else:
        _require(name, own, ("I8",), own.shape)
        _require(name + SCALE, header[name + SCALE], _FLOATS, own.shape[:1] or (1,))
    return own.shape


def _grouped(header: Mapping[str, Stored], name: str) -> Shape:
    """Four bits by group."""
    own, scale = header[name + NIBBLES], header.get(name + SCALE)
    if scale is None or len(own.shape) != 2 or len(scale.shape) != 2:
        raise ValueError(f"{name} in four bits must be a matrix, with one of scales ({name + SCALE})")
    rows, columns = own.shape[0], 2 * own.shape[1]
    groups = scale.shape[1]
    if not groups or columns % groups:
        raise ValueError(f"{name}: {columns} columns are no {groups} groups")
    _require(name + NIBBLES, own, ("U8",), own.shape)
    _require(name + SCALE, scale, _FLOATS, (rows, groups))
    if name + ROWS in header or name + EXACT in header:
        if not {name + ROWS, name + EXACT} <= header.keys():
            raise ValueError(f"{name + ROWS} and {name + EXACT} belong together")
        kept = header[name + ROWS]
        _require(name + ROWS, kept, ("I32",), kept.shape[:1] or (1,))
        _require(name + EXACT, header[name + EXACT], _FLOATS, (*kept.shape, columns))
    return rows, columns


def _require(name: str, stored: Stored, kinds: tuple[str, ...], shape: Shape) -> None:
    if stored.kind not in kinds:
        raise ValueError(f"{name} is stored as {stored.kind}, not as {' or '.join(kinds)}")
    if stored.shape != shape:
        raise ValueError(f"{name} has the shape {list(stored.shape)}, not {list(shape)}")


def check_shapes(
    found: Mapping[str, Shape], expected: Mapping[str, Shape], optional: tuple[str, ...], where: object
) -> None:
    """Raise ``ModelError`` unless these are a network's tensors, of which ``optional`` may be missing."""
    wrong = [f"{n} is missing" for n in expected if n not in found and n not in optional]
    wrong += [f"{n} belongs to no part of the network" for n in found if n not in expected]
    wrong += [
        f"{n} has the shape {list(shape)}, not {list(expected[n])}"
        for n, shape in found.items()
        if n in expected and shape != expected[n]
    ]
    if wrong:
        more = f"; and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else ""
        told = "; ".join(wrong[:_TOLD]) + more
        raise ModelError(f"{where} does not fit its config.json: {told}. {REINSTALL}")
