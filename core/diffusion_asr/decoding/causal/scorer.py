"""Scores of a language's pieces, in int8 where the CPU has the kernels."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from diffusion_asr.decoding.causal import int8
from diffusion_asr.decoding.causal.model import CausalRefiner
from diffusion_asr.decoding.denoiser import BLOCK


class PieceScorer:
    """The output layer of a causal refiner, cut to some pieces."""

    def __init__(self, model: CausalRefiner, pieces: Tensor) -> None:
        """``pieces`` (S,) are sorted ids, the end of text (0) first."""
        self.model, self.pieces = model, pieces
        self._quick = any(isinstance(m, int8.Int8Linear) for m in model.modules())
        self._tables: list[Any] = []  # by blocks: packing takes copies of what it packs
        with torch.no_grad():
            for start in range(0, len(pieces), BLOCK):
                rows = model.embed_tokens(pieces[start : start + BLOCK]).to(model.embed_prompt.weight.dtype)
                self._tables.append(int8.pack_weight(rows) if self._quick else rows)

    def scores(self, hidden: Tensor) -> Tensor:
        """(R, D) final states to (R, S) scores of ``pieces``."""
        parts = [int8.apply_linear(hidden, t) if self._quick else hidden @ t.T for t in self._tables]
        return torch.cat(parts, dim=-1)

    def places(self, tokens: list[int]) -> Tensor:
        """Columns of the scored pieces; a token that is not scored gets the end's, and is rejected."""
        ids = torch.tensor(tokens, dtype=torch.long)
        places = torch.searchsorted(self.pieces, ids).clamp(max=len(self.pieces) - 1)
        return torch.where(self.pieces[places] == ids, places, 0)

    def narrow(self, columns: Tensor) -> PieceScorer:
        """A scorer of fewer pieces, by their sorted columns (C,) here; the end of text stays the first."""
        return PieceScorer(self.model, self.pieces[columns])


class Scorers:
    """One for each set of pieces: languages that share it share its table (a quarter of 80 MB)."""

    def __init__(self, model: CausalRefiner) -> None:
        self.model = model
        self._known: list[PieceScorer] = []
        self._lock = threading.Lock()

    def of(self, pieces: Tensor) -> PieceScorer:
        """The scorer of ``pieces`` (S,), made when it is first asked for; any number of threads may ask."""
        with self._lock:
            known = next((s for s in self._known if torch.equal(s.pieces, pieces)), None)
            if known is None:
                known = PieceScorer(self.model, pieces)
                self._known.append(known)
            return known
