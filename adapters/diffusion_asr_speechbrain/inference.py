"""``DiffusionASR``: SpeechBrain's inference interface."""

from __future__ import annotations

import os
from typing import Any

import torch
from speechbrain.inference.interfaces import Pretrained
from torch import Tensor

from diffusion_asr_speechbrain.module import memory_of, tokens_of
from diffusion_asr_speechbrain.toolkit import speechbrain_errors


class DiffusionASR(Pretrained):  # type: ignore[misc]
    """Ready-to-use recogniser with the methods of ``EncoderDecoderASR``.

    Example:
        >>> asr = DiffusionASR.from_hparams(source=CANVAS_BASE)
        >>> asr.transcribe_file("talk.wav", language="de")
    """

    MODULES_NEEDED = ["model"]  # noqa: RUF012 - SpeechBrain's own form

    def transcribe_file(
        self, path: str | os.PathLike[str], language: str | None = None, steps: int | None = None
    ) -> str:
        """Text of a recording of any length, rate and channel number.

        Raises:
            RecognitionError: Unreadable audio, an unknown language.
        """
        model = self.mods.model
        with speechbrain_errors():
            found = model.recognizer.transcribe(path, language or model.language, steps or model.steps)
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
        self, wavs: Tensor, wav_lens: Tensor, language: Any = None, steps: int | None = None
    ) -> tuple[list[str], list[list[int]]]:
        """Texts and token ids; arguments as for ``encode_batch``, ``language`` one code or one for each."""
        heard = self.mods.model.decode(memory_of(self.encode_batch(wavs, wav_lens)), steps, language)
        return [h.text for h in heard], [tokens_of(h) for h in heard]

    def forward(self, wavs: Tensor, wav_lens: Tensor) -> tuple[list[str], list[list[int]]]:
        """``transcribe_batch``."""
        with torch.no_grad():
            return self.transcribe_batch(wavs, wav_lens)
