"""A Gemma tokenizer (SentencePiece BPE with byte fallback) as the vocabulary of a token canvas."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from diffusion_asr.errors import ModelError
from diffusion_asr.text.vocabulary import Vocabulary

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class GemmaVocabulary(Vocabulary):
    """Spells tokens by ``tokenizer.json``; special tokens spell nothing."""

    def __init__(self, file: Path) -> None:
        """Read ``tokenizer.json``.

        Raises:
            ModelError: Not there, or not a tokenizer.
        """
        from tokenizers import Tokenizer

        if not file.is_file():
            raise ModelError(f"{file} is missing: give the backbone's folder with its tokenizer")
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises nothing more special
            raise ModelError(f"{file}: not a readable tokenizer ({error})") from error
        self._special = {n for n, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        self.language_pieces = {}

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def read_merges(self) -> None:
        """Nothing to do: ``tokenizer.json``, which holds them, has been read."""

    def pieces_for(self, language: str) -> list[int]:
        """All: a token canvas may use every token."""
        return list(range(len(self)))

    def bytes_of(self, token: int) -> bytes:
        """UTF-8 bytes of one token (a leading space is part of it)."""
        piece = self.tokenizer.id_to_token(token)
        if piece is None or token in self._special:
            return b""
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()

    def decode(self, ids: Iterable[int]) -> str:
        """Text of a token sequence; special tokens and incomplete UTF-8 vanish."""
        return b"".join(map(self.bytes_of, ids)).decode("utf8", errors="ignore").strip()

    def encode(self, text: str, language: str = "") -> list[int]:
        """Token ids of a text, without special tokens around it."""
        return list(self.tokenizer.encode(" ".join(text.split()), add_special_tokens=False).ids)

    def literal(self, text: str) -> list[int]:
        """Token ids of a prompt, special tokens by name."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)
