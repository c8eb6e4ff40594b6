"""What the draft's slots say about the text of a sweep, and how much of it is believed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.drafting import Draft
from diffusion_asr.decoding.sweeps.rule import SweepRule


@dataclass(frozen=True)
class Evidence:
    """What the draft's slots say of each scored piece, near a time.

    Attributes:
        best: (L, S) the best log-probability within a few slots of each slot.
        slot_seconds: Length of a slot.
        weight: Nats of a judgement for each nat of the slots.
    """

    best: Tensor
    slot_seconds: float
    weight: float

    @classmethod
    def of(cls, draft: Draft, pieces: Tensor, rule: SweepRule) -> Evidence:
        """By the draft's distributions; the end of text (column 0) is no slot's business."""
        chances = draft.denoiser.logits(draft.hidden[0], pieces).float()
        chances.sub_(draft.total[0, :, None]).clamp_(min=rule.floor)
        best = F.max_pool1d(chances.T[None], 2 * rule.near + 1, 1, rule.near)[0].T.contiguous()
        best[:, 0] = 0.0
        decoded = draft.decoded
        weight = weigh_evidence(decoded.confidence[decoded.canvas != 0], rule)
        return cls(best, decoded.slot_seconds, weight)

    def at(self, seconds: Tensor, columns: Tensor | None = None) -> Tensor:
        """(N,) times on the canvas's own clock to weighted nats, (N, S), or (N, C) of some ``columns``."""
        rows = (seconds / self.slot_seconds).round().long().clamp(0, len(self.best) - 1)
        best = self.best[rows] if columns is None else self.best[rows[:, None], columns]
        return best * self.weight


def weigh_evidence(confidence: Tensor, rule: SweepRule) -> float:
    """A draft is believed as far as it believes itself: by the mean probability of its tokens, (N,)."""
    mean = float(confidence.mean()) if len(confidence) else 0.0
    return min(rule.evidence, max(0.0, rule.trust * (mean - rule.doubtful)))
