"""``generate``: recordings to token ids, by the same way that ``Recognizer.transcribe`` takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.utils import ModelOutput

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import NULL, read_tokens
from diffusion_asr.decoding.decoder import Decoded, Decoder
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.languages import is_spaced
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.text.vocabulary import Vocabulary
from diffusion_asr.toolkits import translate_errors
from diffusion_asr.transcript import Transcript
from diffusion_asr_transformers.arguments import PipelineInputError


@dataclass
class DiffusionASRGenerateOutput(ModelOutput):  # type: ignore[misc]
    """What ``generate(..., return_dict_in_generate=True)`` returns.

    Attributes:
        sequences: (B, tokens) ids, padded with null.
        transcripts: One for each clip: text, segments, and words with times in seconds and confidence.
    """

    sequences: Tensor | None = None
    transcripts: list[Transcript] | None = None


def generate_tokens(
    recognizer: Recognizer,
    clips: Iterable[np.ndarray],
    languages: Sequence[str | None],
    options: DecodingOptions,
) -> DiffusionASRGenerateOutput:
    """Transcribe clips of any length.

    Args:
        recognizer: What writes.
        clips: (samples,) float32 at 16 kHz each.
        languages: One for each clip; None detects it.
        options: How to decode.

    Raises:
        PipelineInputError: A clip that cannot be sound, or a language that the model does not write.
    """
    rows, transcripts = [], []
    for clip, language in zip(clips, languages, strict=True):
        record = _Record(recognizer.parts.decoder)
        recorded = Recognizer(replace(recognizer.parts, decoder=record), detector=recognizer.detector)
        with translate_errors(PipelineInputError):
            transcripts.append(recorded.transcribe(clip, language, options))
        rows.append(torch.tensor(record.tokens(recognizer.parts.vocabulary), dtype=torch.long))
    sequences = pad_sequence(rows, batch_first=True, padding_value=NULL)
    return DiffusionASRGenerateOutput(sequences=sequences, transcripts=transcripts)


class _Record:
    """A decoder that keeps what it wrote for each window of one recording."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._windows: list[tuple[str, list[int]]] = []

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        return self._decoder.languages

    def decode(
        self, memory: AcousticMemory, languages: Sequence[str], options: DecodingOptions
    ) -> list[Decoded]:
        """See ``Decoder.decode``."""
        decoded = self._decoder.decode(memory, languages, options)
        tokens = (read_tokens(clip.canvas) for clip in decoded)
        self._windows += zip(languages, tokens, strict=True)
        return decoded

    def tokens(self, vocabulary: Vocabulary) -> list[int]:
        """Ids of the whole recording; a window's first word never joins the word before it."""
        ids: list[int] = []
        for language, window in self._windows:
            joined = ids and window and is_spaced(language)
            if joined and not vocabulary.bytes_of(window[0]).startswith(b" "):
                ids += _spell_space(vocabulary)
            ids += window
        return ids


def _spell_space(vocabulary: Vocabulary) -> list[int]:
    """The token that is a space and nothing else, if there is one."""
    return next(([n] for n in range(len(vocabulary)) if vocabulary.bytes_of(n) == b" "), [])
