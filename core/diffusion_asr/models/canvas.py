"""Find a model by name or folder, check it, and put its parts together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffusion_asr.acoustics.encoder import EncoderConfig, WhisperEncoder, sinusoids
from diffusion_asr.acoustics.language import LanguagePosterior, NullDraft
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.causal import int8
from diffusion_asr.decoding.causal.model import EditDenoiser, RefinerConfig
from diffusion_asr.decoding.denoiser import CanvasDenoiser, DenoiserConfig
from diffusion_asr.errors import ModelError
from diffusion_asr.models.folder import REFINER, load_config, model_folder
from diffusion_asr.models.packing import unpack
from diffusion_asr.models.parts import Parts
from diffusion_asr.text.vocabulary import Vocabulary

TABLE = "embed_tokens.weight"


def compute_dtype() -> torch.dtype:
    """bf16 where the CPU multiplies it in hardware, float32 elsewhere."""
    fast = torch.backends.cpu.get_cpu_capability() in ("AVX512", "AVX512_BF16") and _has_bf16()
    return torch.bfloat16 if fast else torch.float32


def _has_bf16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and "avx512_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf8", errors="ignore")
    except OSError:
        return ""


class Bare(TorchFunctionMode):
    """Builds modules without initialising them.

    On the meta device an initialisation does nothing, but ``normal_`` there imports torch's compiler: two
    seconds, and memory for 900 modules.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _fill(
    module: nn.Module,
    path: Path,
    dtype: torch.dtype,
    bases: dict[str, Tensor] | None = None,
    known: dict[str, Tensor] | None = None,
) -> None:
    """Load weights into a module on the meta device; names must match, but ``known`` ones may be missing."""
    # Tables are read by rows, and stored in int8: float32 would be 90 MB for each of the two.
    tables = {TABLE: torch.float16} if dtype == torch.float32 else {}
    tensors = {name: value.to(dtype) for name, value in (known or {}).items()}
    tensors |= unpack(path, dtype, bases, tables)
    try:
        module.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit its config.json: {error}") from error
    module.eval().requires_grad_(False)


def _build(
    config: dict[str, Any], folder: Path, refiner: EditDenoiser | None
) -> tuple[WhisperEncoder, CanvasDenoiser, LanguagePosterior]:
    sizes = config["denoiser"] | {"languages": tuple(config["denoiser"]["languages"])}
    with torch.device("meta"), Bare():
        denoiser = CanvasDenoiser(DenoiserConfig(**sizes))
        language = LanguagePosterior(denoiser.config.d_model, denoiser.config.languages)
        encoder = WhisperEncoder(EncoderConfig(**config["encoder"]))
    dtype = compute_dtype()
    positions = {"embed_positions.weight": sinusoids(encoder.config.max_frames, encoder.config.d_model)}
    _fill(encoder, folder / "encoder.safetensors", dtype, known=positions)
    # The denoiser's embeddings may be stored as differences to the refiner's.
    bases = {} if refiner is None else {TABLE: refiner.embed_tokens.weight[: denoiser.config.vocabulary]}
    _fill(denoiser, folder / "denoiser.safetensors", dtype, bases)
    _fill(language, folder / "language.safetensors", torch.float32)
    return encoder, denoiser, language


def _refiner(config: dict[str, Any], folder: Path) -> EditDenoiser | None:
    """The refiner, if the model has one."""
    if "refiner" not in config:
        return None
    sizes = config["refiner"] | {"languages": tuple(config["refiner"]["languages"])}
    with torch.device("meta"), Bare():
        refiner = EditDenoiser(RefinerConfig(**sizes))
    quick = int8.available()
    _fill(refiner, folder / REFINER, torch.float32 if quick else compute_dtype())
    if quick:
        int8.quantised(refiner)
    return refiner


def load_parts(name: str | os.PathLike[str]) -> Parts:
    """Everything that a ``Recognizer`` needs.

    Raises:
        ModelError: See ``checkpoint.load_config``.
    """
    folder = model_folder(name)
    config = load_config(folder)
    if isinstance(config.get("denoiser"), dict) and config["denoiser"].get("kind") == "diffusion-gemma":
        from diffusion_asr.diffusion_gemma.folder import load_model

        return load_model(folder, config)
    try:
        refiner = _refiner(config, folder)
        encoder, denoiser, language = _build(config, folder, refiner)
        calibration = Calibration(**config["calibration"])
        title, version = str(config["name"]), str(config["version"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder / 'config.json'} lacks or misstates a part: {error!r}") from error
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    if len(vocabulary) != denoiser.config.vocabulary:
        sizes = f"{len(vocabulary)} pieces, the denoiser {denoiser.config.vocabulary}"
        raise ModelError(f"{folder / 'vocabulary.json'} has {sizes}. Reinstall the model.")
    if refiner is not None and len(vocabulary) != refiner.config.vocabulary:
        sizes = f"{len(vocabulary)} pieces, the refiner {refiner.config.vocabulary}"
        raise ModelError(f"{folder / 'vocabulary.json'} has {sizes}. Reinstall the model.")
    return Parts(encoder, denoiser, language, vocabulary, calibration, title, version, NullDraft(), refiner)
