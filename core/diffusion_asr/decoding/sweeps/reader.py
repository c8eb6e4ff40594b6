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
        scores: (N + 1, S) log-probabilities of the scored pieces: after each prefix, and after the whole.
        frames: (N + 1,) encoder frame at which the decoder listens for what comes next.
    """

    scores: Tensor
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
        used = [len(canvas) + 1 for canvas in canvases]
        rows = torch.cat([states[:size] for states, size in zip(hidden, used, strict=True)])
        scores = torch.split(self.scorer.scores(rows).float().log_softmax(-1), used)
        return [Reading(s, f[:n]) for s, f, n in zip(scores, frames, used, strict=True)]

    def _through(self, canvases: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) tokens to final states (B, N + 1, D) and the alignment heads' weights (B, N + 1, T)."""
        model, state, size = self.model, self.state, len(canvases)
        keys = [k.expand(size, -1, -1, -1) for k in state.keys]
        values = [v.expand(size, -1, -1, -1) for v in state.values]
        prompt = state._replace(prompt=state.prompt.expand(size, -1, -1))
        x, causal = model.inputs(canvases, prompt)
        weights = torch.zeros(size, canvases.shape[1] + 1, keys[0].shape[2])
        for n, layer in enumerate(model.layers):
            assert isinstance(layer, DecoderLayer)
            x = layer.attend_to_canvas(x, causal)
            if heads := [head for head in HEADS.get(n, ()) if head < keys[n].shape[1]]:
                weights += listen_weights(layer, x, keys[n], heads)
            x = layer.attend_to_memory(x, keys[n], values[n])
        return model.layer_norm(x)[:, PROMPT - 1 :], weights


def listen_weights(layer: DecoderLayer, x: Tensor, keys: Tensor, heads: Sequence[int]) -> Tensor:
    """Summed cross-attention of some heads, (B, P + N, D) to (B, N + 1, T): where each place listens."""
    cross = layer.encoder_attn
    queries = cross.split(cross.q_proj(layer.encoder_attn_layer_norm(x)))[
        :, list(heads), PROMPT - 1 :
    ].float()
    scaled = queries @ keys[:, list(heads)].float().transpose(-1, -2) / keys.shape[-1] ** 0.5
    return scaled.softmax(-1).sum(1)  # type: ignore[no-any-return]
