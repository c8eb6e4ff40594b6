"""Model, loss and searcher for YAML files of SpeechBrain's Whisper recipes.

The recipes call ``whisper(wavs, bos_tokens)``, then ``nll_loss(log_probs, tokens_eos, length)``, and for
validation and test ``search(enc_states, wav_lens)``. The three share one recogniser by ``!ref``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from speechbrain.decoders.seq2seq import S2SBaseSearcher
from torch import Tensor, nn

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.decoder import AUTO, DecodingOptions, Hypothesis
from diffusion_asr.decoding.objective import compute_ctc, unroll_steps
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.models.tuned import make_trainable as trainable_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_speechbrain.tokenizer import CanvasTokenizer
from diffusion_asr_speechbrain.toolkit import RecognitionError


class DiffusionModule(nn.Module):
    """A recogniser as a recipe's ``whisper``; its parameters are the denoiser's, the encoder stays frozen.

    Args:
        checkpoint: Name of an embedded model, or a model folder.
        language: A code; None detects it for each clip (texts are then encoded as English).
        trainable: Make the denoiser float32 with gradients; else it computes as in core.
        decoding: Fields of ``DecodingOptions`` by name: ``steps=4``.

    Raises:
        RecognitionError: No such model, a corrupt one, one without a denoiser to train; an unknown language;
            an option that makes no sense.
    """

    def __init__(
        self,
        checkpoint: str = "canvas-base",
        language: str | None = None,
        trainable: bool = False,
        **decoding: Any,
    ) -> None:
        super().__init__()
        with translate_errors(RecognitionError, TypeError, ValueError):
            self.decoding = DecodingOptions().changed(**decoding)
        with translate_errors(RecognitionError):
            recognizer = Recognizer.from_pretrained(checkpoint)
            recognizer.check_language(language)
            parts = recognizer.parts
            self.denoiser = trainable_denoiser(parts) if trainable else parts.denoiser
        self.recognizer, self.language = recognizer, language
        spelled = "en" if language in (None, AUTO) else str(language)
        self.tokenizer = CanvasTokenizer(parts.vocabulary, spelled)
        self.slots = torch.zeros(0, dtype=torch.long)

    def options(self, **changes: Any) -> DecodingOptions:
        """This module's options but for ``changes``, by name.

        Raises:
            RecognitionError: An option that does not exist, or a value that makes no sense.
        """
        with translate_errors(RecognitionError, TypeError, ValueError):
            return self.decoding.changed(**changes)

    def listen(self, wavs: Tensor, wav_lens: Tensor | None = None) -> AcousticMemory:
        """As core hears (B, samples) at 16 kHz, in tensors that a gradient may pass by.

        ``wav_lens`` (B,) are relative to the longest. Without them a clip ends at its last sample that is
        not zero, because recipes do not pass lengths.

        Raises:
            RecognitionError: Longer than 30 s, not finite, or of a wrong shape.
        """
        with translate_errors(RecognitionError):
            heard = self.recognizer.encode(wavs.float(), _samples(wavs, wav_lens))
        return replace(heard, states=heard.states.clone(), mask=heard.mask.clone())

    def encode(self, wavs: Tensor, wav_lens: Tensor | None = None) -> Tensor:
        """The states of ``listen`` (B, T, D), zero behind a clip's end.

        Raises:
            RecognitionError: See ``listen``.
        """
        return self.listen(wavs, wav_lens).states

    def forward(self, wavs: Tensor, bos_tokens: Tensor) -> tuple[Tensor, Tensor, None]:
        """Encoder states, and log-probabilities (B, 2 L, V) of two denoising steps, one after the other.

        The canvases are random, as in training; ``bos_tokens`` are not looked at.

        Raises:
            RecognitionError: See ``listen``; or a model without a canvas denoiser.
        """
        memory = self.listen(wavs)
        languages = self.recognizer.choose_languages(memory, self.language)
        with translate_errors(RecognitionError):
            denoiser = find_denoiser(self.recognizer.parts)
        first, second, self.slots = unroll_steps(denoiser, memory, languages)
        return memory.states, torch.cat([first, second], dim=1), None

    def decode(
        self,
        memory: AcousticMemory,
        language: Sequence[str | None] | str | None = None,
        **changes: Any,
    ) -> list[Hypothesis]:
        """Core's decoding, with this module's language and options unless others are given.

        Raises:
            RecognitionError: An unknown language, an option that makes no sense.
        """
        options = self.options(**changes)
        with translate_errors(RecognitionError), torch.no_grad():
            return self.recognizer.decode(memory, language or self.language, options)


class DiffusionLoss:
    """The recipe's ``nll_loss``: CTC over the two denoising steps that the model has just taken."""

    def __init__(self, model: DiffusionModule) -> None:
        self.model = model

    def __call__(self, log_probs: Tensor, targets: Tensor, length: Tensor) -> Tensor:
        """Sum of both steps' losses per token.

        Args:
            log_probs: (B, 2 L, V) of ``DiffusionModule.forward``.
            targets: (B, U) ids, an end of sequence behind each text.
            length: (B,) relative lengths of ``targets``, that included.
        """
        counts = (length * targets.shape[1]).round().long() - 1
        texts = [row[:n] for row, n in zip(targets, counts.tolist(), strict=True)]
        first, second = log_probs.chunk(2, dim=1)
        return compute_ctc(first, self.model.slots, texts) + compute_ctc(second, self.model.slots, texts)


class DiffusionSearcher(S2SBaseSearcher):  # type: ignore[misc]
    """Core's decoding behind the signature of SpeechBrain's sequence-to-sequence searchers.

    Args:
        model: Decodes.
        changes: Fields of ``DecodingOptions`` by name, on top of the model's.

    Raises:
        RecognitionError: An option that makes no sense.
    """

    def __init__(self, model: DiffusionModule, **changes: Any) -> None:
        super().__init__(model.tokenizer.bos_index, model.tokenizer.eos_index, 0.0, 1.0)
        self.model = [model]  # in a list, so that its weights are not this module's too
        model.options(**changes)  # an error now, not after the first epoch
        self.changes = changes

    def forward(
        self, enc_states: Tensor, wav_len: Tensor | None = None
    ) -> tuple[list[list[int]], list[int], Tensor, None]:
        """``(hyps, top_lengths, top_scores, top_log_probs)``.

        Args:
            enc_states: (B, T, D) of ``DiffusionModule.encode``; a clip ends where its states become zero.
            wav_len: Not needed.

        Returns:
            Token ids of each clip, their numbers, the clips' confidence (B,), and None.
        """
        heard = self.model[0].decode(memory_of(enc_states), **self.changes)
        hyps = [read_tokens(hypothesis.decoded.canvas) for hypothesis in heard]
        return hyps, [len(ids) for ids in hyps], torch.tensor([h.confidence for h in heard]), None


def memory_of(states: Tensor) -> AcousticMemory:
    """States (B, T, D), zero behind a clip's end, as core's memory."""
    return AcousticMemory(states, states.abs().sum(-1) > 0, 50.0)


def _samples(wavs: Tensor, wav_lens: Tensor | None) -> Tensor | None:
    if wavs.ndim != 2 or wavs.numel() == 0:
        return None  # core says what is wrong
    if wav_lens is not None:
        return (wav_lens * wavs.shape[1]).round().long().clamp(1, wavs.shape[1])
    sounding = (wavs != 0) * torch.arange(1, wavs.shape[1] + 1)
    return sounding.amax(1).clamp(min=1)
