"""The canvas vocabulary behind the methods of a Whisper tokenizer that SpeechBrain's recipes call."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from diffusion_asr.text.normalise import normalise_basic
from diffusion_asr.text.vocabulary import NULL, Vocabulary


class CanvasTokenizer:
    """Text to pieces and back.

    Attributes:
        pad_token_id: The null token, which no text holds.
        bos_index: Begin of sequence, beyond the vocabulary: recipes put it there and the loss takes it away.
        eos_index: End of sequence, likewise.
    """

    def __init__(self, vocabulary: Vocabulary, language: str) -> None:
        self.vocabulary, self.language = vocabulary, language
        self.pad_token_id = NULL
        self.bos_index, self.eos_index = len(vocabulary), len(vocabulary) + 1

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of a text in the tokenizer's language."""
        ids = self.vocabulary.encode(text, self.language)
        return self.build_inputs_with_special_tokens(ids) if add_special_tokens else ids

    def build_inputs_with_special_tokens(self, ids: Sequence[int]) -> list[int]:
        """Between begin and end of sequence."""
        return [self.bos_index, *ids, self.eos_index]

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = True) -> str:
        """Text; null, begin and end of sequence vanish."""
        return self.vocabulary.decode(i for i in map(int, ids) if i < self.bos_index)

    def batch_decode(self, batch: Iterable[Iterable[int]], skip_special_tokens: bool = True) -> list[str]:
        """``decode`` for each."""
        return [self.decode(ids) for ids in batch]

    def encode_as_ids(self, text: str) -> list[int]:
        """``encode``, by the name of sentencepiece, whose tokenizers ``EncoderDecoderASR`` has."""
        return self.encode(text)

    def decode_ids(self, ids: Iterable[int]) -> str:
        """``decode``, likewise."""
        return self.decode(ids)

    def get_piece_size(self) -> int:
        """Number of pieces, the null token included."""
        return len(self.vocabulary)

    def __len__(self) -> int:
        return len(self.vocabulary)

    def normalize(self, text: str) -> str:
        """Whisper's basic normaliser, as all of this project's error rates use it."""
        return normalise_basic(text, self.language)
