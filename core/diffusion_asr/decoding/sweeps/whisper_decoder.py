"""Whisper's decoder as the reader of a canvas: after each prefix, the token that should follow.

A canvas here is a sequence of tokens that may hold wrong, missing and superfluous ones. One pass reads all of
it. The layers keep the causal mask that Whisper's weights were trained with, so a place is judged after what
stands before it; training on corrupted canvases (``recipes.embedded.refining``) taught it to find its way
back after a wrong token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.layers import PROMPT, DecoderLayer
from diffusion_asr.languages import LANGUAGES

END = 0  # the null token ends a token canvas
MAX_TOKENS = 440


@dataclass(frozen=True, slots=True)
class WhisperDecoderConfig:
    """Sizes; the defaults are Whisper base's decoder."""

    vocabulary: int
    d_model: int = 512
    layers: int = 6
    heads: int = 8
    languages: tuple[str, ...] = LANGUAGES


class WhisperDecoderState(NamedTuple):
    """What stays the same over all steps of a batch."""

    keys: tuple[Tensor, ...]  # per layer (B, H, T, D / H)
    values: tuple[Tensor, ...]
    mask: Tensor | None  # (B, 1, 1, T), None where nothing is padded
    prompt: Tensor  # (B, P, D)


class WhisperDecoder(nn.Module):
    """See the module's text. The embedding of ``END`` is the end of text."""

    def __init__(self, config: WhisperDecoderConfig) -> None:
        super().__init__()
        d, self.config = config.d_model, config
        self.embed_tokens = nn.Embedding(config.vocabulary, d)
        self.embed_positions = nn.Embedding(MAX_TOKENS + PROMPT, d)
        self.embed_prompt = nn.Embedding(PROMPT - 1 + len(config.languages), d)
        self.layers = nn.ModuleList(DecoderLayer(d, config.heads) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(d)

    def prepare(self, memory: AcousticMemory, languages: Sequence[str]) -> WhisperDecoderState:
        """Once per batch; ``languages`` holds one code for each clip."""
        states = memory.states.to(self.layer_norm.weight.dtype)
        pairs = [layer.encoder_attn.project(states) for layer in self.layers]  # type: ignore[union-attr, operator]
        prompt = [[0, PROMPT - 1 + self.config.languages.index(name), 1, 2] for name in languages]
        padded = not bool(memory.mask.all())
        return WhisperDecoderState(
            tuple(k for k, _ in pairs),
            tuple(v for _, v in pairs),
            memory.mask[:, None, None] if padded else None,
            self.embed_prompt(torch.tensor(prompt)),
        )

    def inputs(self, canvas: Tensor, state: WhisperDecoderState) -> tuple[Tensor, Tensor]:
        """(B, N) tokens to what the first layer reads, (B, P + N, D), and the causal mask."""
        x = torch.cat([state.prompt, self.embed_tokens(canvas).to(state.prompt.dtype)], dim=1)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return x + self.embed_positions.weight[: x.shape[1]], causal

    def hidden(self, canvas: Tensor, state: WhisperDecoderState) -> Tensor:
        """Final states, (B, N) tokens to (B, N + 1, D): state i has read what stands before token i."""
        x, causal = self.inputs(canvas, state)
        for layer, keys, values in zip(self.layers, state.keys, state.values, strict=True):
            x = layer(x, causal, keys, values, state.mask)
        return self.layer_norm(x)[:, PROMPT - 1 :]  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, pieces: Tensor) -> Tensor:
        """(…, D) to (…, S): scores of the sorted ids ``pieces`` (S,), of which the first is ``END``."""
        return hidden @ self.embed_tokens(pieces).T  # type: ignore[no-any-return]
