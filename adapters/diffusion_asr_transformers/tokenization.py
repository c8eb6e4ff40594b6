"""The recogniser's pieces of text as a transformers tokenizer."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AddedToken, PreTrainedTokenizer

from diffusion_asr.decoding.canvas import NULL, read_tokens
from diffusion_asr.decoding.words import Token, group_words
from diffusion_asr.errors import ModelError
from diffusion_asr.languages import LANGUAGES, find_language
from diffusion_asr.text.spacing import is_han, join_words
from diffusion_asr.text.vocabulary import Vocabulary
from diffusion_asr.transcript import Word
from diffusion_asr_transformers.configuration import find_recognizer
from diffusion_asr_transformers.hub import find_home

PAD = "<null>"
VOCABULARY, MERGES = "vocabulary.json", "bpe.json"


class DiffusionASRTokenizer(PreTrainedTokenizer):  # type: ignore[misc]
    """Ids to text and back.

    The null token (id 0) is the padding, and stands for no text.

    Example:
        >>> tokenizer = DiffusionASRTokenizer.from_pretrained("canvas-base")
        >>> tokenizer.decode(tokenizer("Guten Morgen.").input_ids)
        'Guten Morgen.'
    """

    vocab_files_names = {"vocab_file": VOCABULARY, "merges_file": MERGES}  # noqa: RUF012 - read by transformers
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(
        self,
        vocab_file: str,
        merges_file: str | None = None,
        language: str | None = None,
        pad_token: str | AddedToken = PAD,
        **kwargs: Any,
    ) -> None:
        """Read the files.

        Args:
            vocab_file: Core's ``vocabulary.json``.
            merges_file: Whisper's ``bpe.json`` beside it; needed to encode.
            language: Of texts to encode, by code, name or tag; None tells by their letters.
            pad_token: Spelling of the null token.
            kwargs: Of ``PreTrainedTokenizer``.

        Raises:
            ModelError: No readable vocabulary.
            LanguageError: An unknown language.
        """
        if vocab_file is None:
            raise ModelError(f"there is no {VOCABULARY} to make a tokenizer of: name a saved model's folder")
        self.vocabulary = Vocabulary.load(Path(vocab_file))
        self._files = [Path(vocab_file)] + ([Path(merges_file)] if merges_file else [])
        self.language = find_language(language)
        self._tokens = _name_tokens(self.vocabulary, str(pad_token))
        self._ids = {token: index for index, token in enumerate(self._tokens)}
        self._added_tokens_decoder = {NULL: AddedToken(str(pad_token), special=True, normalized=False)}
        super().__init__(pad_token=pad_token, language=self.language, **kwargs)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str] = "canvas-base", *args: Any, **kwargs: Any
    ) -> DiffusionASRTokenizer:
        """Of an embedded model by name, a saved model's folder, a folder of core's format or its own.

        Raises:
            ModelError: There is none.
        """
        home = find_home(name, kwargs)
        own = (Path(home) / VOCABULARY).is_file()
        folder = Path(home) if own else find_recognizer(home)
        return super().from_pretrained(folder, *args, **kwargs)  # type: ignore[no-any-return]

    @property
    def vocab_size(self) -> int:
        """Pieces, the null token among them."""
        return len(self.vocabulary)

    def get_vocab(self) -> dict[str, int]:
        """Pieces to ids."""
        return dict(self._ids)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Copy the vocabulary's files; returns their paths."""
        copies = []
        for file, name in zip(self._files, (VOCABULARY, MERGES), strict=False):
            copy = Path(save_directory) / (f"{filename_prefix}-{name}" if filename_prefix else name)
            if not copy.exists() or not copy.samefile(file):
                shutil.copyfile(file, copy)
            copies.append(str(copy))
        return tuple(copies)

    def _tokenize(self, text: str, **_: Any) -> list[str]:
        parts = [(self.language, text)] if self.language else _split_scripts(text)
        ids = (index for language, part in parts for index in self.vocabulary.encode(part, language))
        return [self._tokens[index] for index in ids]

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self._tokens[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Text of tokens, spaced as transcripts are."""
        return self.spell([self._ids[token] for token in tokens])

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        group_tokens: bool = False,
        **_: Any,
    ) -> str:
        """Text of ids; nulls spell nothing, be they skipped or not.

        ``group_tokens`` takes the ids for a canvas, such as the argmax of ``forward``'s logits: runs of the
        same token are one, as in transformers' CTC tokenizers.
        """
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return self.spell(read_tokens(torch.tensor(ids)) if group_tokens else ids)

    def spell(self, ids: Iterable[int]) -> str:
        """The text of token ids, put together as the recogniser puts words together."""
        pieces = [self.vocabulary.bytes_of(index) for index in ids if index != NULL]
        words = group_words([Token(data, 0, 0, 1.0) for data in pieces])
        texts = [b"".join(t.data for t in word).decode("utf8", errors="ignore").strip() for word in words]
        return join_words(tuple(Word(text, 0.0, 0.0) for text in texts if text))


def _name_tokens(vocabulary: Vocabulary, pad_token: str) -> list[str]:
    """A spelling for each id that is no other's: some marks are Whisper's and Hindi's."""
    names = [pad_token, *vocabulary.pieces[1:]]
    taken = set(names[: vocabulary.hindi_start])
    for index in range(vocabulary.hindi_start, len(names)):
        if names[index] in taken:
            names[index] = f"<hi>{names[index]}"
    return names


def _split_scripts(text: str) -> list[tuple[str, str]]:
    """Stretches of words with a language that can spell them: Hindi and Mandarin have pieces of their own."""
    groups = itertools.groupby(text.split(), key=_guess_language)
    return [(language, " ".join(words)) for language, words in groups]


def _guess_language(word: str) -> str:
    if any("\u0900" <= letter <= "\u097f" for letter in word):
        return "hi"
    return "zh" if any(is_han(letter) for letter in word) else LANGUAGES[0]
