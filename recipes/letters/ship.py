"""Put a kept letter run into a model folder, for the languages that nothing else writes well."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_asr.decoding.letters.ngram import LetterModel, build_model, count_letters
from diffusion_asr.languages import LANGUAGES
from diffusion_asr.models.folder import LETTERS, NGRAM, load_config, save_folder
from diffusion_asr.models.ngrams import save_ngram
from diffusion_asr.models.packing import pack_tensors, unpack_file
from diffusion_asr.models.schema import SIGNED
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.texts import dev_keys, sentences
from recipes.letters.alphabet import Alphabet, letters_of
from recipes.letters.model import LOWER
from recipes.letters.train import WEIGHTS

LEAST = 3  # times that an n-gram has to occur
SETTINGS: dict[str, Any] = {"context": 6, "weight": 0.5, "bonus": 1.3}  # chosen on half of dev (RUNS.md)


def ship(run: Path, model: Path, out: Path, shared: Path, languages: tuple[str, ...] = ("hi",)) -> None:
    """Write the model folder ``model`` as ``out``, with the letters of ``run`` for ``languages``."""
    config = {name: value for name, value in load_config(model).items() if name not in SIGNED}
    known = Alphabet.load(run / "alphabet.json").letters
    vocabulary = Vocabulary.load(model / "vocabulary.json")
    texts = [
        letters_of(text)
        for language in languages
        for text in sentences(shared / "data/text", language, dev_keys(shared / "data/speech/manifest.jsonl"))
    ]
    kept = choose_letters(known, texts, vocabulary, languages[0])
    tensors = cut_canvas(unpack_file(run / WEIGHTS, torch.float32), kept, languages)
    out.mkdir(parents=True, exist_ok=True)
    for path in model.iterdir():
        if path.is_file() and path.name not in ("config.json", LETTERS, NGRAM):
            shutil.copy(path, out / path.name)
    alphabet = [known[n] for n in kept[1:]]
    save_ngram(out / NGRAM, build_letter_model(texts, alphabet))
    width = tensors["norm.weight"].shape[0]
    layers = len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
    about = {"d_model": width, "layers": layers, "heads": config["encoder"]["heads"]}
    config["encoder"]["tap"] = LOWER
    config["letters"] = {**about, "languages": list(languages), **SETTINGS, "alphabet": alphabet}
    save_folder(out, config, {"letters": pack_tensors(tensors, narrow=True)})


def choose_letters(
    known: tuple[str, ...], texts: list[list[str]], vocabulary: Vocabulary, language: str
) -> list[int]:
    """Numbers of null and of the run's letters that the texts use and the model's pieces can spell."""
    used = {letter for text in texts for letter in text}
    spelled = {
        letter
        for letter in used
        if letter == " " or letter in vocabulary.decode(vocabulary.encode(letter, language))
    }
    return [0, *(n for n, letter in enumerate(known) if letter in spelled and len(letter) == 1)]


def cut_canvas(tensors: dict[str, Tensor], kept: list[int], languages: tuple[str, ...]) -> dict[str, Tensor]:
    """Its weights with the outputs ``kept`` and the rows of ``languages`` alone."""
    out = {name: value for name, value in tensors.items() if not name.startswith("hanzi.")}
    for name in ("letters.weight", "letters.bias"):
        out[name] = out[name][torch.tensor(kept)].clone()
    rows = torch.tensor([LANGUAGES.index(code) for code in languages])
    out["language.weight"] = out["language.weight"][rows].clone()
    return out


def build_letter_model(texts: list[list[str]], alphabet: list[str]) -> LetterModel:
    """The n-grams of the texts that the alphabet can write."""
    number = {letter: n for n, letter in enumerate(alphabet, start=1)}
    written = [[number[x] for x in text] for text in texts if all(x in number for x in text)]
    counts = count_letters(written, number[" "], SETTINGS["context"] + 1)
    return build_model(counts, len(alphabet) + 1, LEAST)
