"""CTC forced alignment: the most probable canvas that collapses to a given text (Graves et al. 2006)."""

from __future__ import annotations

import torch
from torch import Tensor


def align_canvas(log_probs: Tensor, slots: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """Viterbi path through CTC's states.

    Args:
        log_probs: (B, L, V) log-probabilities, null at id 0.
        slots: (B,) usable slots of each clip.
        targets: (B, N) token ids, padded with 0.
        counts: (B,) real tokens of each clip; ``counts`` (plus repeats) must fit into ``slots``.

    Returns:
        Canvas (B, L): a token or null in each slot. A clip whose text does not fit is all null.
    """
    batch, length, _ = log_probs.shape
    states = 2 * targets.shape[1] + 1
    labels = targets.new_zeros(batch, states)
    labels[:, 1::2] = targets
    emit = log_probs.gather(2, labels[:, None].expand(-1, length, -1))
    skip = torch.zeros(batch, states, dtype=torch.bool, device=emit.device)
    skip[:, 3::2] = targets[:, 1:] != targets[:, :-1]
    low = torch.finfo(emit.dtype).min / 4
    score = torch.full((batch, states), low, device=emit.device)
    score[:, :2] = emit[:, 0, :2]
    back = torch.zeros(batch, length, states, dtype=torch.long, device=emit.device)
    for t in range(1, length):
        one = torch.cat([score.new_full((batch, 1), low), score[:, :-1]], dim=1)
        two = torch.cat([score.new_full((batch, 2), low), score[:, :-2]], dim=1).masked_fill(~skip, low)
        best, step = torch.stack([score, one, two]).max(dim=0)
        back[:, t] = step
        score = torch.where((t < slots)[:, None], best + emit[:, t], score)
        back[:, t] = torch.where((t < slots)[:, None], step, 0)
    last, token = (2 * counts)[:, None], (2 * counts - 1).clamp(min=0)[:, None]
    state = torch.where(score.gather(1, last) >= score.gather(1, token), last, token)
    path = torch.zeros(batch, length, dtype=torch.long, device=emit.device)
    for t in range(length - 1, -1, -1):
        path[:, t] = labels.gather(1, state)[:, 0]
        state = state - back[:, t].gather(1, state)
    return torch.where(torch.arange(length, device=emit.device) < slots[:, None], path, 0)
