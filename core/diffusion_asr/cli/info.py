"""``diffusion-asr info``: which model would listen, whether its files are whole, and on what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

import diffusion_asr
from diffusion_asr.cli.plan import DEFAULT_MODEL
from diffusion_asr.cli.report import expected_errors
from diffusion_asr.cli.sinks import emit
from diffusion_asr.errors import ModelError

_LICENCES = (
    "diffusion-asr: Apache-2.0",
    "Whisper weights (OpenAI): MIT",
    "Silero VAD: MIT",
)
_Model = Annotated[str, typer.Option("--model", metavar="NAME|DIR", help="A model's name or folder.")]


def info(model: _Model = DEFAULT_MODEL) -> None:
    """Show the model and the machine, and check the model's files.

    [bold]Examples[/bold]
    diffusion-asr info
    diffusion-asr info --model path/to/model
    """
    with expected_errors():
        rows = [*_model_rows(model), *_machine_rows(), *(("licence", line) for line in _LICENCES)]
        emit("".join(f"{name:<12}{value}\n" for name, value in rows))


def _model_rows(model: str) -> Iterator[tuple[str, str]]:
    from diffusion_asr.models.folder import find_model, load_config

    folder = find_model(model)
    config = load_config(folder)  # checks the sha256 of every file
    try:
        title = f"{config['name']} {config['version']}"
        languages = ", ".join(config["denoiser"]["languages"])
        signed = sorted(config["sha256"])
    except (KeyError, TypeError) as error:
        raise ModelError(f"{folder / 'config.json'} lacks or misnames a part: {error!r}") from error
    yield "model", title
    yield "folder", str(folder.absolute())
    yield "languages", languages
    yield "parameters", _millions(_parameters(folder, config))
    yield "size", _megabytes(sum((folder / name).stat().st_size for name in signed))
    for name in signed:
        yield "", f"{name} {_megabytes((folder / name).stat().st_size)}"
    yield "sha256", f"verified, {len(signed)} files"


def _machine_rows() -> Iterator[tuple[str, str]]:
    import torch

    from diffusion_asr.models.canvas import compute_dtype

    yield "computes in", str(compute_dtype()).removeprefix("torch.")
    yield "threads", str(torch.get_num_threads())
    yield "torch", torch.__version__
    yield "version", f"diffusion-asr {diffusion_asr.__version__}"


def _parameters(folder: Path, config: dict[str, Any]) -> dict[str, int]:
    """Weights in each safetensors file, read from its header."""
    from math import prod

    from safetensors import SafetensorError, safe_open

    from diffusion_asr.models.stored import SCALE

    counts = {}
    for name in sorted(n for n in config["sha256"] if n.endswith(".safetensors")):
        try:
            with safe_open(folder / name, framework="pt") as data:
                shapes = [data.get_slice(key).get_shape() for key in data.keys() if not key.endswith(SCALE)]  # noqa: SIM118 - no dict
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder / name}: not a readable safetensors file ({error})") from error
        counts[name.removesuffix(".safetensors")] = sum(prod(shape) for shape in shapes)
    return counts


def _millions(counts: dict[str, int]) -> str:
    parts = ", ".join(f"{name} {count / 1e6:.1f} M" for name, count in counts.items())
    return f"{sum(counts.values()) / 1e6:.1f} M ({parts})"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
