"""Pieces of text that a canvas slot can hold.

Three kinds, all keeping or starting from Whisper's trained embeddings: Whisper's own byte-level BPE
pieces for en, de, fr, es; single Hanzi for zh; unigram pieces over Devanagari for hi. Id 0 is the null
token (CTC's blank). Decoding needs only the piece table; encoding loads Whisper's merges on first use.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from diffusion_asr.errors import REINSTALL, LanguageError, ModelError
from diffusion_asr.json_files import Schema, check, read_json
from diffusion_asr.languages import LANGUAGES, find_language, is_spaced, is_syllabic

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NULL = 0
_MOST_BYTES = 1 << 26  # of vocabulary.json, which has a million pieces at most
_HAN = re.compile(r"([\u3400-\u4dbf\u4e00-\u9fff，。？！、；：])")


@functools.cache
def map_byte_letters() -> dict[str, int]:
    """GPT-2's printable letter for each byte, inverted: letter to byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    letters = {chr(b): b for b in printable}
    return letters | {chr(256 + n): b for n, b in enumerate(others)}


def spell_piece(piece: str) -> bytes:
    """The UTF-8 bytes that a byte-level BPE piece stands for."""
    return piece.translate(_bytes_of_letters()).encode("latin-1")


@functools.cache
def _bytes_of_letters() -> dict[int, int]:
    return {ord(letter): byte for letter, byte in map_byte_letters().items()}


def pack_spans(ids: Iterable[int]) -> list[list[int]]:
    """Sorted ids as stretches [first, end): a fifth of the file."""
    out: list[list[int]] = []
    for i in ids:
        if out and out[-1][1] == i:
            out[-1][1] = i + 1
        else:
            out.append([i, i + 1])
    return out


def unpack_spans(spans: Iterable[Sequence[int]]) -> list[int]:
    """The ids of ``pack_spans``."""
    return [i for first, end in spans for i in range(first, end)]


class _Stored(Schema):
    """``vocabulary.json``."""

    pieces: list[Annotated[str, Field(max_length=1000)]] = Field(min_length=2, max_length=1_000_000)
    hindi_start: int
    hindi_scores: list[float]
    language_pieces: dict[str, list[Annotated[list[int], Field(min_length=2, max_length=2)]]] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not 1 <= self.hindi_start <= len(self.pieces):
            raise ValueError(f"hindi_start {self.hindi_start} is no place among {len(self.pieces)} pieces")
        if len(self.hindi_scores) != len(self.pieces) - self.hindi_start:
            raise ValueError(f"{len(self.hindi_scores)} hindi_scores do not fit the pieces from hindi_start")
        if not all(self.pieces[self.hindi_start :]):
            raise ValueError("a piece from hindi_start on is empty")
        for name, spans in (self.language_pieces or {}).items():
            edges = [edge for span in spans for edge in span]
            if edges[:1] != [NULL] or edges != sorted(set(edges)) or not 1 < edges[-1] <= len(self.pieces):
                raise ValueError(
                    f"language_pieces.{name} must be sorted stretches of ids from 0 up to {len(self.pieces)}"
                )
        return self


class Vocabulary:
    """Piece table with encode and decode.

    Attributes:
        pieces: Byte-level BPE spellings for ids below ``hindi_start``, plain strings from there on.
        language_pieces: Sorted ids, null first, that texts of a language use; a recogniser that is told
            the language scores only these. A language that is missing uses all.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        hindi_start: int,
        hindi_scores: Sequence[float],
        bpe_file: Path | None = None,
        language_pieces: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.pieces = list(pieces)
        self.hindi_start = hindi_start
        self.hindi_scores = list(hindi_scores)
        self.language_pieces = {name: list(ids) for name, ids in (language_pieces or {}).items()}
        self._bpe_file = bpe_file
        self._bytes = [spell_piece(p) if i < hindi_start else p.encode() for i, p in enumerate(self.pieces)]
        self._bytes[NULL] = b""
        self._ids = {raw: i for i, raw in enumerate(self._bytes) if 0 < i < hindi_start}

    def __len__(self) -> int:
        return len(self.pieces)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read ``vocabulary.json``; Whisper's ``bpe.json`` lies beside it.

        Raises:
            ModelError: It is no vocabulary, or its parts contradict each other.
        """
        stored = check(_Stored, read_json(path, _MOST_BYTES), path)
        ids = {name: unpack_spans(spans) for name, spans in (stored.language_pieces or {}).items()}
        try:
            merges = path.with_name("bpe.json")
            return cls(stored.pieces, stored.hindi_start, stored.hindi_scores, merges, ids)
        except ValueError as error:
            raise ModelError(f"{path}: a piece that spells no bytes ({error}). {REINSTALL}") from error

    def save(self, path: Path) -> None:
        """Write ``vocabulary.json``."""
        data = {
            "pieces": self.pieces, "hindi_start": self.hindi_start, "hindi_scores": self.hindi_scores,
            "language_pieces": {name: pack_spans(ids) for name, ids in self.language_pieces.items()},
        }  # fmt: skip
        path.write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")), encoding="utf8")

    def only(self, ids: Sequence[int]) -> Vocabulary:
        """The pieces ``ids`` (sorted, null first) alone, numbered anew in their order."""
        place = {old: new for new, old in enumerate(ids)}
        scores = [self.hindi_scores[i - self.hindi_start] for i in ids if i >= self.hindi_start]
        used = {name: [place[i] for i in own if i in place] for name, own in self.language_pieces.items()}
        return Vocabulary([self.pieces[i] for i in ids], len(ids) - len(scores), scores, self._bpe_file, used)

    def pieces_for(self, language: str) -> list[int]:
        """Sorted ids, null first, that a text of this language may use."""
        return self.language_pieces.get(language) or list(range(len(self)))

    def bytes_of(self, token: int) -> bytes:
        """UTF-8 bytes of one token (a leading space is part of it)."""
        return self._bytes[token]

    def word_letters(self, token: int) -> str:
        """What of a token is a matter of words: not its case, nor its marks and spaces."""
        text = self.bytes_of(token).decode(errors="replace").casefold()
        return "".join(c for c in text if c.isalnum() or not c.isascii())

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a token sequence; nulls and incomplete UTF-8 vanish."""
        return b"".join(self._bytes[i] for i in ids).decode("utf8", errors="ignore").strip()

    def read_merges(self) -> None:
        """Read Whisper's merges now and not when a text is first encoded: by then their file may be gone.

        Raises:
            ModelError: There is no such file.
        """
        _ = self._bpe

    def encode(self, text: str, language: str) -> list[int]:
        """Token ids of a text as it is written. Characters that no piece can spell are left out.

        Raises:
            LanguageError: For a language that is not one of the six.
            ModelError: The file with Whisper's merges, which is read here unless it has been, is gone.
        """
        if find_language(language) is None:
            raise LanguageError(f"unknown language {language!r}; known: {', '.join(LANGUAGES)}")
        text = " ".join(unicodedata.normalize("NFC", text).split())
        if not text:
            return []
        if is_syllabic(language):
            return self._encode_hindi(text)
        if not is_spaced(language):
            parts = (p for p in _HAN.split(text) if p.strip())
            return [i for part in parts for i in self.spelling(part)]
        return self.spelling(" " + text)

    def _encode_hindi(self, text: str) -> list[int]:
        marked = "\u2581" + text.replace(" ", "\u2581")
        return [self.hindi_start + i - 1 for i in self._unigram.encode(marked).ids if i]  # 0 is unknown

    def spelling(self, text: str) -> list[int]:
        """Ids below ``hindi_start`` that spell a piece of text exactly as it is, leading space included."""
        whole = self._ids.get(text.encode())
        if whole is not None:
            return [whole]
        return [i for token in self._bpe.encode(text).tokens for i in self._split(token)]

    def _split(self, piece: str) -> list[int]:
        """A piece that was pruned, as its longest known prefixes."""
        raw = spell_piece(piece)
        if raw in self._ids:
            return [self._ids[raw]]
        out = []
        while raw:
            size = next((n for n in range(len(raw), 0, -1) if raw[:n] in self._ids), 0)
            if size:
                out.append(self._ids[raw[:size]])
            raw = raw[max(size, 1) :]
        return out

    @functools.cached_property
    def _bpe(self) -> Tokenizer:
        from tokenizers import Tokenizer

        if self._bpe_file is None or not self._bpe_file.exists():
            raise ModelError(f"{self._bpe_file} is missing: it is needed to encode text, not to transcribe.")
        try:
            found = Tokenizer.from_file(str(self._bpe_file))
        except Exception as error:  # tokenizers raises nothing more special
            raise ModelError(
                f"{self._bpe_file}: not readable merges ({error!s:.200}). {REINSTALL}"
            ) from error
        if strange := set("".join(found.get_vocab())) - set(map_byte_letters()):
            raise ModelError(
                f"{self._bpe_file}: {min(strange)!r} is no letter of byte-level pieces. {REINSTALL}"
            )
        return found

    @functools.cached_property
    def _unigram(self) -> Any:
        from tokenizers import Tokenizer
        from tokenizers.models import Unigram

        own = [p.replace(" ", "\u2581") for p in self.pieces[self.hindi_start :]]
        table = [("<unk>", 0.0), *zip(own, self.hindi_scores, strict=True)]
        return Tokenizer(Unigram(table, unk_id=0, byte_fallback=False))
