"""The canvas vocabulary as a tokenizer of NeMo's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nemo.collections.common.tokenizers.tokenizer_spec import TokenizerSpec

from diffusion_asr.text.vocabulary import NULL, Vocabulary


class CanvasTokenizer(TokenizerSpec):  # type: ignore[misc]
    """Text to pieces and back; ``lang_id`` chooses the language, as in NeMo's aggregate tokenizers.

    Attributes:
        vocab: The pieces by their ids, as they are spelt.
        pad_id: The null token, which no text holds. There are no ``bos_id`` and ``eos_id``.
    """

    pad_id = NULL
    pad_token = "<null>"  # noqa: S105 - a piece, no password

    def __init__(self, vocabulary: Vocabulary, language: str | None) -> None:
        """``language`` is that of texts for which no ``lang_id`` is given; None is English."""
        self.vocabulary, self.language = vocabulary, language or "en"
        self.vocab = [self._spelt(number) for number in range(len(vocabulary))]
        self._ids: dict[str, int] = {}
        for number, piece in enumerate(self.vocab):
            self._ids.setdefault(piece, number)

    def _spelt(self, number: int) -> str:
        return (
            self.pad_token if number == NULL else self.vocabulary.bytes_of(number).decode("utf8", "replace")
        )

    @property
    def vocab_size(self) -> int:
        """Number of pieces, the null token included."""
        return len(self.vocab)

    def text_to_ids(self, text: str, lang_id: str | None = None) -> list[int]:
        """Ids of a text as it is written."""
        return self.vocabulary.encode(text, lang_id or self.language)

    def ids_to_text(self, ids: Iterable[Any], lang: str | None = None) -> str:
        """Text; null tokens vanish."""
        return self.vocabulary.decode(int(i) for i in ids)

    def text_to_tokens(self, text: str, lang_id: str | None = None) -> list[str]:
        """The pieces of a text."""
        return self.ids_to_tokens(self.text_to_ids(text, lang_id))

    def tokens_to_text(self, tokens: Sequence[str], lang_id: str | None = None) -> str:
        """The text of some pieces."""
        return self.ids_to_text(self.tokens_to_ids(tokens))

    def tokens_to_ids(self, tokens: str | Sequence[str], lang_id: str | None = None) -> list[int]:
        """Ids of pieces.

        Raises:
            KeyError: Something that is no piece.
        """
        return [self._ids[token] for token in ([tokens] if isinstance(tokens, str) else tokens)]

    def token_to_id(self, token: str, lang_id: str | None = None) -> int:
        """The id of a piece."""
        return self._ids[token]

    def ids_to_tokens(self, ids: Iterable[Any]) -> list[str]:
        """Pieces as they are spelt, leading space included; a part of a letter is a replacement character."""
        return [self.vocab[int(i)] for i in ids]
