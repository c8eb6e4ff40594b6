"""``DiffusionASR``: SpeechBrain's inference interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from speechbrain.inference.interfaces import Pretrained
from torch import Tensor

from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_speechbrain.toolkit import RecognitionError


class DiffusionASR(Pretrained):  # type: ignore[misc]
    """Ready-to-use recogniser with the methods of ``EncoderDecoderASR``.

    Example:
        >>> asr = DiffusionASR.from_hparams(source=CANVAS_BASE)
        >>> asr.transcribe_file("talk.wav", language="de")
    """

    MODULES_NEEDED = ["model"]  # noqa: RUF012 - SpeechBrain's own form

    def transcribe_file(
        self, path: str | os.PathLike[str], language: str | None = None, **changes: Any
    ) -> str:
        """Text of a recording of any length, rate and channel number.

        Args:
            path: Of the recording.
            language: A code; "auto" detects it for each window; None is the model's.
            changes: Fields of ``DecodingOptions`` by name, on top of the model's: ``steps=4``.

        Raises:
            RecognitionError: Unreadable audio, an unknown language, an option that makes no sense.
        """
        model = self.mods.model
        options = model.options(**changes)
        with translate_errors(RecognitionError):
            found = model.recognizer.transcribe(path, language or model.language, options)
        return str(found.text)

    def encode_batch(self, wavs: Tensor, wav_lens: Tensor) -> Tensor:
        """States (B, T, D), 50 a second, zero behind a clip's end.

        Args:
            wavs: (B, samples) float32 at 16 kHz, at most 30 s.
            wav_lens: (B,) relative to the longest.

        Raises:
            RecognitionError: Longer than 30 s, not finite, or of a wrong shape.
        """
        states: Tensor = self.mods.model.encode(wavs, wav_lens)
        return states

    def transcribe_batch(
        self,
        wavs: Tensor,
        wav_lens: Tensor,
        language: Sequence[str | None] | str | None = None,
        **changes: Any,
    ) -> tuple[list[str], list[list[int]]]:
        """Texts and token ids.

        Args:
            wavs: See ``encode_batch``.
            wav_lens: See ``encode_batch``.
            language: One code for all clips or one for each; "auto" detects it; None is the model's.
            changes: As for ``transcribe_file``.

        Raises:
            RecognitionError: See ``encode_batch`` and ``transcribe_file``.
        """
        model = self.mods.model
        heard = model.decode(model.listen(wavs, wav_lens), language, **changes)
        return [h.text for h in heard], [read_tokens(h.decoded.canvas) for h in heard]

    def forward(self, wavs: Tensor, wav_lens: Tensor) -> tuple[list[str], list[list[int]]]:
        """``transcribe_batch``."""
        with torch.no_grad():
            return self.transcribe_batch(wavs, wav_lens)
