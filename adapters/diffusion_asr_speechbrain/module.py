"""Model, loss and searcher for YAML files of SpeechBrain's Whisper recipes.

The recipes call ``whisper(wavs, bos_tokens)``, then ``nll_loss(log_probs, tokens_eos, length)``, and for
validation and test ``search(enc_states, wav_lens)``. The three share one recogniser by ``!ref``.
"""

from __future__ import annotations

from typing import Any

import torch
from speechbrain.decoders.seq2seq import S2SBaseSearcher
from torch import Tensor, nn

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import collapse
from diffusion_asr.decoding.decoder import Hypothesis
from diffusion_asr.decoding.objective import ctc, unrolled
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_speechbrain.tokenizer import CanvasTokenizer
from diffusion_asr_speechbrain.toolkit import speechbrain_errors


class DiffusionModule(nn.Module):
    """A recogniser as a recipe's ``whisper``; its parameters are the denoiser's, the encoder stays frozen.

    Args:
        checkpoint: Name of an embedded model, or a model folder.
        language: A code; None detects it for each clip (texts are then encoded as English).
        steps: Denoising steps; None stops when a text has settled.
        trainable: Make the denoiser float32 with gradients; else it computes as in core.

    Raises:
        RecognitionError: No such model, a corrupt one, or an unknown language.
    """

    def __init__(
        self,
        checkpoint: str = "canvas-base",
        language: str | None = None,
        steps: int | None = None,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        with speechbrain_errors():
            recognizer = Recognizer.from_pretrained(checkpoint)
            recognizer.check_language(language)
        self.recognizer, self.language, self.steps = recognizer, language, steps
        self.denoiser = recognizer.parts.denoiser
        if trainable:
            self.denoiser.float().requires_grad_(True)
        self.tokenizer = CanvasTokenizer(recognizer.parts.vocabulary, language or "en")
        self.slots = torch.zeros(0, dtype=torch.long)

    def encode(self, wavs: Tensor, wav_lens: Tensor | None = None) -> Tensor:
        """States (B, T, D) of (B, samples) at 16 kHz, zero behind a clip's end.

        ``wav_lens`` (B,) are relative to the longest. Without them a clip ends at its last sample that is
        not zero, because recipes do not pass lengths.

        Raises:
            RecognitionError: Longer than 30 s, not finite, or of a wrong shape.
        """
        with speechbrain_errors():
            return self.recognizer.encode(wavs.float(), _samples(wavs, wav_lens)).states.clone()

    def forward(self, wavs: Tensor, bos_tokens: Tensor) -> tuple[Tensor, Tensor, None]:
        """Encoder states, and log-probabilities (B, 2 L, V) of two denoising steps, one after the other.

        The canvases are random, as in training; ``bos_tokens`` are not looked at.
        """
        states = self.encode(wavs)
        memory = memory_of(states)
        first, second, self.slots = unrolled(self.denoiser, memory, self._languages(memory))
        return states, torch.cat([first, second], dim=1), None

    def decode(
        self, memory: AcousticMemory, steps: int | None = None, language: Any = None
    ) -> list[Hypothesis]:
        """Core's denoising, with this module's language and steps unless others are given."""
        with speechbrain_errors(), torch.no_grad():
            return self.recognizer.denoise(memory, language or self.language, steps or self.steps)

    def _languages(self, memory: AcousticMemory) -> list[str]:
        if self.language is not None:
            return [self.language] * len(memory)
        heard = self.recognizer.detect_language(memory)
        return [max(chances, key=lambda code: chances[code]) for chances in heard]


class DiffusionLoss:
    """The recipe's ``nll_loss``: CTC over the canvases that the model has just denoised."""

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
        return ctc(first, self.model.slots, texts) + ctc(second, self.model.slots, texts)


class DiffusionSearcher(S2SBaseSearcher):  # type: ignore[misc]
    """Denoising behind the signature of SpeechBrain's sequence-to-sequence searchers."""

    def __init__(self, model: DiffusionModule, steps: int | None = None) -> None:
        super().__init__(model.tokenizer.bos_index, model.tokenizer.eos_index, 0.0, 1.0)
        self.model = [model]  # in a list, so that its weights are not this module's too
        self.steps = steps

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
        heard = self.model[0].decode(memory_of(enc_states), self.steps)
        hyps = [tokens_of(hypothesis) for hypothesis in heard]
        return hyps, [len(ids) for ids in hyps], torch.tensor([h.confidence for h in heard]), None


def memory_of(states: Tensor) -> AcousticMemory:
    """States (B, T, D), zero behind a clip's end, as core's memory."""
    return AcousticMemory(states, states.abs().sum(-1) > 0, 50.0)


def tokens_of(hypothesis: Hypothesis) -> list[int]:
    """The ids that spell it."""
    return [token for token, _, _ in collapse(hypothesis.denoised.canvas)]


def _samples(wavs: Tensor, wav_lens: Tensor | None) -> Tensor | None:
    if wavs.ndim != 2 or wavs.numel() == 0:
        return None  # core says what is wrong
    if wav_lens is not None:
        return (wav_lens * wavs.shape[1]).round().long().clamp(1, wavs.shape[1])
    sounding = (wavs != 0) * torch.arange(1, wavs.shape[1] + 1)
    return sounding.amax(1).clamp(min=1)
