"""What a recipe's YAML needs beside the model: its loss and its searcher; and an encoder for ``mods``."""

from __future__ import annotations

from typing import Any

import torch
from speechbrain.decoders.seq2seq import S2SBaseSearcher
from torch import Tensor, nn

from diffusion_asr.decoding.objective import compute_ctc
from diffusion_asr_speechbrain.batches import in_core_precision
from diffusion_asr_speechbrain.module import DiffusionModule


class DiffusionLoss:
    """The recipe's ``nll_loss``: CTC over the two denoising steps that the model has just taken."""

    def __init__(self, model: DiffusionModule) -> None:
        self.model = model

    @in_core_precision
    def __call__(self, log_probs: Tensor, targets: Tensor, length: Tensor) -> Tensor:
        """Sum of both steps' losses per token.

        Args:
            log_probs: (B, 2 L, V) of ``DiffusionModule.forward``.
            targets: (B, U) ids, an end of sequence behind each text.
            length: (B,) relative lengths of ``targets``, that included.
        """
        counts = (length * targets.shape[1]).round().long() - 1
        texts = [row[:n] for row, n in zip(targets.cpu(), counts.tolist(), strict=True)]
        first, second = log_probs.cpu().float().chunk(2, dim=1)
        loss = compute_ctc(first, self.model.slots, texts) + compute_ctc(second, self.model.slots, texts)
        return loss.to(log_probs.device)


class DiffusionEncoder(nn.Module):
    """The model's ``encode`` as a module of its own, as ``EncoderDecoderASR.mods.encoder``."""

    def __init__(self, model: DiffusionModule) -> None:
        super().__init__()
        self.model = [model]  # in a list, so that its weights are not this module's too

    def forward(self, wavs: Tensor, wav_lens: Tensor | None = None) -> Tensor:
        """See ``DiffusionModule.encode``."""
        return self.model[0].encode(wavs, wav_lens)


class DiffusionSearcher(S2SBaseSearcher):  # type: ignore[misc]
    """Core's words behind the signature of SpeechBrain's sequence-to-sequence searchers.

    Args:
        model: Decodes.
        changes: Fields of ``DecodingOptions`` by name, on top of the model's; or ``detect_speech``.

    Raises:
        RecognitionError: An option that makes no sense.
    """

    def __init__(self, model: DiffusionModule, **changes: Any) -> None:
        super().__init__(model.tokenizer.bos_index, model.tokenizer.eos_index, 0.0, 1.0)
        self.model = [model]  # in a list, so that its weights are not this module's too
        model.options(**{k: v for k, v in changes.items() if k != "detect_speech"})  # an error now, not later
        self.changes = changes

    def forward(
        self, enc_states: Tensor, wav_len: Tensor | None = None
    ) -> tuple[list[list[int]], list[int], Tensor, None]:
        """``(hyps, top_lengths, top_scores, top_log_probs)``; see ``DiffusionModule.search``.

        Args:
            enc_states: (B, T, D) of ``DiffusionModule.encode`` or ``forward``.
            wav_len: Not needed.

        Returns:
            Token ids of each clip, their numbers, the clips' confidence (B,), and None.
        """
        heard = self.model[0].search(enc_states, **self.changes)
        scores = torch.tensor([h.confidence for h in heard], device=enc_states.device)
        return [h.tokens for h in heard], [len(h.tokens) for h in heard], scores, None
