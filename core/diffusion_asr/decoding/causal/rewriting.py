"""Settles a token canvas with the edit denoiser: from left to right in every front, many tokens a pass.

A pass reads the next unsettled tokens of all fronts at once. In each front, those that the model agrees with
are settled, up to the first that it rejects; there its own token is put, and what follows is edited by the
operations. Keys and values of what is settled are kept, so it is never read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.causal import int8
from diffusion_asr.decoding.causal.fronts import Front
from diffusion_asr.decoding.causal.model import (
    END,
    INSERT,
    KEEP,
    MAX_TOKENS,
    REPLACE,
    EditDenoiser,
    HeardState,
    apply_edits,
)
from diffusion_asr.decoding.denoiser import BLOCK
from diffusion_asr.decoding.layers import PROMPT, DecoderLayer


@dataclass(frozen=True, slots=True)
class RefinerOptions:
    """How to settle a canvas.

    Attributes:
        slack: Nats; a token stays if it is at most this much less probable than the best one.
        eager: Nats; a token further on that is so much less probable than the best one is replaced at once.
        ending: Nats by which the end of text is less likely while draft is left, and more likely after it.
            The draft knows where speech ends; without this, short clips get lost or said twice.
        window: Unsettled tokens of a front that a pass reads while passes are not limited: more would cost
            more time than the passes that it saves. Limited passes read everything.
        growth: A front may grow to this many times the draft's tokens, and ``spare`` more.
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
        tokens: What it holds, front after front.
        confidence: Probability of each token; 0.5 where no pass settled it.
        steps: Passes taken.
        history: The canvas that each pass read, and which of its tokens were settled before.
    """

    tokens: list[int]
    confidence: list[float]
    steps: int
    history: tuple[tuple[list[int], list[bool]], ...]


class Refiner:
    """Settles one clip's canvas."""

    def __init__(self, model: EditDenoiser, pieces: Tensor, options: RefinerOptions | None = None) -> None:
        self.model, self.pieces = model, pieces
        self.options = options or RefinerOptions()
        self._quick = any(isinstance(m, int8.Int8Linear) for m in model.modules())
        self._tables: list[Any] = []  # by blocks: packing takes copies of what it packs
        with torch.no_grad():
            for start in range(0, len(pieces), BLOCK):
                rows = model.embed_tokens(pieces[start : start + BLOCK]).to(model.embed_prompt.weight.dtype)
                self._tables.append(int8.pack(rows) if self._quick else rows)

    def settle(self, state: HeardState, draft: Sequence[int], most: int) -> Refined:
        """Take at most ``most`` passes over ``draft`` as one front that hears the whole clip."""
        frames = state.keys[0].shape[2]
        return self.settle_fronts(state, [Front(tuple(draft[:MAX_TOKENS]), (0, frames), (0, frames))], most)

    @torch.inference_mode()
    def settle_fronts(self, state: HeardState, fronts: Sequence[Front], most: int) -> Refined:
        """Take at most ``most`` passes over all ``fronts`` side by side."""
        grown = [
            min(MAX_TOKENS, int(len(f.tokens) * self.options.growth) + self.options.spare) for f in fronts
        ]
        stretches = [_Stretch(list(f.tokens), limit) for f, limit in zip(fronts, grown, strict=True)]
        window = self.options.window if most >= MAX_TOKENS else MAX_TOKENS
        history: list[tuple[list[int], list[bool]]] = []
        reader = _Reader(self.model, state, fronts)
        while len(history) < most and not all(s.done for s in stretches):
            history.append(_joined(stretches))
            live = [n for n, s in enumerate(stretches) if not s.done]
            tails = [stretches[n].tail(window) for n in live]
            seen = [
                stretches[n].now[: stretches[n].settled + len(t)] for n, t in zip(live, tails, strict=True)
            ]
            hidden = reader.read(live, seen, [len(t) + 1 for t in tails])
            whole = [
                stretches[n].settled + len(t) == len(stretches[n].now)
                for n, t in zip(live, tails, strict=True)
            ]
            for n, tail, verdict in zip(live, tails, self._judge(hidden, tails, whole), strict=True):
                stretches[n].change(tail, verdict)
        confidence = [c for s in stretches for c in s.confidence + [0.5] * (len(s.now) - s.settled)]
        return Refined([t for s in stretches for t in s.now], confidence, len(history), tuple(history))

    def _judge(self, hidden: Tensor, tails: list[list[int]], whole: list[bool]) -> list[_Verdict]:
        """What the model says to each tail; ``hidden`` (R, D): a row a token, and one after each tail."""
        options = self.options
        chances = self.scores(hidden).float().log_softmax(-1)
        ends = torch.tensor([len(t) + 1 for t in tails]).cumsum(0) - 1  # the rows that have read a whole tail
        chances[:, 0] -= options.ending
        chances[ends, 0] += options.ending + options.ending * torch.tensor(whole)
        best, places = chances.max(-1)
        own = chances.gather(1, self.places([t for tail in tails for t in [*tail, END]])[:, None])[:, 0]
        # Operations are about a token that was read, so they stand one row later.
        edits = F.pad(self.model.operation(hidden).argmax(-1)[1:], (0, 1))
        edits = edits.masked_fill((best - own > options.eager) & (edits == KEEP), REPLACE)
        rejected, sure = (best - own > options.slack).tolist(), own.exp().tolist()
        rows = zip(self.pieces[places].tolist(), best.exp().tolist(), edits.tolist(), strict=True)
        clean, chance, operations = (list(column) for column in zip(*rows, strict=True))
        verdicts, first = [], 0
        for tail in tails:
            end = first + len(tail)
            kept = next((n for n in range(len(tail)) if rejected[first + n]), len(tail))
            verdicts.append(
                _Verdict(
                    kept,
                    sure[first : first + kept],
                    clean[first : end + 1],
                    chance[first + kept],
                    operations[first:end],
                )
            )
            first = end + 1
        return verdicts

    def scores(self, hidden: Tensor) -> Tensor:
        """(R, D) final states to (R, S) scores of ``pieces``."""
        parts = [int8.linear(hidden, t) if self._quick else hidden @ t.T for t in self._tables]
        return torch.cat(parts, dim=-1)

    def places(self, tokens: list[int]) -> Tensor:
        """Columns of the scored pieces; a token that is not scored gets the end's, and is rejected."""
        ids = torch.tensor(tokens, dtype=torch.long)
        places = torch.searchsorted(self.pieces, ids).clamp(max=len(self.pieces) - 1)
        return torch.where(self.pieces[places] == ids, places, 0)


class _Verdict(NamedTuple):
    """About a tail of n tokens."""

    kept: int  # tokens that the model agrees with
    sure: list[float]  # their probabilities
    clean: list[int]  # n + 1: what should come after each prefix
    chance: float  # probability of clean[kept]
    operations: list[int]  # n


@dataclass
class _Stretch:
    """A front on its way; the first ``settled`` of its tokens ``now`` stay."""

    now: list[int]
    limit: int
    confidence: list[float] = field(default_factory=list)
    done: bool = False

    @property
    def settled(self) -> int:
        return len(self.confidence)

    def tail(self, window: int) -> list[int]:
        """The next unsettled tokens."""
        return self.now[self.settled : self.settled + window]

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
        rest = repaired(tail, verdict.clean, verdict.operations, verdict.kept)
        self.now = (self.now[:at] + rest + self.now[end:])[: self.limit]
        self.confidence.append(verdict.chance)  # the model's own token needs no second look


def _joined(stretches: Sequence[_Stretch]) -> tuple[list[int], list[bool]]:
    sure = [n < s.settled or s.done for s in stretches for n in range(len(s.now))]
    return [token for s in stretches for token in s.now], sure


def repaired(tail: list[int], clean: list[int], operations: list[int], at: int) -> list[int]:
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
    """Reads fronts side by side, and keeps self-attention keys and values of what was read.

    All rows of all fronts lie in one sequence; masks keep the fronts apart.
    """

    def __init__(self, model: EditDenoiser, state: HeardState, fronts: Sequence[Front]) -> None:
        self.model, self.state = model, state
        self.pairs: list[tuple[Tensor, Tensor] | None] = [None] * len(model.layers)
        self.sizes = [0] * len(fronts)  # rows kept of each front
        self.front = self.place = torch.zeros(0, dtype=torch.long)  # of each kept row
        at, count = torch.arange(state.keys[0].shape[2]), state.keys[0].shape[2]
        partial = any(f.frames != (0, count) for f in fronts)
        heard = [(at >= first) & (at < end) for first, end in (f.frames for f in fronts)]
        self.heard = torch.stack(heard) if partial else None  # (fronts, T)

    def read(self, fronts: Sequence[int], tokens: Sequence[list[int]], wanted: Sequence[int]) -> Tensor:
        """The last ``wanted`` final states of some fronts' ``tokens``, (sum of wanted, D).

        Only what is new is computed.
        """
        for n, ids, count in zip(fronts, tokens, wanted, strict=True):
            self.sizes[n] = min(self.sizes[n], PROMPT + len(ids) - count)
        kept = self.place < torch.tensor(self.sizes)[self.front]
        x, front, place = self._embedded(fronts, tokens)
        self.front, self.place = torch.cat([self.front[kept], front]), torch.cat([self.place[kept], place])
        visible = (front[:, None] == self.front) & (self.place <= place[:, None])
        heard = None if self.heard is None else self.heard[front]
        for n, layer in enumerate(self.model.layers):
            assert isinstance(layer, DecoderLayer)
            known = self.pairs[n]
            known = known and (known[0][:, :, kept], known[1][:, :, kept])
            x, self.pairs[n] = layer.extend(
                x, known, visible, self.state.keys[n], self.state.values[n], heard
            )
        last = torch.zeros(len(front), dtype=torch.bool)
        for n, ids, count in zip(fronts, tokens, wanted, strict=True):
            self.sizes[n] = PROMPT + len(ids)
            last |= (front == n) & (place >= self.sizes[n] - count)
        return self.model.layer_norm(x[0, last])  # type: ignore[no-any-return]

    def _embedded(self, fronts: Sequence[int], tokens: Sequence[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """New rows (1, n, D), and the front and the place of each."""
        parts, front, place = [], [], []
        for n, ids in zip(fronts, tokens, strict=True):
            first = self.sizes[n]
            new = self.model.embed_tokens(torch.tensor(ids[max(0, first - PROMPT) :], dtype=torch.long))
            parts += [self.state.prompt[0, first:], new.to(self.state.prompt.dtype)]
            places = list(range(first, PROMPT + len(ids)))
            place += places
            front += [n] * len(places)
        x = torch.cat(parts) + self.model.embed_positions.weight[place]
        return x[None], torch.tensor(front), torch.tensor(place)
