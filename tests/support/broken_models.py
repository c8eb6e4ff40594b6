"""Model folders that were changed at random and signed again, as damage before signing or ill will would."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from diffusion_asr.models.folder import hash_file, sign_config
from diffusion_asr.models.packing import keep_rows, quantise_groups, quantise_rows
from diffusion_asr.models.stored import NIBBLES, SCALE
from tests.support import tiny

VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 7, -5, 1.5, -0.0, 1e9, 10**9, 2**31, 2**63, 2**70, 1e308, "", "x",
    "en",
    "\x00\x1b[2J", "a" * 5000, [], {}, [1], ["en"], ["en", "en"], [[0, 3_000_000_000]], [[0, 5], [3, 9]],
    {"a": 1}, [None],
]  # fmt: skip
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 6000, '"\\ud800"', "[" * 20_000, "[" * 40 + "]" * 40]
KINDS = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "X"]


def packed_model(folder: Path) -> Path:
    """A tiny model with a refiner, whose weights are stored in every way there is."""
    tiny.model(folder, refined=True)
    for name in ("denoiser", "refiner"):
        path = folder / f"{name}.safetensors"
        stored = load_file(path)
        for weight in ("layers.0.fc1.weight", "layers.1.fc2.weight"):
            value = stored.pop(weight).float()
            stored[weight + NIBBLES], stored[weight + SCALE] = quantise_groups(value, 8)
        stored = keep_rows(stored, "layers.0.fc1.weight", value.T.contiguous(), torch.tensor([3, 11]))
        value = stored.pop("layers.0.fc2.weight").float()
        stored["layers.0.fc2.weight"], stored["layers.0.fc2.weight" + SCALE] = quantise_rows(value)
        save_file(stored, path)
    sign(folder)
    return folder


def sign(folder: Path) -> None:
    """Make every hash right, where ``config.json`` can still be read."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf8"))
        config["sha256"] |= {n: hash_file(folder / n) for n in config["sha256"] if (folder / n).is_file()}
        path.write_text(json.dumps(sign_config(config)), encoding="utf8")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return


def break_at_random(folder: Path, seed: int) -> str:
    """Change one thing of a folder and sign it again; says what was changed."""
    rng = random.Random(seed)
    files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors"))
    path = rng.choice([*files, folder / "config.json", folder / "config.json"])
    how = rng.choice(_JSON if path.suffix == ".json" else _TENSORS)
    told = how(path, rng)
    sign(folder)
    return f"seed {seed}, {path.name}: {told}"


# --- JSON ---------------------------------------------------------------------------------------

Place = tuple[Any, Any]  # a list or object, and a key of it


def _places(root: Any) -> list[Place]:
    found: list[Place] = []
    level = [root]
    while level:
        inside = level.pop()
        keys = inside.keys() if isinstance(inside, dict) else range(min(len(inside), 8))
        found += [(inside, key) for key in keys]
        level += [inside[key] for key in keys if isinstance(inside[key], dict | list)]
    return [(inside, key) for inside, key in found if key not in ("sha256", "config_sha256")]


def _edited(path: Path, rng: random.Random, edit: Callable[[Any, Any], str]) -> str:
    root = json.loads(path.read_text(encoding="utf8"))
    inside, key = rng.choice(_places(root))
    told = f"{key}: {edit(inside, key)}"
    path.write_text(json.dumps(root), encoding="utf8")
    return told


def _value(path: Path, rng: random.Random) -> str:
    def edit(inside: Any, key: Any) -> str:
        inside[key] = rng.choice(VALUES)
        return f"{inside[key]!r:.40}"

    return _edited(path, rng, edit)


def _number(path: Path, rng: random.Random) -> str:
    def edit(inside: Any, key: Any) -> str:
        if isinstance(inside[key], int | float):
            inside[key] = rng.choice([inside[key] * 2, inside[key] + 1, inside[key] - 1, -inside[key]])
        return f"{inside[key]!r:.40}"

    return _edited(path, rng, edit)


def _lost(path: Path, rng: random.Random) -> str:
    def edit(inside: Any, key: Any) -> str:
        inside.pop(key)
        return "lost"

    return _edited(path, rng, edit)


def _added(path: Path, rng: random.Random) -> str:
    def edit(inside: Any, key: Any) -> str:
        if isinstance(inside, dict):
            inside["unheard of"] = inside[key]
        else:
            inside.append(inside[key])
        return "twice"

    return _edited(path, rng, edit)


def _shuffled(path: Path, rng: random.Random) -> str:
    def edit(inside: Any, key: Any) -> str:
        if isinstance(inside[key], list):
            rng.shuffle(inside[key])
        return "shuffled"

    return _edited(path, rng, edit)


def _raw(path: Path, rng: random.Random) -> str:
    raw = rng.choice(RAW)

    def edit(inside: Any, key: Any) -> str:
        inside[key] = "HERE"
        return f"{raw:.20}"

    told = _edited(path, rng, edit)
    path.write_text(path.read_text(encoding="utf8").replace('"HERE"', raw), encoding="utf8")
    return told


def _bytes(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    for _ in range(3):
        data[rng.randrange(min(len(data), 3000))] = rng.randrange(256)
    path.write_bytes(data)
    return "bytes"


def _cut(path: Path, rng: random.Random) -> str:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])
    return "cut off"


_JSON = [_value, _value, _value, _number, _lost, _added, _shuffled, _raw, _bytes, _cut]


# --- safetensors --------------------------------------------------------------------------------


def _header(path: Path, rng: random.Random, edit: Callable[[dict[str, Any], str], str]) -> str:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    name = rng.choice([n for n in header if n != "__metadata__"])
    told = f"{name}: {edit(header, name)}"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    return told


def _kind(path: Path, rng: random.Random) -> str:
    def edit(header: dict[str, Any], name: str) -> str:
        header[name]["dtype"] = rng.choice(KINDS)
        return str(header[name]["dtype"])

    return _header(path, rng, edit)


def _relabelled(path: Path, rng: random.Random) -> str:
    """Under another name of as many bits."""
    same = {
        "F16": ["BF16", "I16", "U16"],
        "F32": ["I32", "U32"],
        "I8": ["U8", "BOOL"],
        "U8": ["I8", "F8_E5M2"],
    }

    def edit(header: dict[str, Any], name: str) -> str:
        header[name]["dtype"] = rng.choice(same.get(header[name]["dtype"], ["F32"]))
        return str(header[name]["dtype"])

    return _header(path, rng, edit)


def _shape(path: Path, rng: random.Random) -> str:
    def edit(header: dict[str, Any], name: str) -> str:
        shape = header[name]["shape"]
        header[name]["shape"] = rng.choice(
            [shape[::-1], [*shape, 1], [1, *shape], [], [0], [10**12], [2**63], [-1], ["x"], None, shape[:-1]]
        )
        return str(header[name]["shape"])

    return _header(path, rng, edit)


def _entry(path: Path, rng: random.Random) -> str:
    def edit(header: dict[str, Any], name: str) -> str:
        whole = header.pop(name)
        ends = ["", "::scale", "::rows", "::exact", "::nibbles", "::delta", "x"]
        header[name + rng.choice(ends)] = rng.choice(
            [whole, {}, None, [], {**whole, "data_offsets": [0, 2**64]}]
        )
        return "entry"

    return _header(path, rng, edit)


def _swapped(path: Path, rng: random.Random) -> str:
    def edit(header: dict[str, Any], name: str) -> str:
        other = rng.choice([n for n in header if n != "__metadata__"])
        header[name], header[other] = header[other], header[name]
        return f"and {other} swapped"

    return _header(path, rng, edit)


def _deep(path: Path, rng: random.Random) -> str:
    text = b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return "nested header"


def _content(path: Path, rng: random.Random) -> str:
    """Some tensor's numbers."""
    stored = load_file(path)
    name = rng.choice(sorted(stored))
    value, told = stored[name], rng.choice([float("nan"), float("inf"), -1.0, 60_000.0, 0.0])
    if not value.is_floating_point():
        told = rng.choice([-128, 127, 2**31 - 1]) if value.dtype == torch.int32 else 127
    value.flatten()[rng.randrange(max(1, value.numel()))] = told
    stored[name] = value.contiguous()
    save_file(stored, path)
    return f"{name}: {told}"


_TENSORS = [_kind, _relabelled, _shape, _entry, _swapped, _deep, _content, _content, _bytes, _cut]
