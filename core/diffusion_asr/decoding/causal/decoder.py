"""To a settled canvas with the refiner: draft the slots, edit the tokens, place them.

The canvas denoiser's first step over the slots is the draft. The refiner repairs its tokens, first in fronts
side by side, then once more from left to right with everything heard, and has second thoughts where it is
not sure (``revision``). Forced alignment with the draft's own distributions puts the tokens back onto the
slots; the refiner's cross-attention tells when each begins (``timing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.alignment import forced_canvas
from diffusion_asr.decoding.canvas import Denoised, TraceStep, collapse
from diffusion_asr.decoding.causal.alternatives import Reviser
from diffusion_asr.decoding.causal.fronts import Front, SlotTimes, cut
from diffusion_asr.decoding.causal.model import MAX_TOKENS, EditDenoiser, HeardState
from diffusion_asr.decoding.causal.rewriting import Refined, Refiner
from diffusion_asr.decoding.causal.token_times import token_starts
from diffusion_asr.decoding.denoiser import CanvasDenoiser, PreparedState
from diffusion_asr.text.vocabulary import Vocabulary

FRONT_SHARE = 0.7  # of a limited number of passes
LOOP = 8  # times that the same one to four tokens follow each other: nobody says that
LOST = 0.25  # of the draft's tokens: what settles to less has lost its place …
FEW = 8  # … unless these were few, most of which may be wrong
_LEAST = -15.0  # log-probability of a token that the draft did not think of at all
_NEVER = -1e4  # of a text that has more tokens than the draft has slots


class Drafted(NamedTuple):
    """The canvas denoiser's first step, and what tells the log-probability of any piece in it."""

    before: Tensor  # (L,) the canvas that it read
    denoised: Denoised
    hidden: Tensor  # (1, L, D)
    total: Tensor  # (1, L) see ``CanvasDenoiser.likeliest``


class Settler:
    """A clip's way through denoiser and refiner."""

    def __init__(
        self, denoiser: CanvasDenoiser, model: EditDenoiser, vocabulary: Vocabulary, lag: float = 0.0
    ) -> None:
        """``lag``: see ``words.heard_at``."""
        self.denoiser, self.model, self.vocabulary = denoiser, model, vocabulary
        self._times = SlotTimes(denoiser.config.slot_frames, lag)
        self._refiners: list[Refiner] = []

    @torch.inference_mode()
    def draft(self, state: PreparedState, canvas: Tensor, pieces: Tensor) -> Drafted:
        """The first step: ``canvas`` (1, L) is noise, or all null; for the rest see ``settle``.

        It is apart so that ``state``, 40 MB in 30 s, can go before the refiner prepares its own.
        """
        hidden = self.denoiser.hidden(canvas, state)
        best, places, total = self.denoiser.likeliest(hidden, pieces)
        return Drafted(canvas[0], Denoised(pieces[places[0]], best[0].exp(), 1), hidden, total)

    @torch.inference_mode()
    def settle(
        self,
        memory: AcousticMemory,
        draft: Drafted,
        language: str,
        pieces: Tensor,
        steps: int | None,
        trace: bool = False,
    ) -> Denoised:
        """Denoise one clip.

        Args:
            memory: A batch of one.
            draft: What ``draft`` made of it.
            language: Its code.
            pieces: (S,) sorted ids, null first, that the answer may use.
            steps: At most so many passes, of which the draft is one; None goes on until nothing changes.
            trace: Keep every step.
        """
        first, canvas = draft.denoised, draft.before
        passes = MAX_TOKENS if steps is None else steps - 1
        fronts = self._fronts(first.canvas, language, memory.states.shape[1])
        if not any(front.tokens for front in fronts) or not passes:
            return _traced(first, canvas, []) if trace else first
        heard = self.model.prepare(memory, [language])
        refiner = self._refiner(pieces)
        found = settled_in_fronts(refiner, heard, fronts, passes)
        found = self._revised(refiner, heard, found, draft, passes)
        settled = self._placed(found, draft)
        if [token for token, _, _ in collapse(settled.canvas)] == found.tokens:  # else the draft was kept
            frames = token_starts(self.model, heard, found.tokens)
            settled = replace(settled, starts=tuple(frame / memory.frame_rate for frame in frames))
        if not trace:
            return settled
        later = found.history[1:]
        history = [self._placed(_as_refined(*read), draft) for read in later]
        return _traced(first, canvas, [*history, settled])

    def _refiner(self, pieces: Tensor) -> Refiner:
        """One for each set of pieces: languages that share it share its table (a quarter of 80 MB)."""
        known = next((r for r in self._refiners if torch.equal(r.pieces, pieces)), None)
        if known is None:
            known = Refiner(self.model, pieces)
            self._refiners.append(known)
        return known

    def _revised(
        self, refiner: Refiner, heard: HeardState, found: Refined, draft: Drafted, passes: int
    ) -> Refined:
        """Second thoughts with the passes that are left, unless the draft will be kept anyway."""
        left = passes - found.steps
        if not found.tokens or left < 1 or self._useless(found.tokens, draft):
            return found
        reviser = Reviser(refiner, heard, partial(self._chances, draft), self._words)
        better = reviser.revise(found.tokens, left)
        if self._useless(better.tokens, draft):
            return found
        history = found.history + better.history
        return Refined(better.tokens, better.confidence, len(history), history)

    def _chances(self, draft: Drafted, texts: Sequence[Sequence[int]]) -> list[float]:
        """CTC's log-probability of each text in the draft's slots."""
        used, heard = self._heard(draft, {token for text in texts for token in text})
        rows = [torch.searchsorted(used, torch.tensor(text, dtype=torch.long)) for text in texts]
        slots = heard[0][:, None].expand(-1, len(texts), -1)
        sizes, counts = torch.full((len(texts),), len(slots)), torch.tensor([len(text) for text in texts])
        losses = F.ctc_loss(slots, pad_sequence(rows, batch_first=True), sizes, counts, reduction="none")
        return (-losses).clamp(min=_NEVER).tolist()

    def _heard(self, draft: Drafted, tokens: set[int]) -> tuple[Tensor, Tensor]:
        """Sorted ids (U,) of null and ``tokens``, and their log-probabilities in the slots, (1, L, U)."""
        used = torch.tensor(sorted({0, *tokens}))
        scores = self.denoiser.logits(draft.hidden, used).float()
        return used, (scores - draft.total[..., None]).clamp(min=_LEAST)

    def _words(self, token: int) -> str:
        """What of a token is a matter of words: not its case, nor its marks and spaces."""
        text = self.vocabulary.bytes_of(token).decode(errors="replace").casefold()
        return "".join(c for c in text if c.isalnum() or not c.isascii())

    def _fronts(self, canvas: Tensor, language: str, frames: int) -> list[Front]:
        """The draft's tokens as one front, or as many as the model was trained for."""
        most = self.model.config.front or len(canvas)
        return cut(collapse(canvas), self.vocabulary, language, most, self._times, frames)

    def _useless(self, tokens: Sequence[int], draft: Drafted) -> bool:
        """Whether they do not fit the slots, or the refiner went astray."""
        needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
        canvas = draft.denoised.canvas
        return needed > len(canvas) or astray(tokens, [token for token, _, _ in collapse(canvas)])

    def _placed(self, found: Refined, draft: Drafted) -> Denoised:
        """The tokens on their slots; the draft where they do not fit or the refiner went astray."""
        tokens, first, size = found.tokens, draft.denoised, len(draft.denoised.canvas)
        if self._useless(tokens, draft):
            return Denoised(first.canvas, first.confidence, 1 + found.steps)
        if not tokens:
            return Denoised(torch.zeros_like(first.canvas), first.confidence, 1 + found.steps)
        used, heard = self._heard(draft, set(tokens))
        targets = torch.searchsorted(used, torch.tensor([tokens]))
        slots, count = torch.tensor([size]), torch.tensor([len(tokens)])
        placed = used[forced_canvas(heard, slots, targets, count)[0]]
        confidence = torch.ones(len(placed))
        for (_, a, b), chance in zip(collapse(placed), found.confidence, strict=True):
            confidence[a : b + 1] = chance
        return Denoised(placed, confidence, 1 + found.steps)


def astray(tokens: Sequence[int], draft: Sequence[int]) -> bool:
    """Whether a refiner got into a loop that its draft is not in, or left most of the draft out.

    As every autoregressive decoder it may; a draft that hears each slot does not.
    """
    if len(draft) >= FEW and 0 < len(tokens) < LOST * len(draft):
        return True
    return looped(tokens) and not looped(draft)


def looped(tokens: Sequence[int]) -> bool:
    """Whether one to four tokens stand there ``LOOP`` times in a row."""
    for size in range(1, 5):
        same = 0
        for before, token in zip(tokens, tokens[size:], strict=False):
            same = same + 1 if before == token else 0
            if same >= (LOOP - 1) * size:
                return True
    return False


def settled_in_fronts(refiner: Refiner, state: HeardState, fronts: Sequence[Front], passes: int) -> Refined:
    """Settle ``fronts`` side by side, then their text as a whole, in at most ``passes`` passes.

    A front that hears its own time alone may miss what the rest would tell, and words at its cuts.
    """
    if len(fronts) == 1:
        return refiner.settle(state, fronts[0].tokens, passes)
    limit = passes if passes == MAX_TOKENS else max(1, round(passes * FRONT_SHARE))
    parts = refiner.settle_fronts(state, fronts, limit)
    if parts.steps == passes:
        return parts
    whole = refiner.settle(state, parts.tokens, passes - parts.steps)
    return Refined(whole.tokens, whole.confidence, parts.steps + whole.steps, parts.history + whole.history)


def _as_refined(tokens: list[int], settled: list[bool]) -> Refined:
    return Refined(tokens, [1.0 if sure else 0.5 for sure in settled], 0, ())


def _traced(first: Denoised, canvas: Tensor, later: list[Denoised]) -> Denoised:
    """The last of the steps, with all of them as its trace; the draft leaves every slot open."""
    steps = [TraceStep(1, canvas, first.canvas, first.confidence, torch.zeros_like(canvas, dtype=torch.bool))]
    before = first
    for n, now in enumerate(later, start=2):
        kept = now.confidence != 0.5 if n <= len(later) else torch.ones_like(steps[0].accepted)
        steps.append(TraceStep(n, before.canvas, now.canvas, now.confidence, kept))
        before = now
    return Denoised(before.canvas, before.confidence, len(steps), tuple(steps), before.starts)
