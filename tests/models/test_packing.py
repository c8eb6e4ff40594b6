"""Weights on disk: int8 and four bits by row or group, and differences to other weights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from diffusion_asr.errors import ModelError
from diffusion_asr.models.packing import (
    GROUP,
    LARGE,
    keep_rows,
    pack_tensors,
    quantise_groups,
    quantise_rows,
    unpack_file,
)
from diffusion_asr.models.stored import NIBBLES, SCALE


def drawn(rows: int, columns: int, scale: float, seed: int) -> Tensor:
    return scale * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.floats(0.01, 100), st.integers(0, 999))
def test_int8_is_off_by_half_a_step(rows: int, columns: int, scale: float, seed: int) -> None:
    weight = drawn(rows, columns, scale, seed)
    whole, step = quantise_rows(weight)
    assert whole.dtype == torch.int8
    assert step.dtype == torch.float16
    assert step.shape == (rows,)
    wide = step.float()[:, None]
    error = (whole.float() * wide - weight).abs()
    largest = weight.abs().amax(1, keepdim=True)
    # Half a step, and what float16 rounds off the step (subnormal below 6e-5) times 127.
    assert (error <= wide / 2 + largest * 2**-10 + 127 * 6e-8).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.floats(0.01, 100), st.integers(0, 999))
def test_four_bits_are_off_by_a_fourteenth_of_a_groups_largest(
    rows: int, groups: int, scale: float, seed: int
) -> None:
    weight = drawn(rows, groups * GROUP, scale, seed)
    packed, step = quantise_groups(weight)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, groups * GROUP // 2)
    assert step.shape == (rows, groups)
    wide = stored_and_read({"layer.weight": weight.repeat(1, 1 + LARGE // weight.numel())}, narrow=True)
    whole = wide["layer.weight"][:, : weight.shape[1]]
    error = (whole - weight).view(rows, groups, GROUP).square().mean(-1).sqrt()
    # Cut-off scales may only lower the error of the scale that keeps everything: half a step of a seventh.
    assert (error <= weight.view(rows, groups, GROUP).abs().amax(-1) / 14 * 1.01).all()


def test_only_layers_are_stored_in_four_bits() -> None:
    weight = drawn(64, 512, 1.0, 0)
    names = pack_tensors(
        {"embed_tokens.weight": weight, "layers.0.fc1.weight": weight, "bias": weight[0]}, narrow=True
    )
    assert set(names) == {
        "embed_tokens.weight", "embed_tokens.weight::scale", "layers.0.fc1.weight::nibbles",
        "layers.0.fc1.weight::scale", "bias",
    }  # fmt: skip


def stored_and_read(tensors: dict[str, Tensor], narrow: bool) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save_file(pack_tensors(tensors, narrow), path)
        return unpack_file(path, torch.float32)


def test_zeros_and_tiny_rows_are_kept() -> None:
    weight = torch.tensor([[0.0, 0.0], [1e-9, 0.0], [3.0, -3.0]])
    whole, step = quantise_rows(weight)
    assert (step > 0).all()
    torch.testing.assert_close(whole.float() * step.float()[:, None], weight, atol=2e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "large": drawn(128, 128, 0.3, 0), "convolution": drawn(64, 768, 0.1, 1).reshape(64, 256, 3),
        "small": drawn(8, 8, 1.0, 2), "bias": drawn(1, 20_000, 1.0, 3)[0], "scalar": torch.tensor(0.5),
    }  # fmt: skip
    packed = pack_tensors(tensors)
    assert {name for name, value in packed.items() if value.dtype == torch.int8} == {"large", "convolution"}
    save_file(packed, tmp_path / "x.safetensors")
    again = unpack_file(tmp_path / "x.safetensors", dtype)
    assert set(again) == set(tensors)
    for name, value in tensors.items():
        assert again[name].dtype == dtype
        assert again[name].shape == value.shape
        step = packed[name + SCALE].max() if name + SCALE in packed else 0.0
        slack = 1e-3 if dtype == torch.float32 else 1e-2
        error = (again[name].float() - value).abs()
        assert (error <= 0.51 * step + slack * value.abs()).all()


@pytest.mark.parametrize("size", [8, 16, 32])
def test_rows_that_are_kept_come_back_in_full(tmp_path: Path, size: int) -> None:
    weight = drawn(300, 64, 1.0, 0)
    rows = torch.tensor([299, 7, 40])
    whole, scale = quantise_groups(weight, size)
    packed = {"table" + NIBBLES: whole, "table" + SCALE: scale}
    save_file(packed, tmp_path / "plain.safetensors")
    save_file(keep_rows(packed, "table", weight, rows), tmp_path / "kept.safetensors")
    plain, kept = (
        unpack_file(tmp_path / f"{n}.safetensors", torch.float32)["table"] for n in ("plain", "kept")
    )
    others = torch.ones(300, dtype=torch.bool).index_fill(0, rows, False)
    assert torch.equal(plain[others], kept[others])
    assert torch.equal(kept[rows], weight[rows].half().float())
    assert (plain[rows] - weight[rows]).abs().amax(1).min() > 1e-3


def test_differences_of_older_releases_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"table::delta": torch.zeros(4, 2, dtype=torch.uint8), "table::scale": torch.ones(4)}, path)
    with pytest.raises(ModelError, match="holds differences to another file, of an older release"):
        unpack_file(path, torch.float32)


def packed() -> dict[str, Tensor]:
    """One matrix stored in each way: four bits with some rows in full, int8, full."""
    weight = drawn(8, 16, 1.0, 0)
    whole, scale = quantise_groups(weight, 8)
    stored = keep_rows({"a" + NIBBLES: whole, "a" + SCALE: scale}, "a", weight, torch.tensor([2, 7]))
    stored["b"], stored["b" + SCALE] = quantise_rows(weight)
    return {**stored, "c": weight.half()}


def changed(name: str, value: Tensor | float | None) -> dict[str, Tensor]:
    stored = packed()
    if value is None:
        del stored[name]
    elif isinstance(value, Tensor):
        stored[name] = value
    else:
        stored[name] = stored[name].clone()
        stored[name].view(-1)[0] = value
    return stored


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("a::rows", 8, "a::rows names rows that a matrix of 8 does not have"),
        ("a::rows", -1, "a::rows names rows"),
        (
            "a::rows",
            torch.tensor([1, 2, 3], dtype=torch.int32),
            r"a::exact has the shape \[2, 16\], not \[3, 16\]",
        ),
        ("a::rows", torch.tensor([1, 2]), "a::rows is stored as I64, not as I32"),
        ("a::rows", None, "belong together"),
        ("a::exact", None, "belong together"),
        ("a::exact", torch.inf, "a::exact holds NaN, infinity"),
        ("a::nibbles", torch.tensor(3, dtype=torch.uint8), "a in four bits must be a matrix"),
        ("a::nibbles", torch.zeros(8, 8, dtype=torch.int8), "a::nibbles is stored as I8, not as U8"),
        ("a::nibbles", torch.zeros(8, 7, dtype=torch.uint8), r"a::exact has the shape \[2, 16\], not"),
        ("a::scale", torch.ones(8, 3).half(), "16 columns are no 3 groups"),
        ("a::nibbles", None, "belongs to no tensor"),
        ("a::scale", torch.nan, "a::scale holds NaN"),
        ("a::scale", None, "with one of scales"),
        ("a::scale", torch.ones(7, 2).half(), r"a::scale has the shape \[7, 2\], not \[8, 2\]"),
        ("b::scale", torch.nan, "b::scale holds NaN"),
        ("b::scale", -torch.inf, "b::scale holds NaN, infinity"),
        ("b::scale", 60_000.0, "b::scale holds .* values above 65504"),
        ("b::scale", torch.ones(8, 1).half(), r"b::scale has the shape \[8, 1\], not \[8\]"),
        ("b::scale", None, "b is stored as I8, not as F16 or F32"),
        ("b", torch.zeros(8, 16).half(), "b is stored as F16, not as I8"),
        ("c", torch.nan, "c holds NaN"),
        ("c", packed()["c"].view(torch.bfloat16), "c is stored as BF16, not as F16 or F32"),
        ("c", packed()["c"].view(torch.int16), "c is stored as I16"),
        ("c::exact", torch.ones(1).half(), "c has rows in full, but is not stored in four bits"),
        ("c::more", torch.ones(1).half(), "c::more belongs to no tensor"),
        ("a", torch.ones(8, 16).half(), "a has rows in full, but"),
    ],
)
def test_what_makes_no_tensor_is_refused_by_name(
    tmp_path: Path, name: str, value: Tensor | float | None, problem: str
) -> None:
    path = tmp_path / "w.safetensors"
    save_file(packed(), path)
    assert set(unpack_file(path, torch.float32)) == {"a", "b", "c"}
    save_file({n: v.contiguous() for n, v in changed(name, value).items()}, path)
    with pytest.raises(ModelError, match=rf"w\.safetensors: .*{problem}"):
        unpack_file(path, torch.float32)


def test_what_is_not_expected_is_told_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(packed() | {"c": torch.full((4,), torch.nan).half()}, path)
    expected = {"a": (8, 16), "b": (8, 16), "c": (5,), "d": (1,), "e": (2,)}
    with pytest.raises(ModelError, match=r"d is missing; c has the shape \[4\], not \[5\]\. "):
        unpack_file(path, torch.float32, expected=expected, optional=("e",))
