"""A decoder of letters: one parallel pass, then a search with a language model of letters.

For languages that Whisper's decoder cannot spell, where repairs by it make a draft worse. The canvas of
letters is aligned with the text that the search found, so that words have times; it is then spelled in the
model's own pieces, as every other canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.canvas import collapse_canvas
from diffusion_asr.decoding.decoder import ClipDecoder, Decoded, DecodingOptions, TraceStep
from diffusion_asr.decoding.letters.model import PAIR, LetterCanvas
from diffusion_asr.decoding.letters.ngram import LetterModel
from diffusion_asr.decoding.letters.search import SearchRule, search_text
from diffusion_asr.text.vocabulary import Vocabulary

SPACE = " "


@dataclass(frozen=True, slots=True)
class Placed:
    """A letter of a text, the first and last slot that hold it, and its probability there."""

    text: str
    first: int
    last: int
    chance: float


class LetterDecoder(ClipDecoder):
    """See the module's text; a ``Decoder``.

    Neither the first canvas nor the number of steps changes what it writes. It hears
    ``AcousticMemory.lower``.
    """

    def __init__(
        self,
        canvas: LetterCanvas,
        alphabet: Sequence[str],
        model: LetterModel,
        vocabulary: Vocabulary,
        rule: SearchRule,
    ) -> None:
        """``alphabet`` are the canvas's letters, null first."""
        self.canvas, self.alphabet, self.model = canvas, tuple(alphabet), model
        self.vocabulary, self.rule = vocabulary, rule
        self.space = self.alphabet.index(SPACE)

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        return self.canvas.config.languages

    @torch.inference_mode()
    def decode_clip(
        self, memory: AcousticMemory, language: str, options: DecodingOptions, clip: int
    ) -> Decoded:
        """See ``ClipDecoder.decode_clip``."""
        if memory.lower is None:
            raise ValueError("the letter canvas hears an encoder's lower states: set its EncoderConfig.tap")
        rows = self.canvas(memory.lower, self.canvas.rows_of([language]))
        found = search_text(rows[0].cpu().numpy(), self.model.chances, self.space, self.rule)
        letters = self._align(rows, found)
        pieces = self.vocabulary.encode("".join(letter.text for letter in letters), language)
        canvas, confidence = place_pieces(self.vocabulary, pieces, letters, rows.shape[1])
        slot = PAIR / memory.frame_rate
        times = (torch.arange(len(canvas)) + 0.5) * slot
        trace: tuple[TraceStep, ...] = ()
        if options.trace:
            before = torch.zeros_like(canvas)
            trace = (TraceStep("parallel", 1, before, canvas, confidence, torch.ones_like(canvas).bool()),)
        return Decoded(canvas, confidence, times, slot, parallel_passes=1, lead=0.0, trace=trace)

    def _align(self, rows: Tensor, found: Sequence[int]) -> list[Placed]:
        """The letters of a text in the slots that most probably say them; no space at either end."""
        while found and found[-1] == self.space:
            found = found[:-1]
        while found and found[0] == self.space:
            found = found[1:]
        if not found:
            return []
        slots, count = torch.tensor([rows.shape[1]]), torch.tensor([len(found)])
        canvas = align_canvas(rows, slots, torch.tensor([list(found)]), count)[0]
        chances = rows[0].exp()
        return [
            Placed(self.alphabet[number], first, last, float(chances[first : last + 1, number].max()))
            for number, first, last in collapse_canvas(canvas)
        ]


def place_pieces(
    vocabulary: Vocabulary, pieces: Sequence[int], letters: Sequence[Placed], slots: int
) -> tuple[Tensor, Tensor]:
    """A canvas (slots,) of pieces and its probabilities: each stands where its letters do.

    The space before a word is silence: a piece begins with the first of its other letters, if it has any.
    """
    canvas, confidence = torch.zeros(slots, dtype=torch.long), torch.ones(slots)
    at, end = 0, -1
    for piece in pieces:
        spelling = vocabulary.bytes_of(piece).decode("utf8")
        heard: list[Placed] = []
        for letter in spelling[at == 0 and spelling.startswith(SPACE) :]:
            while at < len(letters) and letters[at].text != letter:  # no piece spells this one
                at += 1
            heard += letters[at : at + 1]
            at += 1
        heard = [letter for letter in heard if letter.text != SPACE] or heard
        if not heard:
            continue
        first, last = heard[0].first, heard[-1].last
        if end == first - 1 and end >= 0 and canvas[end] == piece:  # or the two would be one
            canvas[end] = 0
        canvas[first : last + 1] = piece
        confidence[first : last + 1] = sum(letter.chance for letter in heard) / len(heard)
        end = last
    return canvas, confidence
