"""canvas-base from its folder: build the networks, fill in their weights, choose the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffusion_asr.acoustics.encoder import EncoderConfig, WhisperEncoder, compute_sinusoids
from diffusion_asr.acoustics.language import LanguagePosterior
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.causal import int8
from diffusion_asr.decoding.causal.model import CausalRefiner, RefinerConfig
from diffusion_asr.decoding.decoder import Decoder
from diffusion_asr.decoding.denoiser import CanvasDenoiser, DenoiserConfig
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.errors import REINSTALL, ModelError
from diffusion_asr.models.folder import REFINER
from diffusion_asr.models.packing import unpack_file
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


def load_canvas_model(folder: Path, config: Mapping[str, Any]) -> Parts:
    """A canvas model; with a refiner its text is verified and rewritten, without one it is the denoiser's.

    Args:
        folder: Its files.
        config: Its ``config.json``, by which the files were verified.

    Raises:
        ModelError: A part that is missing or does not fit.
    """
    try:
        refiner = _load_refiner(config, folder)
        encoder, denoiser, language = _load_networks(config, folder)
        calibration = Calibration(**config["calibration"])
        title, version = str(config["name"]), str(config["version"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder / 'config.json'} lacks or misstates a part: {error!r}") from error
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    for name, part in (("denoiser", denoiser), ("refiner", refiner)):
        if part is not None and len(vocabulary) != part.config.vocabulary:
            sizes = f"{len(vocabulary)} pieces, the {name} {part.config.vocabulary}"
            raise ModelError(f"{folder / 'vocabulary.json'} has {sizes}. {REINSTALL}")
    decoder: Decoder = DiffusionDecoder(denoiser, vocabulary)
    if refiner is not None:
        decoder = CanvasDecoder(denoiser, refiner, vocabulary, config.get("swept"))
    return Parts(encoder, decoder, vocabulary, title, version, calibration, language, denoiser)


def _load_networks(
    config: Mapping[str, Any], folder: Path
) -> tuple[WhisperEncoder, CanvasDenoiser, LanguagePosterior]:
    with torch.device("meta"), Bare():
        denoiser = CanvasDenoiser(denoiser_config(config))
        language = LanguagePosterior(denoiser.config.d_model, denoiser.config.languages)
        encoder = WhisperEncoder(EncoderConfig(**config["encoder"]))
    dtype = compute_dtype()
    positions = {
        "embed_positions.weight": compute_sinusoids(encoder.config.max_frames, encoder.config.d_model)
    }
    _fill(encoder, folder / "encoder.safetensors", dtype, known=positions)
    _fill(denoiser, folder / "denoiser.safetensors", dtype)
    _fill(language, folder / "language.safetensors", torch.float32)
    return encoder, denoiser, language


def denoiser_config(config: Mapping[str, Any]) -> DenoiserConfig:
    """The denoiser's sizes in a model's ``config.json``."""
    return DenoiserConfig(**config["denoiser"] | {"languages": tuple(config["denoiser"]["languages"])})


def _load_refiner(config: Mapping[str, Any], folder: Path) -> CausalRefiner | None:
    """The refiner, if the model has one."""
    if "refiner" not in config:
        return None
    sizes = config["refiner"] | {"languages": tuple(config["refiner"]["languages"])}
    if sizes.pop("front", 0):  # models before version 4 may state it
        raise ValueError("the refiner settles in fronts, which this release no longer does")
    with torch.device("meta"), Bare():
        refiner = CausalRefiner(RefinerConfig(**sizes))
    quick = int8.has_kernels()
    _fill(refiner, folder / REFINER, torch.float32 if quick else compute_dtype())
    if quick:
        int8.quantise_linears(refiner)
    return refiner


def _fill(
    module: nn.Module,
    path: Path,
    dtype: torch.dtype,
    known: dict[str, Tensor] | None = None,
) -> None:
    """Load weights into a module on the meta device; names must match, but ``known`` ones may be missing."""
    # Tables are read by rows, and stored in int8: float32 would be 90 MB for each of the two.
    tables = {TABLE: torch.float16} if dtype == torch.float32 else {}
    tensors = {name: value.to(dtype) for name, value in (known or {}).items()}
    tensors |= unpack_file(path, dtype, tables)
    try:
        module.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit its config.json: {error}") from error
    module.eval().requires_grad_(False)
