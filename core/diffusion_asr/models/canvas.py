"""canvas-base from its folder: build the networks, fill in their weights, choose the decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diffusion_asr.acoustics.encoder import WhisperEncoder, compute_sinusoids
from diffusion_asr.acoustics.language import LanguagePosterior
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.causal import int8
from diffusion_asr.decoding.causal.model import CausalRefiner, RefinerConfig
from diffusion_asr.decoding.decoder import Decoder
from diffusion_asr.decoding.denoiser import CanvasDenoiser, DenoiserConfig
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.decoding.letters.decoder import LetterDecoder
from diffusion_asr.decoding.letters.model import LetterCanvas
from diffusion_asr.errors import REINSTALL, ModelError
from diffusion_asr.json_files import check
from diffusion_asr.models.folder import LETTERS, NGRAM, REFINER
from diffusion_asr.models.ngrams import load_ngram
from diffusion_asr.models.packing import unpack_file
from diffusion_asr.models.parts import Parts
from diffusion_asr.models.schema import (
    CanvasModel,
    DenoiserSizes,
    LetterSizes,
    RefinerSizes,
    check_canvas_model,
)
from diffusion_asr.text.vocabulary import Vocabulary

TABLE = "embed_tokens.weight"
POSITIONS = "embed_positions.weight"  # of the encoder: known, so most files leave them out


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
    sizes = check_canvas_model(config, folder / "config.json")
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    for name, part in (("denoiser", sizes.denoiser), ("refiner", sizes.refiner)):
        if part is not None and len(vocabulary) != part.vocabulary:
            counts = f"{len(vocabulary)} pieces, the {name} {part.vocabulary}"
            raise ModelError(f"{folder / 'vocabulary.json'} has {counts}. {REINSTALL}")
    refiner = _load_refiner(sizes.refiner, folder) if sizes.refiner else None
    encoder, denoiser, language = _load_networks(sizes, folder)
    decoder: Decoder = DiffusionDecoder(denoiser, vocabulary)
    if refiner is not None:
        letters = _load_letters(sizes.letters, folder, vocabulary) if sizes.letters else None
        decoder = CanvasDecoder(denoiser, refiner, vocabulary, sizes.swept, letters)
    calibration = sizes.calibration.config()
    return Parts(encoder, decoder, vocabulary, sizes.name, sizes.version, calibration, language, denoiser)


def _load_networks(
    sizes: CanvasModel, folder: Path
) -> tuple[WhisperEncoder, CanvasDenoiser, LanguagePosterior]:
    with torch.device("meta"), Bare():
        denoiser = CanvasDenoiser(sizes.denoiser.config())
        language = LanguagePosterior(denoiser.config.d_model, denoiser.config.languages)
        encoder = WhisperEncoder(sizes.encoder.config())
    dtype = compute_dtype()
    _fill(encoder, folder / "encoder.safetensors", dtype, known={POSITIONS: _sinusoids(encoder)})
    _fill(denoiser, folder / "denoiser.safetensors", dtype)
    _fill(language, folder / "language.safetensors", torch.float32)
    return encoder, denoiser, language


def _sinusoids(encoder: WhisperEncoder) -> Callable[[], Tensor]:
    return partial(compute_sinusoids, encoder.config.max_frames, encoder.config.d_model)


def denoiser_config(config: Mapping[str, Any]) -> DenoiserConfig:
    """The denoiser's sizes in a model's ``config.json``.

    Raises:
        ModelError: They are missing, of a wrong type or out of bounds.
    """
    return check(DenoiserSizes, config.get("denoiser"), "config.json: denoiser").config()


def _load_refiner(sizes: RefinerSizes, folder: Path) -> CausalRefiner:
    stated = sizes.model_dump(exclude={"front"}) | {"languages": tuple(sizes.languages)}
    with torch.device("meta"), Bare():
        refiner = CausalRefiner(RefinerConfig(**stated))
    quick = int8.has_kernels()
    _fill(refiner, folder / REFINER, torch.float32 if quick else compute_dtype())
    if quick:
        int8.quantise_linears(refiner)
    return refiner


def _load_letters(sizes: LetterSizes, folder: Path, vocabulary: Vocabulary) -> LetterDecoder:
    with torch.device("meta"), Bare():
        canvas = LetterCanvas(sizes.config())
    _fill(canvas, folder / LETTERS, compute_dtype())
    alphabet = ("", *sizes.alphabet)
    model = load_ngram(folder / NGRAM, len(alphabet))
    return LetterDecoder(canvas, alphabet, model, vocabulary, sizes.rule())


def _fill(
    module: nn.Module,
    path: Path,
    dtype: torch.dtype,
    known: Mapping[str, Callable[[], Tensor]] | None = None,
) -> None:
    """Load weights into a module on the meta device; names must match, but ``known`` ones may be missing."""
    # Tables are read by rows, and stored in int8: float32 would be 90 MB for each of the two.
    tables = {TABLE: torch.float16} if dtype == torch.float32 else {}
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    tensors = unpack_file(path, dtype, tables, expected, optional=tuple(known or ()))
    tensors |= {name: make().to(dtype) for name, make in (known or {}).items() if name not in tensors}
    module.load_state_dict(tensors, assign=True)
    module.eval().requires_grad_(False)
