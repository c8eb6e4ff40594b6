"""A tiny model with random weights, whole and as a folder.

Its weights mean nothing: it shows that the parts fit together, never how well anything is recognised.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn

from diffusion_asr.acoustics.encoder import AcousticMemory, EncoderConfig, WhisperEncoder
from diffusion_asr.acoustics.language import LanguagePosterior
from diffusion_asr.audio.speech import CHUNK
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.causal.model import CausalRefiner, RefinerConfig
from diffusion_asr.decoding.causal.rewriting import Rewriter, RewriterOptions
from diffusion_asr.decoding.causal.scorer import PieceScorer
from diffusion_asr.decoding.decoder import Decoded, Decoder
from diffusion_asr.decoding.denoiser import CanvasDenoiser, DenoiserConfig
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.decoding.letters.decoder import LetterDecoder
from diffusion_asr.decoding.letters.model import LetterCanvas, LetterConfig
from diffusion_asr.decoding.letters.ngram import build_model, count_letters
from diffusion_asr.decoding.letters.search import SearchRule
from diffusion_asr.models.folder import NGRAM, save_folder
from diffusion_asr.models.ngrams import save_ngram
from diffusion_asr.models.packing import pack_tensors
from diffusion_asr.models.parts import Parts
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.text.vocabulary import Vocabulary, map_byte_letters

M = TypeVar("M", bound=nn.Module)
ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
WIDTH = 16
SLOT = 0.08  # seconds
HANZI = "的一是不了在人有我他这中大来上国用写年你好，。"
HINDI = (" ", *"कखगतदनपबमयरलवसहािीुूेैोंँ्,?।", " के", " में", "नम", "स्ते")
ENCODER = EncoderConfig(d_model=WIDTH, layers=2, heads=2)


def spelled(data: bytes) -> str:
    """Bytes in the letters of byte-level BPE."""
    letters = {byte: letter for letter, byte in map_byte_letters().items()}
    return "".join(letters[b] for b in data)


def vocabulary(folder: Path) -> Vocabulary:
    """All single bytes, "the" and "ab" in three merges each, some Hanzi, some Devanagari."""
    folder.mkdir(parents=True, exist_ok=True)
    merges = [("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("a", "b"), ("Ġ", "ab")]
    pieces = [*sorted(map_byte_letters()), *(a + b for a, b in merges)]
    bpe = Tokenizer(BPE({piece: n for n, piece in enumerate(pieces)}, merges))
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bpe.save(str(folder / "bpe.json"))
    whole = ["", *pieces, *(spelled(c.encode()) for c in HANZI)]
    scores = [-3.0 - n / 10 for n in range(len(HINDI))]
    made = Vocabulary([*whole, *HINDI], len(whole), scores, folder / "bpe.json")
    made.save(folder / "vocabulary.json")
    return made


def real_vocabulary() -> Vocabulary:
    """The vocabulary of the embedded model, or of the working folder; skips the test if there is none."""
    folders = [ROOT / "core/diffusion_asr/models/canvas-base"]
    if work := os.environ.get("DIFFUSION_ASR_WORK"):
        folders.append(Path(work) / "model")
    for folder in folders:
        if (folder / "vocabulary.json").is_file() and (folder / "bpe.json").is_file():
            return Vocabulary.load(folder / "vocabulary.json")
    pytest.skip("no embedded model, and DIFFUSION_ASR_WORK names no folder with one")


def randomised(module: M, seed: int) -> M:
    """All parameters drawn anew, so that none is at a neutral zero; the global generator stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            scale = 0.3 if weight.ndim > 1 else 0.1
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weight.copy_(centre + scale * torch.randn(weight.shape, generator=generator))
    return module.eval().requires_grad_(False)


def denoiser_config(size: int) -> DenoiserConfig:
    return DenoiserConfig(vocabulary=size, d_model=WIDTH, layers=2, heads=2, time_buckets=8)


def denoiser(size: int = 40, seed: int = 1) -> CanvasDenoiser:
    return randomised(CanvasDenoiser(denoiser_config(size)), seed)


def refiner(size: int = 40, seed: int = 3) -> CausalRefiner:
    config = RefinerConfig(vocabulary=size, d_model=WIDTH, layers=2, heads=2)
    return randomised(CausalRefiner(config), seed)


def rewriter(model: CausalRefiner, pieces: Tensor, options: RewriterOptions | None = None) -> Rewriter:
    return Rewriter(model, PieceScorer(model, pieces), options)


def letters(words: Vocabulary) -> LetterDecoder:
    """Hindi by letters, on what ``ENCODER`` hears below its top layer."""
    alphabet = ("", *(piece for piece in HINDI if len(piece) == 1))
    config = LetterConfig(len(alphabet), ("hi",), d_model=WIDTH, layers=1, heads=2)
    texts = [[alphabet.index(letter) for letter in text] for text in ("नमस्ते", "के मन")]
    model = build_model(count_letters(texts, alphabet.index(" "), 3), len(alphabet), least=1)
    rule = SearchRule(weight=0.3, bonus=1.0, context=2)
    return LetterDecoder(randomised(LetterCanvas(config), 4), alphabet, model, words, rule)


def parts(folder: Path, refined: bool = False, lettered: bool = False) -> Parts:
    """A whole model in float32; its vocabulary is written to ``folder``."""
    words = vocabulary(folder)
    canvas = denoiser(len(words))
    decoder: Decoder = DiffusionDecoder(canvas, words)
    if refined or lettered:
        decoder = CanvasDecoder(
            canvas, refiner(len(words)), words, letters=letters(words) if lettered else None
        )
    heard = replace(ENCODER, tap=1) if lettered else ENCODER
    return Parts(
        encoder=randomised(WhisperEncoder(heard), 0), decoder=decoder, vocabulary=words,
        name="tiny", version="0", calibration=Calibration(), denoiser=canvas,
        language=randomised(LanguagePosterior(WIDTH, canvas.config.languages), 2),
    )  # fmt: skip


def model(folder: Path, refined: bool = False, lettered: bool = False) -> Path:
    """The same model as a signed folder."""
    whole = parts(folder, refined, lettered)
    assert isinstance(whole.encoder, WhisperEncoder)
    assert whole.denoiser is not None
    assert whole.language is not None
    config = {
        "name": whole.name, "version": whole.version, "encoder": asdict(whole.encoder.config),
        "denoiser": asdict(whole.denoiser.config), "calibration": {"a": 1.0, "b": 0.0},
    }  # fmt: skip
    modules = {"encoder": whole.encoder, "denoiser": whole.denoiser, "language": whole.language}
    if isinstance(whole.decoder, CanvasDecoder):
        modules["refiner"] = whole.decoder.refiner
        config["refiner"] = asdict(whole.decoder.refiner.config)
        if whole.decoder.letters is not None:
            modules["letters"] = whole.decoder.letters.canvas
            save_ngram(folder / NGRAM, whole.decoder.letters.model)
            sizes = asdict(whole.decoder.letters.canvas.config) | {"context": 2, "weight": 0.3}
            del sizes["letters"]
            config["letters"] = sizes | {"bonus": 1.0, "alphabet": list(whole.decoder.letters.alphabet[1:])}
    save_folder(folder, config, {name: pack_tensors(module.state_dict()) for name, module in modules.items()})
    return folder


class AlwaysSpeech:
    """A detector for which every chunk is speech."""

    def probabilities(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        read = told = 0
        for block in blocks:
            read += len(block)
            yield np.ones(read // CHUNK - told, np.float32)
            told = read // CHUNK
        yield np.ones(int(read % CHUNK > 0), np.float32)


def eager(whole: Parts) -> Recognizer:
    """A recogniser that takes everything for speech."""
    return Recognizer(whole, detector=AlwaysSpeech())


def memory(lengths: Sequence[int], width: int = WIDTH, seed: int = 0) -> AcousticMemory:
    """Random states of clips of these lengths; a clip's states depend on its length and the seed alone."""
    states = torch.zeros(len(lengths), max(lengths), width)
    for row, length in zip(states, lengths, strict=True):
        row[:length] = torch.randn(length, width, generator=torch.Generator().manual_seed(seed + length))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return AcousticMemory(states, mask, 50.0)


def log_probs(slots: int, size: int, seed: int) -> Tensor:
    """(slots, size) of a model that is not sure of anything."""
    draws = 2 * torch.randn(slots, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draws.log_softmax(-1).float()


def canvas_of(ids: Sequence[int], hold: int = 1) -> Tensor:
    """The canvas of a token sequence: each token for ``hold`` slots, a null only between equal neighbours."""
    slots: list[int] = []
    for token in ids:
        if slots and slots[-1] == token:
            slots.append(0)
        slots += [token] * hold
    return torch.tensor(slots or [0])


def decoded(canvas: Tensor, confidence: Tensor | float = 0.9, starts: Sequence[float] = ()) -> Decoded:
    """A clip of this canvas, a slot every 80 ms."""
    sure = confidence if isinstance(confidence, Tensor) else torch.full(canvas.shape, confidence)
    times = (torch.arange(len(canvas)) + 0.5) * SLOT
    return Decoded(canvas, sure, times, SLOT, parallel_passes=1, starts=tuple(starts))


def canvas_denoiser(whole: Parts) -> CanvasDenoiser:
    assert whole.denoiser is not None
    return whole.denoiser


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    """White noise at 16 kHz that is nowhere near full scale."""
    samples = np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000))
    return samples.astype(np.float32)
