"""Whisper base from its CTranslate2 binary (float16) to named tensors in the Hugging Face layout."""

from __future__ import annotations

import struct
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


class _Converter:
    """Copies fused CTranslate2 variables to separate Hugging Face tensors."""

    def __init__(self, raw: dict[str, np.ndarray]) -> None:
        self.raw, self.out = raw, dict[str, Tensor]()

    def put(self, name: str, array: np.ndarray) -> None:
        self.out[name] = torch.from_numpy(array.astype(np.float32))

    def linear(self, to: str, source: str, rows: slice = slice(None), bias: bool = True) -> None:
        self.put(f"{to}.weight", self.raw[f"{source}/weight"][rows])
        if bias:
            self.put(f"{to}.bias", self.raw[f"{source}/bias"][rows])

    def norm(self, to: str, source: str) -> None:
        self.put(f"{to}.weight", self.raw[f"{source}/gamma"])
        self.put(f"{to}.bias", self.raw[f"{source}/beta"])

    def attention(self, to: str, source: str, fused: tuple[str, ...]) -> None:
        """``fused`` names the projections in each fused matrix, e.g. ("q", "kv") for cross-attention."""
        self.norm(f"{to}_layer_norm", f"{source}/layer_norm")
        for n, letters in enumerate(fused):
            for row, letter in enumerate(letters):
                rows = slice(row * 512, (row + 1) * 512)
                self.linear(f"{to}.{letter}_proj", f"{source}/linear_{n}", rows, bias=letter != "k")
        self.linear(f"{to}.out_proj", f"{source}/linear_{len(fused)}")

    def layer(self, to: str, source: str, cross: bool) -> None:
        self.attention(f"{to}.self_attn", f"{source}/self_attention", ("qkv",))
        if cross:
            self.attention(f"{to}.encoder_attn", f"{source}/attention", ("q", "kv"))
        self.norm(f"{to}.final_layer_norm", f"{source}/ffn/layer_norm")
        self.linear(f"{to}.fc1", f"{source}/ffn/linear_0")
        self.linear(f"{to}.fc2", f"{source}/ffn/linear_1")


def huggingface_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors under ``encoder.`` and ``decoder.`` names of ``transformers.WhisperModel``, float32."""
    convert = _Converter(read_ctranslate2(path))
    for part in ("encoder", "decoder"):
        convert.put(f"{part}.embed_positions.weight", convert.raw[f"{part}/position_encodings/encodings"])
        convert.norm(f"{part}.layer_norm", f"{part}/layer_norm")
        for n in range(6):
            convert.layer(f"{part}.layers.{n}", f"{part}/layer_{n}", cross=part == "decoder")
    for conv in ("conv1", "conv2"):
        convert.linear(f"encoder.{conv}", f"encoder/{conv}")
    convert.put("decoder.embed_tokens.weight", convert.raw["decoder/embeddings/weight"])
    return convert.out
