"""Whisper base from its CTranslate2 binary (float16) to named tensors in the Hugging Face layout."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_ctranslate2(path: Path) -> dict[str, np.ndarray]:
    """Every variable of a CTranslate2 ``model.bin`` (binary version 4 or newer)."""
    data = path.read_bytes()
    offset = 0

    def take(code: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from("<" + code, data, offset)
        offset += struct.calcsize("<" + code)
        return int(value)

    def string() -> str:
        nonlocal offset
        size = take("H")
        offset += size
        return data[offset - size : offset - 1].decode()

    version = take("I")
    if version < 4:
        raise ValueError(f"{path}: CTranslate2 binary version {version}; 4 or newer is needed")
    string()
    take("I")
    variables = {}
    for _ in range(take("I")):
        name = string()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = take("B"), take("I")
        variables[name] = np.frombuffer(data, _TYPES[kind], size // np.dtype(_TYPES[kind]).itemsize, offset)
        variables[name] = variables[name].reshape(shape)
        offset += size
    return variables


def _attention(to: str, source: str, fused: str) -> Iterator[tuple[str, str, slice]]:
    for row, name in enumerate(fused):
        yield f"{to}.{name}_proj", source, slice(row * 512, (row + 1) * 512)


def huggingface_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors under ``encoder.`` and ``decoder.`` names of ``transformers.WhisperModel``, float32."""
    raw = read_ctranslate2(path)
    out: dict[str, Tensor] = {}

    def put(name: str, array: np.ndarray) -> None:
        out[name] = torch.from_numpy(array.astype(np.float32))

    def linear(to: str, source: str, rows: slice = slice(None), bias: bool = True) -> None:
        put(f"{to}.weight", raw[f"{source}/weight"][rows])
        if bias:
            put(f"{to}.bias", raw[f"{source}/bias"][rows])

    def norm(to: str, source: str) -> None:
        put(f"{to}.weight", raw[f"{source}/gamma"])
        put(f"{to}.bias", raw[f"{source}/beta"])

    def attention(to: str, source: str, parts: tuple[tuple[str, str], ...]) -> None:
        norm(f"{to}_layer_norm", f"{source}/layer_norm")
        for linear_name, letters in parts:
            for name, src, rows in _attention(to, f"{source}/{linear_name}", letters):
                linear(name, src, rows, bias=not name.endswith("k_proj"))

    for part in ("encoder", "decoder"):
        put(f"{part}.embed_positions.weight", raw[f"{part}/position_encodings/encodings"])
        norm(f"{part}.layer_norm", f"{part}/layer_norm")
        for layer in range(6):
            to, source = f"{part}.layers.{layer}", f"{part}/layer_{layer}"
            attention(f"{to}.self_attn", f"{source}/self_attention", (("linear_0", "qkv"),))
            linear(f"{to}.self_attn.out_proj", f"{source}/self_attention/linear_1")
            if part == "decoder":
                cross = (("linear_0", "q"), ("linear_1", "kv"))
                attention(f"{to}.encoder_attn", f"{source}/attention", cross)
                linear(f"{to}.encoder_attn.out_proj", f"{source}/attention/linear_2")
            norm(f"{to}.final_layer_norm", f"{source}/ffn/layer_norm")
            linear(f"{to}.fc1", f"{source}/ffn/linear_0")
            linear(f"{to}.fc2", f"{source}/ffn/linear_1")
    for conv in ("conv1", "conv2"):
        linear(f"encoder.{conv}", f"encoder/{conv}")
    put("decoder.embed_tokens.weight", raw["decoder/embeddings/weight"])
    return out
