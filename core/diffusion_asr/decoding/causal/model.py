"""The causal refiner: Whisper's decoder reads a whole token canvas and says how to repair it.

A canvas here is a sequence of tokens that may hold wrong, missing and superfluous ones. One pass gives, for
every position, the clean token that should follow the prefix and an operation for the token that stands
there: keep, replace, delete, or insert before (operations as in the Levenshtein Transformer, Gu et al. 2019;
DiffusER, Reid et al. 2022). The layers keep the causal mask that Whisper's weights were trained with, so a
position knows what stands before it only, and what follows a wrong token has been read after a wrong prefix.
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

KEEP, REPLACE, DELETE, INSERT = range(4)
END = 0  # the null token ends a token canvas
MAX_TOKENS = 440


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """Sizes of a causal refiner; the defaults are Whisper base's decoder."""

    vocabulary: int
    d_model: int = 512
    layers: int = 6
    heads: int = 8
    languages: tuple[str, ...] = LANGUAGES


class RefinerState(NamedTuple):
    """What stays the same over all steps of a batch."""

    keys: tuple[Tensor, ...]  # per layer (B, H, T, D / H)
    values: tuple[Tensor, ...]
    mask: Tensor | None  # (B, 1, 1, T), None where nothing is padded
    prompt: Tensor  # (B, P, D)


class CausalRefiner(nn.Module):
    """See the module's text. The embedding of ``END`` is the end of text."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        d, self.config = config.d_model, config
        self.embed_tokens = nn.Embedding(config.vocabulary, d)
        self.embed_positions = nn.Embedding(MAX_TOKENS + PROMPT, d)
        self.embed_prompt = nn.Embedding(PROMPT - 1 + len(config.languages), d)
        self.layers = nn.ModuleList(DecoderLayer(d, config.heads) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(d)
        self.operation = nn.Linear(d, 4)

    def prepare(self, memory: AcousticMemory, languages: Sequence[str]) -> RefinerState:
        """Once per batch; ``languages`` holds one code for each clip."""
        states = memory.states.to(self.layer_norm.weight.dtype)
        pairs = [layer.encoder_attn.project(states) for layer in self.layers]  # type: ignore[union-attr, operator]
        prompt = [[0, PROMPT - 1 + self.config.languages.index(name), 1, 2] for name in languages]
        padded = not bool(memory.mask.all())
        return RefinerState(
            tuple(k for k, _ in pairs),
            tuple(v for _, v in pairs),
            memory.mask[:, None, None] if padded else None,
            self.embed_prompt(torch.tensor(prompt)),
        )

    def inputs(self, canvas: Tensor, state: RefinerState) -> tuple[Tensor, Tensor]:
        """(B, N) tokens to what the first layer reads, (B, P + N, D), and the causal mask."""
        x = torch.cat([state.prompt, self.embed_tokens(canvas).to(state.prompt.dtype)], dim=1)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        return x + self.embed_positions.weight[: x.shape[1]], causal

    def hidden(self, canvas: Tensor, state: RefinerState) -> Tensor:
        """Final states, (B, N) tokens to (B, N + 1, D): state i has read what stands before token i."""
        x, causal = self.inputs(canvas, state)
        for layer, keys, values in zip(self.layers, state.keys, state.values, strict=True):
            x = layer(x, causal, keys, values, state.mask)
        return self.layer_norm(x)[:, PROMPT - 1 :]  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, pieces: Tensor) -> Tensor:
        """(…, D) to (…, S): scores of the sorted ids ``pieces`` (S,), of which the first is ``END``."""
        return hidden @ self.embed_tokens(pieces).T  # type: ignore[no-any-return]

    def operations(self, hidden: Tensor) -> Tensor:
        """(B, N + 1, D) to (B, N, 4): scores of what to do with each token, after reading it."""
        return self.operation(hidden[:, 1:])  # type: ignore[no-any-return]


def apply_edits(canvas: Sequence[int], following: Sequence[int], operations: Sequence[int]) -> list[int]:
    """The canvas after one step.

    Args:
        canvas: N tokens.
        following: N + 1 predicted tokens; ``following[i]`` should come after ``canvas[:i]``.
        operations: N operations.
    """
    out: list[int] = []
    for token, clean, operation in zip(canvas, following, operations, strict=False):
        if operation == INSERT and clean not in (token, END):
            out += [clean, token]
        elif operation == REPLACE:
            out += [clean] if clean != END else []
        elif operation != DELETE:
            out.append(token)
    if following[len(canvas)] != END:
        out.append(following[len(canvas)])
    return out[:MAX_TOKENS]
