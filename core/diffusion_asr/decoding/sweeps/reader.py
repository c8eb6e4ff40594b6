"""One parallel pass: Whisper's decoder reads whole canvases of tokens, and tells what and when it hears.

The decoder's weights need their causal mask, so a place is judged after what stands before it; but all places
of all canvases are read in one call, and every one of them may change by what the call says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.causal.model import END, CausalRefiner, RefinerState
from diffusion_asr.decoding.causal.scorer import PieceScorer
from diffusion_asr.decoding.causal.token_times import HEADS
from diffusion_asr.decoding.layers import PROMPT, DecoderLayer

_SMOOTH = 7  # frames over which the alignment heads' weights are averaged


@dataclass(frozen=True)
class Reading:
    """What a pass says about one canvas of N tokens.

    Attributes:
        states: (N + 1, D) final states: after each prefix, and after the whole.
        listening: (N + 1, T) weights with which the alignment heads attend to each encoder frame there.
        frames: (N + 1,) encoder frame at which the decoder listens for what comes next.
    """

    states: Tensor
    listening: Tensor
    frames: Tensor


class CanvasReader:
    """Reads canvases of one clip."""

    def __init__(self, model: CausalRefiner, scorer: PieceScorer, state: RefinerState) -> None:
        self.model, self.scorer, self.state = model, scorer, state

    @torch.inference_mode()
    def read(self, canvases: Sequence[Sequence[int]]) -> list[Reading]:
        """One pass over B canvases side by side, padded at the right, where nothing reads the padding."""
        longest = max(len(canvas) for canvas in canvases)
        padded = torch.tensor([[*canvas, *[END] * (longest - len(canvas))] for canvas in canvases])
        hidden, weights = self._through(padded.reshape(len(canvases), longest))
        frames = F.avg_pool1d(weights, _SMOOTH, 1, _SMOOTH // 2).argmax(-1)
        rows = zip(hidden, weights, frames, canvases, strict=True)
        return [Reading(s[: len(c) + 1], w[: len(c) + 1], f[: len(c) + 1]) for s, w, f, c in rows]

    def _through(self, canvases: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) tokens to final states (B, N + 1, D) and the alignment heads' weights (B, N + 1, T)."""
        model, state, size = self.model, self.state, len(canvases)
        prompt = state._replace(prompt=state.prompt.expand(size, -1, -1))
        x, causal = model.inputs(canvases, prompt)
        weights = torch.zeros(size, canvases.shape[1] + 1, state.keys[0].shape[2])
        for n, layer in enumerate(model.layers):
            assert isinstance(layer, DecoderLayer)
            x = layer.attend_to_canvas(x, causal)
            # All canvases attend to the same memory: to attention they are one long canvas.
            row, keys, values = x.reshape(1, -1, x.shape[-1]), state.keys[n], state.values[n]
            if heads := [head for head in HEADS.get(n, ()) if head < keys.shape[1]]:
                weights += listen_weights(layer, x, keys, heads)
            x = layer.attend_to_memory(row, keys, values).view_as(x)
        return model.layer_norm(x)[:, PROMPT - 1 :], weights


def listen_weights(layer: DecoderLayer, x: Tensor, keys: Tensor, heads: Sequence[int]) -> Tensor:
    """Summed cross-attention of some heads, (B, P + N, D) to (B, N + 1, T): where each place listens."""
    cross = layer.encoder_attn
    normed = layer.encoder_attn_layer_norm(x[:, PROMPT - 1 :])
    queries = cross.split(cross.q_proj(normed))[:, list(heads)].float()
    scaled = queries @ keys[:, list(heads)].float().transpose(-1, -2) / keys.shape[-1] ** 0.5
    return scaled.softmax(-1).sum(1)  # type: ignore[no-any-return]
