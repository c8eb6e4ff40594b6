"""What a folder of published weights holds, from its safetensors' headers: nothing is unpickled, ever.

The published repository's file and tensor names are not public knowledge. So tensors are told apart by
shape and by the parts of their names that their architecture gives: three-dimensional ones are the
projector's convolutions, matrices its linear layers (in the order of the numbers in their names), and
``…layers.N.self_attn.q_proj.lora_A…`` is LoRA. What does not fit ends in an error that lists everything.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from diffusion_asr.diffusion_gemma.lora import place
from diffusion_asr.diffusion_gemma.projector import ProjectorConfig
from diffusion_asr.diffusion_gemma.stated import Header, StoredTensor
from diffusion_asr.errors import ModelError
from diffusion_asr.json_files import check, parse_json

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_LONGEST_HEADER = 100_000_000
_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "F8_E4M3": 1, "F8_E5M2": 1}


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored tensor."""

    file: Path
    name: str
    shape: tuple[int, ...]
    kind: str  # safetensors' dtype

    @property
    def bytes(self) -> int:
        """As stored."""
        return prod(self.shape) * _BYTES.get(self.kind, 1)

    def __str__(self) -> str:
        return f"{self.file.name}: {self.name} {list(self.shape)} {self.kind}"


def read_headers(folder: Path) -> dict[str, Entry]:
    """Every tensor of a folder's safetensors files, by name; only headers are read.

    Raises:
        ModelError: None there (pickled weights are named and refused), a damaged file, a name twice.
    """
    found: dict[str, Entry] = {}
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")]):
        for name, about in _header(file).items():
            if name in found:
                raise ModelError(f"{name} is in both {found[name].file} and {file}: keep one of them")
            found[name] = Entry(file, name, tuple(about.shape), about.dtype)
    if not found:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        if pickles:
            raise ModelError(
                f"{folder} holds only pickled weights ({', '.join(pickles)}), which can run code and are not "
                "loaded: ask its publisher for safetensors, or convert them where you trust them "
                "(torch.load(weights_only=True), then safetensors.torch.save_file)"
            )
        raise ModelError(f"{folder} holds no safetensors")
    return found


def _header(file: Path) -> dict[str, StoredTensor]:
    try:
        with file.open("rb") as data:
            (size,) = struct.unpack("<Q", data.read(8))
            header = parse_json(data.read(min(size, _LONGEST_HEADER)), file)
        if isinstance(header, dict):
            header.pop("__metadata__", None)
        entries = check(Header, header, file).model_extra or {}
        whole = 8 + size + max((about.data_offsets[1] for about in entries.values()), default=0)
    except (OSError, struct.error, ModelError) as error:
        raise ModelError(
            f"{file}: not a safetensors file ({error!r}); if it is a few lines of text, it is a pointer: "
            "fetch the file itself"
        ) from error
    if file.stat().st_size != whole:
        raise ModelError(f"{file}: {file.stat().st_size} bytes instead of {whole}: fetch it again")
    return entries


@dataclass(frozen=True, slots=True)
class Adapter:
    """A published adapter's tensors, told apart.

    Attributes:
        projector: Its shapes.
        parts: Stored name for each of the projector's own.
        lora: Names of the LoRA tensors.
        rank: Of the LoRA; 0 if there is none.
    """

    projector: ProjectorConfig
    parts: Mapping[str, str]
    lora: tuple[str, ...]
    rank: int


def recognise_layout(found: Mapping[str, Entry], subsampling: int = 8) -> Adapter:
    """Tell projector and LoRA apart.

    Raises:
        ModelError: Something that is neither, or a projector whose parts do not follow each other.
    """
    lora = tuple(name for name in found if place(name))
    groups: dict[str, dict[str, Entry]] = {}
    for name in sort_naturally(name for name in found if name not in lora):
        stem, _, leaf = name.rpartition(".")
        groups.setdefault(stem, {})[leaf] = found[name]
    strange = [
        stem for stem, group in groups.items() if "weight" not in group or set(group) - {"weight", "bias"}
    ]
    ranks = [len(group["weight"].shape) for stem, group in groups.items() if stem not in strange]
    if strange or 3 not in ranks or 2 not in ranks or ranks.count(1) > 1 or max(ranks, default=0) > 3:
        raise _unknown("is no projector of convolutions, at most one norm and linear layers", found)

    def of_rank(rank: int) -> dict[str, tuple[int, ...]]:
        shapes = {stem: group["weight"].shape for stem, group in groups.items()}
        return {stem: shape for stem, shape in shapes.items() if len(shape) == rank}

    convolutions, linears, norms = of_rank(3), of_rank(2), of_rank(1)
    stride = round(subsampling ** (1 / len(convolutions)))
    if stride ** len(convolutions) != subsampling:
        raise _unknown(f"has {len(convolutions)} convolutions, which cannot subsample {subsampling}x", found)
    widths = [next(iter(linears.values()))[1], *(shape[0] for shape in linears.values())]
    if [shape[1] for shape in linears.values()] != widths[:-1]:
        raise _unknown("has linear layers that do not follow each other", found)
    shapes = tuple((inputs, outputs, kernel, stride) for outputs, inputs, kernel in convolutions.values())
    try:
        config = ProjectorConfig(shapes, tuple(widths), normed=bool(norms))
    except ModelError as error:
        raise _unknown(f"does not fit together ({error})", found) from error
    modules = {f"convolutions.{n}": stem for n, stem in enumerate(convolutions)}
    modules |= {f"linears.{n}": stem for n, stem in enumerate(linears)}
    modules |= dict(zip(("norm",), norms, strict=False))
    parts = {f"{own}.{leaf}": f"{stem}.{leaf}" for own, stem in modules.items() for leaf in groups[stem]}
    return Adapter(config, parts, lora, _rank(lora, found))


def _rank(lora: Iterable[str], found: Mapping[str, Entry]) -> int:
    ranks = {found[name].shape[0 if place(name)[3] == "A" else 1] for name in lora}  # type: ignore[index]
    if len(ranks) > 1:
        raise _unknown(f"has LoRA of several ranks {sorted(ranks)}", found)
    return ranks.pop() if ranks else 0


def _unknown(why: str, found: Mapping[str, Entry]) -> ModelError:
    listed = "\n  ".join(str(entry) for entry in found.values())
    return ModelError(f"the adapter {why}. Its tensors:\n  {listed}")


def sort_naturally(names: Iterable[str]) -> list[str]:
    """Names in the order of the numbers in them: conv.2 before conv.10."""

    def key(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]

    return sorted(names, key=key)


def _is_weight(value: Tensor) -> bool:
    return value.is_floating_point() and bool(value.float().isfinite().all())


def read_tensors(found: Mapping[str, Entry], names: Iterable[str]) -> dict[str, Tensor]:
    """Some of the tensors.

    Raises:
        ModelError: A file that is no safetensors, or a tensor that holds NaN or infinity.
    """
    out: dict[str, Tensor] = {}
    wanted: dict[Path, list[str]] = {}
    for name in names:
        wanted.setdefault(found[name].file, []).append(name)
    for file, inside in wanted.items():
        try:
            with safe_open(file, framework="pt") as data:
                out |= {name: data.get_tensor(name) for name in inside}
        except (OSError, SafetensorError, RuntimeError) as error:
            raise ModelError(f"{file}: not readable weights ({error}): fetch it again") from error
        if broken := [name for name in inside if not _is_weight(out[name])]:
            raise ModelError(
                f"{file}: {', '.join(broken[:3])}: NaN, infinity or no floating-point numbers, which no "
                "trained weights are: fetch it again"
            )
    return out
