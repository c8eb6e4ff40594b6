"""Verifies a drafted token canvas from left to right and rewrites it, many tokens a pass.

Speculative verification (Leviathan et al. 2023) with a draft that may be wrong anywhere: a pass reads the
next unsettled tokens; those that the model agrees with are settled, up to the first that it rejects; there
its own token is put, and what follows is edited by the operations. Keys and values of what is settled are
kept, so it is never read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.causal.model import (
    END,
    INSERT,
    KEEP,
    MAX_TOKENS,
    REPLACE,
    CausalRefiner,
    RefinerState,
    apply_edits,
)
from diffusion_asr.decoding.causal.scorer import PieceScorer
from diffusion_asr.decoding.layers import PROMPT, DecoderLayer

History = tuple[tuple[list[int], list[bool]], ...]  # the canvas that each pass read, and what was settled


@dataclass(frozen=True, slots=True)
class RewriterOptions:
    """How to settle a canvas.

    Attributes:
        slack: Nats; a token stays if it is at most this much less probable than the best one.
        eager: Nats; a token further on that is so much less probable than the best one is replaced at once.
        ending: Nats by which the end of text is less likely while draft is left, and more likely after it.
            The draft knows where speech ends; without this, short clips get lost or said twice.
        window: Unsettled tokens that a pass reads while passes are not limited: more would cost more time
            than the passes that it saves. Limited passes read everything.
        growth: A text may grow to this many times the draft's tokens, and ``spare`` more.
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
        history: The canvas that each pass read, and which of its tokens were settled before.
    """

    tokens: list[int]
    confidence: list[float]
    steps: int
    history: History


class Rewriter:
    """Settles one clip's canvas."""

    def __init__(
        self, model: CausalRefiner, scorer: PieceScorer, options: RewriterOptions | None = None
    ) -> None:
        self.model, self.scorer = model, scorer
        self.options = options or RewriterOptions()

    @property
    def pieces(self) -> Tensor:
        """(S,) sorted ids that are scored."""
        return self.scorer.pieces

    @torch.inference_mode()
    def settle(self, state: RefinerState, draft: Sequence[int], most: int) -> Refined:
        """Take at most ``most`` passes over ``draft``."""
        options, tokens = self.options, list(draft[:MAX_TOKENS])
        grown = min(MAX_TOKENS, int(len(tokens) * options.growth) + options.spare)
        window = options.window if most >= MAX_TOKENS else MAX_TOKENS
        text = _Text(tokens, grown)
        history: list[tuple[list[int], list[bool]]] = []
        reader = _Reader(self.model, state)
        while len(history) < most and not text.done:
            history.append((text.now, [n < text.settled for n in range(len(text.now))]))
            tail = text.now[text.settled : text.settled + window]
            seen = text.now[: text.settled + len(tail)]
            hidden = reader.read(seen, len(tail) + 1)
            text.change(tail, self._judge(hidden, tail, whole=len(seen) == len(text.now)))
        confidence = text.confidence + [0.5] * (len(text.now) - text.settled)
        return Refined(text.now, confidence, len(history), tuple(history))

    def _judge(self, hidden: Tensor, tail: list[int], whole: bool) -> _Verdict:
        """What the model says to a tail; ``hidden`` (n + 1, D): a row a token, and one after the tail."""
        options = self.options
        chances = self.scorer.scores(hidden).float().log_softmax(-1)
        chances[:-1, 0] -= options.ending
        chances[-1, 0] += options.ending * whole
        best, places = chances.max(-1)
        own = chances.gather(1, self.scorer.places([*tail, END])[:, None])[:, 0]
        # Operations are about a token that was read, so they stand one row later.
        edits = F.pad(self.model.operation(hidden).argmax(-1)[1:], (0, 1))
        edits = edits.masked_fill((best - own > options.eager) & (edits == KEEP), REPLACE)
        rejected = (best - own > options.slack).tolist()
        kept = next((n for n in range(len(tail)) if rejected[n]), len(tail))
        clean = self.pieces[places].tolist()
        return _Verdict(kept, own.exp().tolist()[:kept], clean, float(best[kept].exp()), edits.tolist()[:-1])


class _Verdict(NamedTuple):
    """About a tail of n tokens."""

    kept: int  # tokens that the model agrees with
    sure: list[float]  # their probabilities
    clean: list[int]  # n + 1: what should come after each prefix
    chance: float  # probability of clean[kept]
    operations: list[int]  # n


@dataclass
class _Text:
    """A text on its way; the first ``settled`` of its tokens ``now`` stay."""

    now: list[int]
    limit: int
    confidence: list[float] = field(default_factory=list)
    done: bool = False

    @property
    def settled(self) -> int:
        return len(self.confidence)

    def change(self, tail: list[int], verdict: _Verdict) -> None:
        """Settle what was kept, put the model's token after it, edit the rest."""
        end = self.settled + len(tail)
        self.confidence += verdict.sure
        at = self.settled
        if verdict.kept == len(tail) and at < len(self.now):
            return  # the canvas goes on after the window
        if verdict.clean[verdict.kept] == END or at >= self.limit:
            self.now, self.done = self.now[:at], True
            return
        rest = repair_tail(tail, verdict.clean, verdict.operations, verdict.kept)
        self.now = (self.now[:at] + rest + self.now[end:])[: self.limit]
        self.confidence.append(verdict.chance)  # the model's own token needs no second look


def repair_tail(tail: list[int], clean: list[int], operations: list[int], at: int) -> list[int]:
    """The tail from the rejected token ``at`` on: the model's token, then what is left, edited."""
    token = clean[at]
    near = tail[at + 1 : at + 4]
    if token in near:  # what stands between is superfluous
        skip = at + 2 + near.index(token)
    else:
        skip = at if at == len(tail) or operations[at] == INSERT else at + 1
    rest = tail[skip:]
    return [token, *apply_edits(rest, [*clean[skip : len(tail)], END], operations[skip:])]


class _Reader:
    """Reads a growing text, and keeps self-attention keys and values of what was read."""

    def __init__(self, model: CausalRefiner, state: RefinerState) -> None:
        self.model, self.state = model, state
        self.pairs: list[tuple[Tensor, Tensor] | None] = [None] * len(model.layers)
        self.size = 0  # rows kept

    def read(self, tokens: list[int], wanted: int) -> Tensor:
        """The last ``wanted`` final states (wanted, D) of ``tokens``; only what is new is computed."""
        first = min(self.size, PROMPT + len(tokens) - wanted)
        x, causal = self._embedded(tokens, first)
        for n, layer in enumerate(self.model.layers):
            assert isinstance(layer, DecoderLayer)
            known = self.pairs[n]
            known = known and (known[0][:, :, :first], known[1][:, :, :first])
            x, self.pairs[n] = layer.extend(x, known, causal, self.state.keys[n], self.state.values[n])
        self.size = PROMPT + len(tokens)
        return self.model.layer_norm(x[0, -wanted:])  # type: ignore[no-any-return]

    def _embedded(self, tokens: list[int], first: int) -> tuple[Tensor, Tensor]:
        """New rows (1, n, D) from ``first`` on, and what each of them attends to (n, first + n)."""
        ids = torch.tensor(tokens[max(0, first - PROMPT) :], dtype=torch.long)
        new = self.model.embed_tokens(ids).to(self.state.prompt.dtype)
        places = torch.arange(first, PROMPT + len(tokens))
        x = torch.cat([self.state.prompt[0, first:], new]) + self.model.embed_positions.weight[places]
        return x[None], torch.arange(PROMPT + len(tokens)) <= places[:, None]
