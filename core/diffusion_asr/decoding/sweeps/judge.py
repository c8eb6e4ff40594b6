"""One parallel pass: canvases to judgements, by Whisper's decoder and the draft's slots together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diffusion_asr.decoding.causal.model import END
from diffusion_asr.decoding.causal.scorer import PieceScorer
from diffusion_asr.decoding.sweeps.evidence import Evidence
from diffusion_asr.decoding.sweeps.reader import CanvasReader
from diffusion_asr.decoding.sweeps.rule import (
    USUAL_OFFSET,
    Judgement,
    SweepRule,
    Timed,
    join_judgements,
)

OTHERS = 3  # tokens besides the one that stands there that a place tells
_LIKELY = 64  # pieces of a place that copies of the text are scored by
_ROWS = 64  # scored at a time: a table of all would be 50 MB


class Judge:
    """Judges canvases of one clip; ``offset`` is how far its draft runs ahead, in seconds."""

    def __init__(self, reader: CanvasReader, evidence: Evidence, rule: SweepRule, frame_rate: float) -> None:
        self.reader, self.evidence, self.rule, self.frame_rate = reader, evidence, rule, frame_rate
        self.offset: float | None = None
        self._likely: list[Tensor] = []  # columns, by block of what was scored with all pieces
        self._scored: tuple[PieceScorer, Tensor] | None = None  # a shortlist, and its columns

    def read(self, canvases: Sequence[Timed]) -> list[Judgement]:
        """One pass over all ``canvases`` side by side."""
        readings = self.reader.read([canvas.tokens for canvas in canvases])
        if len(canvases) == 1:
            self._scored, self._likely = None, []
        elif self._scored is None:
            self._scored = self._shortlist(canvases)
        scorer = self._scored[0] if self._scored else self.reader.scorer
        states = torch.cat([reading.states for reading in readings])
        listening = torch.cat([reading.listening for reading in readings])
        tokens = torch.cat([scorer.places([*canvas.tokens, END]) for canvas in canvases])
        ending = torch.full((len(tokens),), -self.rule.ending)  # the draft knows where speech ends
        sizes = [len(canvas.tokens) + 1 for canvas in canvases]
        ending[torch.tensor(sizes).cumsum(0) - 1] = self.rule.ending
        frames = torch.cat([reading.frames for reading in readings])
        blocks = zip(*(torch.split(x, _ROWS) for x in (states, frames, tokens, ending)), strict=True)
        whole = join_judgements([self._score(*block) for block in blocks])
        whole = replace(whole, listening=list(listening))
        found, first = [], 0
        for size in sizes:
            found.append(whole.cut(first, first + size))
            first += size
        return found

    def _shortlist(self, canvases: Sequence[Timed]) -> tuple[PieceScorer, Tensor]:
        """The pieces that the last text's places thought of, the canvases' own, and the end of text.

        Text and copies are compared with each other, by the same pieces: an eighth of the work.
        """
        whole = self.reader.scorer
        own = [whole.places(list(canvas.tokens)) for canvas in canvases]
        columns = torch.cat([torch.zeros(1, dtype=torch.long), *own, *(x.flatten() for x in self._likely)])
        columns = columns.unique()  # type: ignore[no-untyped-call]
        return whole.narrow(columns), columns

    def _score(self, states: Tensor, frames: Tensor, own: Tensor, ending: Tensor) -> Judgement:
        """(R, D) states to a judgement of R places; ``own`` (R,) are the columns of what stands there."""
        scorer, columns = self._scored or (self.reader.scorer, None)
        scores = scorer.scores(states).float()
        own = own[:, None]
        chances = scores.gather(1, own) - scores.logsumexp(-1, keepdim=True)
        heard = frames / self.frame_rate
        offset = USUAL_OFFSET if self.offset is None else self.offset
        if self.evidence.weight:
            scores += self.evidence.at(heard - offset, columns)
        scores[:, 0] += ending
        mine, end = scores.gather(1, own), scores[:, 0].clone()
        scores[:, 0] = -torch.inf
        top = scores.topk(min(_LIKELY, scores.shape[1]), -1)
        if columns is None:
            self._likely.append(top.indices)
        best = torch.maximum(top.values[:, 0], end)
        clean = torch.where(end >= top.values[:, 0], END, scorer.pieces[top.indices[:, 0]])
        gaps = (mine - top.values[:, :OTHERS]).tolist()
        tokens = scorer.pieces[top.indices[:, :OTHERS]].tolist()
        return Judgement(
            (best - mine[:, 0]).tolist(),
            clean.tolist(),
            heard.tolist(),
            chances[:, 0].tolist(),
            [tuple(zip(*pair, strict=True)) for pair in zip(gaps, tokens, strict=True)],
        )
