"""Cut the pieces that texts never use: a smaller model of the same weights.

A piece goes if it is letters only and none of the sentences and training texts uses it, unless it begins a
word that a dictionary of the model's languages has; or if they use it once and no dictionary has it. What
remains spells the rest: single letters and parts of letters stay. Dictionaries are Debian's word lists:
``apt-get install wamerican wngerman wfrench wspanish``.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from diffusion_asr.models.folder import REFINER, find_model, load_config, save_folder
from diffusion_asr.models.schema import SIGNED
from diffusion_asr.models.stored import EXACT, NIBBLES, ROWS, SCALE
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.build_vocabulary import training_texts

TABLE = "embed_tokens.weight"
DICTIONARIES = ("american-english", "ngerman", "french", "spanish")


def shrink(shared: Path, model: str, out: Path, version: str, words: Path) -> None:
    """Write MODEL without these pieces as the folder ``out``; ``words`` is the folder of word lists."""
    source = find_model(model)
    config = {name: value for name, value in load_config(source).items() if name not in SIGNED}
    vocabulary = Vocabulary.load(source / "vocabulary.json")
    uses: Counter[int] = Counter()
    for language, texts in training_texts(shared).items():
        for text in texts:
            uses.update(vocabulary.encode(text, language))
    kept = choose_pieces(vocabulary, uses, read_words(words))
    out.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.is_file() and path.name not in ("config.json", "vocabulary.json"):
            shutil.copy(path, out / path.name)
    vocabulary.only(kept).save(out / "vocabulary.json")
    rows = torch.tensor(kept)
    weights: dict[str, Mapping[str, Tensor]] = {
        name: cut_rows(load_file(source / f"{name}.safetensors"), rows)
        for name in ("denoiser", REFINER.removesuffix(".safetensors"))
    }
    for name in weights:
        config[name]["vocabulary"] = len(kept)
    config["version"] = version
    save_folder(out, config, weights)
    print(f"{len(vocabulary)} pieces became {len(kept)}")


def read_words(folder: Path) -> set[str]:
    """All words of the dictionaries, without case."""
    return {
        line.strip().casefold()
        for name in DICTIONARIES
        for line in (folder / name).read_text(encoding="utf8").splitlines()
    }


def choose_pieces(vocabulary: Vocabulary, uses: Counter[int], words: set[str]) -> list[int]:
    """Sorted ids of the pieces that stay; null, Hanzi and Hindi always do."""

    def stays(piece: int) -> bool:
        text = vocabulary.bytes_of(piece).decode("utf8", errors="replace")
        letters = text.strip()
        if uses[piece] > 1 or len(letters) < 2 or not letters.isalpha():  # parts of letters are none
            return True
        known = letters.casefold() in words
        return known if uses[piece] else known and text.startswith(" ")

    return [n for n in range(len(vocabulary)) if not 0 < n < vocabulary.hindi_start or stays(n)]


def cut_rows(stored: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """A stored network with these ``rows`` (R,), sorted, of its table of pieces."""
    out = dict(stored)
    for name in (TABLE, TABLE + SCALE, TABLE + NIBBLES):
        if name in out:
            out[name] = out[name][rows].clone()
    if TABLE + ROWS in out:
        exact = out[TABLE + ROWS].long()
        among = torch.isin(exact, rows)
        out[TABLE + ROWS] = torch.searchsorted(rows, exact[among]).to(torch.int32)
        out[TABLE + EXACT] = out[TABLE + EXACT][among].clone()
    return out
