"""A trained model with a larger vocabulary: new pieces, everything else as it was.

In the refiner, new pieces get Whisper's embeddings, to which it stayed close enough to use them at once.
In the denoiser they get zeros: it has not learnt to tell them apart, so its draft leaves them out (RUNS.md).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import REFINER, find_model
from diffusion_asr.models.packing import unpack_file
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.build_vocabulary import (
    LATIN,
    language_pieces,
    latin_pieces,
    spelt,
    training_texts,
    whisper_bpe,
    write,
)
from recipes.embedded.export import write_pair
from recipes.embedded.training import continued_denoiser


def carried(known: Tensor, places: list[int], fresh: Tensor) -> Tensor:
    """``fresh`` (V, D), with ``known`` (U, D) in the rows ``places`` (U)."""
    out = fresh.to(known.dtype).clone()
    out[places] = known
    return out


def larger(old: Vocabulary, latin: list[str]) -> tuple[list[str], list[int]]:
    """All pieces with ``latin`` among them, and where each of ``old``'s pieces now is."""
    body = old.pieces[1 : old.hindi_start]
    new = [p for p in latin if p not in set(body)]
    # In front of Hindi: ids below ``hindi_start`` are spelt in bytes.
    pieces = ["", *body, *new, *old.pieces[old.hindi_start :]]
    places = [i if i < old.hindi_start else i + len(new) for i in range(len(old))]
    return pieces, places


def grow(work: Path, shared: Path, out: Path, model: str, version: str) -> None:
    """Write MODEL with more of Whisper's pieces as the folder ``out``; ``work/model`` gets its vocabulary."""
    parts, texts = load_parts(model), training_texts(shared)
    old, source = parts.vocabulary, whisper_bpe(work)
    bpe = Tokenizer.from_str(json.dumps(source))
    pieces, places = larger(old, latin_pieces(bpe))
    folder = work / "model"
    folder.mkdir(parents=True, exist_ok=True)
    start = old.hindi_start + len(pieces) - len(old)
    vocabulary = spelt(folder, source, pieces, start, old.hindi_scores)
    own = language_pieces(vocabulary, texts)
    for name in set(old.language_pieces) - set(LATIN):  # what it could say, it can still say
        own[name] = sorted({*own[name], *(places[i] for i in old.language_pieces[name])})
    vocabulary.language_pieces = own
    fresh, name = write(work, vocabulary, bpe), "embed_tokens.weight"
    denoiser = continued_denoiser(model).state_dict()
    refiner = unpack_file(find_model(model) / REFINER, torch.float32)
    refiner[name] = carried(refiner[name], places, fresh)
    denoiser[name] = carried(denoiser[name], places, torch.zeros_like(fresh))
    out.mkdir(parents=True, exist_ok=True)
    for file in ("vocabulary.json", "bpe.json"):
        shutil.copy(folder / file, out / file)
    write_pair(model, out, version, denoiser, refiner)
    print(f"{len(old)} pieces became {len(pieces)}")
