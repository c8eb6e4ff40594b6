"""When each token of a text is said, from the cross-attention of the pass that read it last.

As Whisper's word times (Radford et al. 2023; openai/whisper, ``timing.py``): some of its decoder's heads
attend to the sound of the token that comes next. Their weights are normalised over the tokens and smoothed;
the likeliest way to cut time into one stretch a token then says where each begins.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

HEADS = {3: (1,), 4: (2, 3, 7), 5: (1, 2, 4, 6)}  # of Whisper base's layers, as published with it
_SMOOTH = 7  # frames
_RISEN = 0.5  # of the highest
_LONGEST = 30  # frames of a token's sound


def find_token_starts(listening: Tensor) -> list[int]:
    """The frame in which each of N tokens begins, N < T.

    Args:
        listening: (N + 1, T) how much the alignment heads attend to each frame, before each token and the end.
    """
    edges = segment_frames(smooth_gains(standardise_weights(listening)))
    stretches = zip(listening, edges, edges[1:], strict=False)
    return [first + find_onset(row[first:end]) for row, first, end in stretches]


def standardise_weights(weights: Tensor) -> Tensor:
    """(N, T): each frame's weights in deviations from their mean."""
    spread = weights.std(0, keepdim=True, correction=0).clamp(min=1e-6)
    return (weights - weights.mean(0, keepdim=True)) / spread


def smooth_gains(gains: Tensor) -> Tensor:
    """(N, T): medians of neighbouring frames. Of the heads' sum, which is one eighth of Whisper's work."""
    padded = F.pad(gains[None], (_SMOOTH // 2, _SMOOTH // 2), mode="replicate")[0]
    return padded.unfold(-1, _SMOOTH, 1).median(-1).values


def find_onset(weights: Tensor) -> int:
    """The frame of a token's stretch (T,) in which it begins: a long one has silence in it, before or after.

    There it is where the weights rise, shortly before they are highest.
    """
    if len(weights) <= _LONGEST:
        return 0
    peak = int(weights.argmax())
    earliest = max(0, peak - _LONGEST)
    return earliest + int((weights[earliest : peak + 1] >= _RISEN * weights[peak]).nonzero()[0])


def segment_frames(gains: Tensor) -> list[int]:
    """First frames of the stretches, one for each row of (N, T), that gain most; N must not exceed T."""
    rows, frames = gains.shape
    so_far = F.pad(gains.double().cumsum(1), (1, 0))
    best, entered = so_far[0, 1:], [torch.zeros(frames, dtype=torch.long)]
    for n in range(1, rows):
        before = F.pad(best[:-1], (1, 0), value=-torch.inf) - so_far[n, :-1]  # of entering in each frame
        most, where = before.cummax(0)
        best = most + so_far[n, 1:]
        entered.append(where)
    starts, last = [0] * rows, frames - 1
    for n in range(rows - 1, -1, -1):
        starts[n] = int(entered[n][last])
        last = starts[n] - 1
    return starts
