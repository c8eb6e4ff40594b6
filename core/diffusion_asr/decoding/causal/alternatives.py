"""Rescoring: where settled text is least sure, other tokens are tried, and the likelier text is kept.

Settling goes from left to right, and a token that proves wrong later stays. Here the refiner's next choices
at the least certain places each open a *branch* (see ``branches``). All branches are read side by side in one
pass, on top of the keys and values of the text that they share (tree attention: Miao et al. 2024, SpecInfer).
They are judged by the refiner's log-probability and by that of CTC over the draft, which hears every slot and
so notices words that were left out (hybrid CTC/attention: Watanabe et al. 2017). The cost is a few passes,
however long the text is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import Tensor

from diffusion_asr.decoding.causal.branches import Branch, Rows
from diffusion_asr.decoding.causal.model import END, MAX_TOKENS, RefinerState
from diffusion_asr.decoding.causal.rewriting import Refined, Rewriter
from diffusion_asr.decoding.layers import PROMPT, DecoderLayer

_ROWS = 32  # scored at a time: each is a fifth of a megabyte

CtcScorer = Callable[[Sequence[Sequence[int]]], list[float]]
Letters = Callable[[int], str]
_Pairs = list[tuple[Tensor, Tensor]]  # self-attention keys and values by layer
_Read = tuple[list[int], list[bool]]  # see ``Refined.history``


@dataclass(frozen=True, slots=True)
class RevisionOptions:
    """What is put in doubt, and how it is judged.

    Attributes:
        rounds: At most so often; each begins with what the last one made of the text.
        passes: Over the branches of a round; those that have not met the text by then are dropped.
        doubts: At most so many branches a round, and one more for each ``each`` tokens.
        each: See ``doubts``.
        gap: Nats by which another token may be less probable than the one that stands there.
        hopeless: Nats behind the text at which a branch is dropped.
        reach: Tokens that a branch takes over from what follows.
        ctc: Weight of CTC's log-probability beside the refiner's.
        longer: Nats for each token: the likelihood of a text favours short ones.
    """

    rounds: int = 4
    passes: int = 8
    doubts: int = 20
    each: int = 3
    gap: float = 4.0
    hopeless: float = 6.0
    reach: int = 12
    ctc: float = 0.08
    longer: float = 0.5


@dataclass(frozen=True)
class _Doubt:
    """Another token for a place."""

    gap: float  # nats by which it is less probable
    place: int
    token: int
    chance: float  # its log-probability


@dataclass(frozen=True)
class _Text:
    """Tokens as the refiner reads them."""

    tokens: list[int]
    chances: list[float]  # log-probability of each, and of the end
    doubts: list[_Doubt]
    pairs: _Pairs

    def chance(self, first: int, end: int) -> float:
        """Log-probability of a stretch."""
        return sum(self.chances[first:end])


class Reviser:
    """Revises one clip's settled text."""

    def __init__(
        self,
        refiner: Rewriter,
        state: RefinerState,
        ctc: CtcScorer,
        letters: Letters,
        options: RevisionOptions | None = None,
    ) -> None:
        """``ctc`` gives CTC's log-probability of texts, ``letters`` what of a token is a matter of words."""
        self.refiner, self.state, self.ctc, self.letters = refiner, state, ctc, letters
        self.options = options or RevisionOptions()
        self._tried: set[tuple[int, ...]] = set()

    @torch.inference_mode()
    def revise(self, tokens: Sequence[int], most: int) -> Refined:
        """The likeliest text that is found around ``tokens`` in at most ``most`` passes."""
        history: list[_Read] = []
        text = self._read(list(tokens), None, history)
        for _ in range(self.options.rounds):
            if len(history) + self.options.passes >= most:
                break
            branches = self._branches(text, history)
            changed = self._changed(text, branches) if branches else text.tokens
            if changed == text.tokens or len(changed) > MAX_TOKENS:
                break
            better = self._read(changed, text, history)
            before, after = self.ctc([text.tokens, changed])
            if self._worth(better, after) <= self._worth(text, before):
                break  # each change was good, but they do not go together
            text = better
        confidence = [math.exp(min(0.0, chance)) for chance in text.chances[:-1]]
        return Refined(text.tokens, confidence, len(history), tuple(history))

    def _worth(self, text: _Text, ctc: float) -> float:
        """In nats."""
        return sum(text.chances) + self.options.ctc * ctc + self.options.longer * len(text.tokens)

    def _read(self, tokens: list[int], before: _Text | None, history: list[_Read]) -> _Text:
        """One pass over what of a text is new since ``before``."""
        history.append((tokens, [True] * len(tokens)))
        model, state = self.refiner.model, self.state
        same, first, known = 0, 0, None
        if before is not None:
            same = _alike(before.tokens, tokens)
            first = PROMPT - 1 + same  # the first input whose state says something new
            known = [(k[:, :, :first], v[:, :, :first]) for k, v in before.pairs]
        x, causal = model.inputs(torch.tensor([tokens], dtype=torch.long), state)
        hidden, pairs = self._through(x[0, first:], known, causal[first:])
        said = len(tokens) - same + 1  # a row for each new token, and one for the end
        chances, doubts = self._scored(hidden[-said:], tokens[same:], same)
        if before is not None:
            chances = before.chances[:same] + chances
            doubts += [d for d in before.doubts if d.place < same]
        return _Text(tokens, chances, sorted(doubts, key=lambda d: d.gap), pairs)

    def _through(self, x: Tensor, known: _Pairs | None, mask: Tensor) -> tuple[Tensor, _Pairs]:
        """Inputs (n, D) that follow ``known`` to final states (n, D)."""
        model, state, pairs = self.refiner.model, self.state, []
        x = x[None]
        for n, layer in enumerate(model.layers):
            assert isinstance(layer, DecoderLayer)
            before = None if known is None else known[n]
            x, pair = layer.extend(x, before, mask, state.keys[n], state.values[n])
            pairs.append(pair)
        return model.layer_norm(x)[0], pairs

    def _scored(self, hidden: Tensor, tokens: list[int], first: int) -> tuple[list[float], list[_Doubt]]:
        """The chances of ``tokens`` (from ``first`` on) and of the end; what else might stand there."""
        own, refiner = self.refiner.scorer.places([*tokens, END])[:, None], self.refiner
        chances: list[float] = []
        doubts = []
        for start in range(0, len(hidden), _ROWS):
            scores = refiner.scorer.scores(hidden[start : start + _ROWS]).float()
            total, places = scores.logsumexp(-1, keepdim=True), own[start : start + _ROWS]
            chances += (scores.gather(1, places) - total)[:, 0].tolist()
            scores[:, 0] = -torch.inf  # no text is cut off
            best = scores.scatter_(1, places, -torch.inf).topk(2, dim=-1)
            rows = zip((best.values - total).tolist(), refiner.pieces[best.indices].tolist(), strict=True)
            for n, (values, ids) in enumerate(rows, start=start):
                if n < len(tokens):
                    pairs = zip(values, ids, strict=True)
                    doubts += [_Doubt(chances[n] - value, first + n, i, value) for value, i in pairs]
        return chances, doubts

    def _branches(self, text: _Text, history: list[_Read]) -> list[Branch]:
        """Those of a round that met the text again."""
        branches = self._doubted(text)
        for _ in range(self.options.passes):
            live = [b for b in branches if b.met is None]
            if not live:
                break
            doubted = {b.start for b in live}
            history.append((text.tokens, [n not in doubted for n in range(len(text.tokens))]))
            self._advance(text, live)
            branches = [b for b in branches if b.met is not None or not self._hopeless(text, b)]
        return [b for b in branches if b.met is not None]

    def _doubted(self, text: _Text) -> list[Branch]:
        """A branch for each of the likeliest other tokens that were not tried in the same place before."""
        options, tokens = self.options, text.tokens
        most = options.doubts + len(tokens) // options.each
        chosen: list[Branch] = []
        for doubt in text.doubts:
            if doubt.gap > options.gap or len(chosen) == most:
                break
            at = doubt.place
            trial = (doubt.token, *tokens[max(0, at - 2) : at + 3])
            words = self.letters(doubt.token)
            if words and words != self.letters(tokens[at]) and trial not in self._tried:
                self._tried.add(trial)
                chosen.append(Branch.at(tokens, at, doubt.token, doubt.chance, options.reach))
        return chosen

    def _hopeless(self, text: _Text, branch: Branch) -> bool:
        settled = len(branch.chances)
        return sum(branch.chances) < text.chance(branch.start, branch.start + settled) - self.options.hopeless

    def _advance(self, text: _Text, live: list[Branch]) -> None:
        """One pass over all branches."""
        model, refiner = self.refiner.model, self.refiner
        hidden = self._side_by_side(text, live)
        ends = torch.tensor([len(b.seen) for b in live]).cumsum(0)
        following = [t for b in live for t in [*b.tokens[1:], END][: len(b.seen)]]
        # The text has a say in where it ends: the end is less likely while some of it is left.
        ending = torch.full((len(hidden),), -refiner.options.ending)
        ending[ends[torch.tensor([b.last for b in live])] - 1] = 0.0
        inputs = hidden, refiner.scorer.places(following), ending
        split = zip(*(torch.split(column, _ROWS) for column in inputs), strict=True)
        parts = [self._judged(*part) for part in split]
        best, own, places = (torch.cat(column) for column in zip(*parts, strict=True))
        columns = (
            (best - own > refiner.options.slack).tolist(),
            own.tolist(),
            refiner.pieces[places].tolist(),
            best.tolist(),
            model.operation(hidden).argmax(-1).tolist(),
        )
        for branch, end in zip(live, ends.tolist(), strict=True):
            first = end - len(branch.seen)
            branch.grow(Rows(*(column[first:end] for column in columns)), text.tokens)

    def _judged(self, hidden: Tensor, following: Tensor, ending: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (R,) of the best token and of the ``following`` one; the best's place."""
        scores = self.refiner.scorer.scores(hidden).float()
        total = scores.logsumexp(-1)
        scores[:, 0] += ending
        best, places = scores.max(-1)
        return best - total, scores.gather(1, following[:, None])[:, 0] - total, places

    def _side_by_side(self, text: _Text, live: list[Branch]) -> Tensor:
        """Final states (R, D), a row for each token that the branches read."""
        model, prompt = self.refiner.model, self.state.prompt
        front = torch.tensor([n for n, b in enumerate(live) for _ in b.seen])
        place = torch.tensor([PROMPT + b.start + k for b in live for k in range(len(b.seen))])
        starts = torch.tensor([PROMPT + b.start for b in live])[front]
        shared = torch.arange(PROMPT + len(text.tokens)) < starts[:, None]
        own = (front[:, None] == front) & (place <= place[:, None])
        ids = torch.tensor([t for b in live for t in b.seen])
        x = model.embed_tokens(ids).to(prompt.dtype) + model.embed_positions.weight[place]
        return self._through(x, text.pairs, torch.cat([shared, own], dim=1))[0]

    def _changed(self, text: _Text, branches: Sequence[Branch]) -> list[int]:
        """The text with the best of the branches that gain anything and do not touch each other."""
        options, tokens = self.options, text.tokens
        texts = [tokens[: b.start] + b.settled + tokens[b.met :] for b in branches]
        before, *ctc = self.ctc([tokens, *texts])
        gains = []
        for branch, whole, chance in zip(branches, texts, ctc, strict=True):
            gain = sum(branch.chances) - text.chance(branch.start, branch.met or 0)
            gain += options.ctc * (chance - before) + options.longer * (len(whole) - len(tokens))
            gains.append(gain)
        taken: list[Branch] = []
        for n in sorted(range(len(gains)), key=lambda n: -gains[n]):
            new = branches[n]
            apart = all(new.start >= (b.met or 0) or (new.met or 0) <= b.start for b in taken)
            if gains[n] > 0 and apart:
                taken.append(new)
        out = list(tokens)
        for branch in sorted(taken, key=lambda b: -b.start):
            out[branch.start : branch.met] = branch.settled
        return out


def _alike(before: list[int], after: list[int]) -> int:
    """How many tokens two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
