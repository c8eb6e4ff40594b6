"""The edit denoiser: Whisper's decoder reads a whole token canvas at once and says how to repair it.

A canvas here is a sequence of tokens that may hold wrong, missing and superfluous ones: a draft, or noise.
One parallel pass gives, for every position, the clean token that should follow the prefix and an operation
for the token that stands there: keep, replace, delete, or insert before (an edit-based diffusion: Reid et
al. 2022, DiffusER; operations as in the Levenshtein Transformer, Gu et al. 2019). All edits of a step are
applied together. The layers keep the causal mask that Whisper's weights were trained with, so nothing that
its decoder knows is lost; cost follows the number of steps, not the length of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_asr import int8
from diffusion_asr.denoiser import PROMPT, DecoderLayer
from diffusion_asr.encoder import AcousticMemory

KEEP, REPLACE, DELETE, INSERT = range(4)
END = 0  # the null token ends a token canvas
MAX_TOKENS = 440


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """Sizes of an edit denoiser; the defaults are Whisper base's decoder."""

    vocabulary: int
    d_model: int = 512
    layers: int = 6
    heads: int = 8
    languages: tuple[str, ...] = ("en", "de", "fr", "es", "hi", "zh")


class HeardState(NamedTuple):
    """What stays the same over all steps of a batch."""

    keys: tuple[Tensor, ...]  # per layer (B, H, T, D / H)
    values: tuple[Tensor, ...]
    mask: Tensor | None  # (B, 1, 1, T), None where nothing is padded
    prompt: Tensor  # (B, P, D)


class EditDenoiser(nn.Module):
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

    def prepare(self, memory: AcousticMemory, languages: Sequence[str]) -> HeardState:
        """Once per batch; ``languages`` holds one code for each clip."""
        states = memory.states.to(self.layer_norm.weight.dtype)
        pairs = [layer.encoder_attn.project(states) for layer in self.layers]  # type: ignore[union-attr, operator]
        prompt = [[0, PROMPT - 1 + self.config.languages.index(name), 1, 2] for name in languages]
        padded = not bool(memory.mask.all())
        return HeardState(
            tuple(k for k, _ in pairs),
            tuple(v for _, v in pairs),
            memory.mask[:, None, None] if padded else None,
            self.embed_prompt(torch.tensor(prompt)),
        )

    def hidden(self, canvas: Tensor, state: HeardState) -> Tensor:
        """Final states, (B, N) tokens to (B, N + 1, D): state i has read what stands before token i."""
        x = torch.cat([state.prompt, self.embed_tokens(canvas)], dim=1)
        x = x + self.embed_positions.weight[: x.shape[1]]
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
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


@dataclass(frozen=True, slots=True)
class RefinerOptions:
    """How to settle a canvas.

    Attributes:
        slack: Nats; a token stays if it is at most this much less probable than the best one.
        eager: Nats; a token further on that is so much less probable than the best one is replaced at once.
        ending: Nats by which the end of text is less likely while draft is left, and more likely after it.
            The draft knows where speech ends; without this, short clips get lost or said twice.
        window: Unsettled tokens that a pass reads while passes are not limited: more would cost more time
            than the passes that it saves. Limited passes read everything.
        growth: The canvas may grow to this many times the draft's tokens, and ``spare`` more.
    """

    slack: float = 0.7
    eager: float = 4.0
    ending: float = 3.0
    window: int = 24
    growth: float = 1.6
    spare: int = 8


@dataclass(frozen=True, slots=True)
class Refined:
    """A settled token canvas.

    Attributes:
        tokens: What it holds.
        confidence: Probability of each token; 0.5 where no pass settled it.
        steps: Passes taken.
        history: The canvas that each pass read, and how many of its tokens were settled before.
    """

    tokens: list[int]
    confidence: list[float]
    steps: int
    history: tuple[tuple[list[int], int], ...]


class Refiner:
    """Settles one clip's canvas from left to right, many tokens a pass.

    A pass reads the next unsettled tokens at once. Those that the model agrees with are settled, up to the
    first that it rejects; there its own token is put, and what follows is edited by the operations. Keys
    and values of what is settled are kept, so it is never read again.
    """

    def __init__(self, model: EditDenoiser, pieces: Tensor, options: RefinerOptions | None = None) -> None:
        self.model, self.pieces = model, pieces
        self.options = options or RefinerOptions()
        with torch.no_grad():
            table = model.embed_tokens(pieces)
        quick = any(isinstance(m, int8.Int8Linear) for m in model.modules())
        # One of the two: 60 MB a language in float32, a quarter of that packed.
        self._table: Tensor | None = None if quick else table
        self._packed: Any = int8.pack(table) if quick else None

    @torch.inference_mode()
    def settle(self, state: HeardState, draft: Sequence[int], most: int) -> Refined:
        """Take at most ``most`` passes over ``draft``."""
        now = list(draft[:MAX_TOKENS])
        limit = min(MAX_TOKENS, int(len(now) * self.options.growth) + self.options.spare)
        window = self.options.window if most >= MAX_TOKENS else MAX_TOKENS
        confidence: list[float] = []
        history: list[tuple[list[int], int]] = []
        cache = _Cache(self.model)
        for step in range(1, most + 1):
            settled = len(confidence)
            history.append((now, settled))
            tail = now[settled : settled + window]
            hidden = cache.read(self._embedded(state, now[: settled + len(tail)]), len(tail) + 1, state)
            chances = self._scores(hidden[0]).float().log_softmax(-1)
            chances[: len(tail), 0] -= self.options.ending
            if settled + len(tail) == len(now):
                chances[-1, 0] += self.options.ending
            best, places = chances.max(-1)
            own = chances[torch.arange(len(tail)), self._places(tail)]
            rejected = (best[: len(tail)] - own > self.options.slack).nonzero().flatten().tolist()
            kept = rejected[0] if rejected else len(tail)
            confidence += own[:kept].exp().tolist()
            at = settled + kept
            if kept == len(tail) and at < len(now):
                continue  # the canvas goes on after the window
            clean = self.pieces[places].tolist()
            if clean[kept] == END or at >= limit:
                return Refined(now[:at], confidence, step, tuple(history))
            edits = self.model.operations(hidden)[0].argmax(-1)
            hopeless = (best[: len(tail)] - own > self.options.eager) & (edits == KEEP)
            operations = edits.masked_fill(hopeless, REPLACE).tolist()
            now = (now[:at] + _repaired(tail, clean, operations, kept) + now[settled + len(tail) :])[:limit]
            confidence.append(float(best[kept].exp()))  # the model's own token needs no second look
        return Refined(now, confidence + [0.5] * (len(now) - len(confidence)), most, tuple(history))

    def _scores(self, hidden: Tensor) -> Tensor:
        return int8.linear(hidden, self._packed) if self._table is None else hidden @ self._table.T

    def _embedded(self, state: HeardState, tokens: list[int]) -> Tensor:
        x = torch.cat(
            [state.prompt, self.model.embed_tokens(torch.tensor([tokens], dtype=torch.long))], dim=1
        )
        return x + self.model.embed_positions.weight[: x.shape[1]]

    def _places(self, tokens: list[int]) -> Tensor:
        """Columns of the scored pieces; a token that is not scored gets the end's, and is rejected."""
        ids = torch.tensor(tokens, dtype=torch.long)
        places = torch.searchsorted(self.pieces, ids).clamp(max=len(self.pieces) - 1)
        return torch.where(self.pieces[places] == ids, places, 0)


def _repaired(tail: list[int], clean: list[int], operations: list[int], at: int) -> list[int]:
    """The tail from the rejected token ``at`` on: the model's token, then what is left, edited."""
    token = clean[at]
    near = tail[at + 1 : at + 4]
    if token in near:  # what stands between is superfluous
        skip = at + 2 + near.index(token)
    else:
        skip = at if at == len(tail) or operations[at] == INSERT else at + 1
    rest = tail[skip:]
    return [token, *apply_edits(rest, [*clean[skip : len(tail)], END], operations[skip:])]


class _Cache:
    """Self-attention keys and values of what was read."""

    def __init__(self, model: EditDenoiser) -> None:
        self.model, self.size = model, 0
        self.pairs: list[tuple[Tensor, Tensor] | None] = [None] * len(model.layers)

    def read(self, x: Tensor, wanted: int, state: HeardState) -> Tensor:
        """The last ``wanted`` final states of the sequence ``x`` (1, n, D), computing only what is new."""
        self.cut(min(self.size, x.shape[1] - wanted))
        old, x = self.size, x[:, self.size :]
        visible = torch.ones(x.shape[1], old + x.shape[1], dtype=torch.bool).tril(old)
        for n, layer in enumerate(self.model.layers):
            assert isinstance(layer, DecoderLayer)
            x, self.pairs[n] = layer.extend(x, self.pairs[n], visible, state.keys[n], state.values[n])
        self.size = old + x.shape[1]
        return self.model.layer_norm(x[:, -wanted:])  # type: ignore[no-any-return]

    def cut(self, size: int) -> None:
        """Forget what comes after the first ``size`` positions."""
        if size < self.size:
            self.pairs = [p and (p[0][:, :, :size], p[1][:, :, :size]) for p in self.pairs]
            self.size = size
