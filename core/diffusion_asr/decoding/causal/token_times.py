"""When each token of a settled text is said, from the refiner's cross-attention.

As Whisper's word times (Radford et al. 2023; openai/whisper, ``timing.py``): some of its decoder's heads
attend to the sound of the token that comes next. Their weights are normalised over the tokens and smoothed;
the likeliest way to cut time into one stretch a token then says where each begins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.causal.model import CausalRefiner, RefinerState
from diffusion_asr.decoding.layers import PROMPT, DecoderLayer

HEADS = {3: (1,), 4: (2, 3, 7), 5: (1, 2, 4, 6)}  # of Whisper base's layers, as published with it
_SMOOTH = 7  # frames
_RISEN = 0.5  # of the highest
_LONGEST = 30  # frames of a token's sound


@torch.inference_mode()
def find_token_starts(model: CausalRefiner, state: RefinerState, tokens: Sequence[int]) -> list[int]:
    """The frame in which each of ``tokens`` begins; none if there are too many, or the model has other heads.

    Args:
        model: The refiner.
        state: Of one clip.
        tokens: (N,) its settled text.
    """
    frames = state.keys[0].shape[2]
    known = max(HEADS) < len(model.layers) and max(map(max, HEADS.values())) < state.keys[0].shape[1]
    if not tokens or len(tokens) >= frames or not known:
        return []
    gains, weights = align_tokens(model, state, tokens)
    return find_onsets(weights, segment_frames(gains))


def cut_frames(listening: Tensor) -> list[int]:
    """The frame in which each of N tokens begins, N < T, by the heads' summed weights (N + 1, T) alone."""
    return find_onsets(listening, segment_frames(smooth_gains(standardise_weights(listening))))


def find_onsets(weights: Tensor, edges: Sequence[int]) -> list[int]:
    """The frame in each token's stretch in which it begins; ``edges`` are the stretches' first frames."""
    stretches = zip(weights, edges, edges[1:], strict=False)
    return [first + find_onset(row[first:end]) for row, first, end in stretches]


def align_tokens(model: CausalRefiner, state: RefinerState, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
    """How much of each frame belongs to each token and to the end; all heads' weights. (N + 1, T) both."""
    x, causal = model.inputs(torch.tensor([tokens], dtype=torch.long), state)
    total = torch.zeros(len(tokens) + 1, state.keys[0].shape[2])
    heard = torch.zeros_like(total)
    for n, layer in enumerate(model.layers):
        assert isinstance(layer, DecoderLayer)
        x = layer.attend_to_canvas(x, causal)
        if n in HEADS:
            cross = layer.encoder_attn
            queries = cross.split(cross.q_proj(layer.encoder_attn_layer_norm(x)))[0, :, PROMPT - 1 :].float()
            for head in HEADS[n]:
                keys = state.keys[n][0, head].float()
                weights = (queries[head] @ keys.T / keys.shape[-1] ** 0.5).softmax(-1)
                heard += weights
                total += standardise_weights(weights)
        x = layer.attend_to_memory(x, state.keys[n], state.values[n])
    return smooth_gains(total), heard


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
