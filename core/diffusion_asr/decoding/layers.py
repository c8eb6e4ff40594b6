"""Whisper's decoder layer, for every network here that reads a canvas."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import SelfAttention

PROMPT = 4  # start, language, transcribe, no timestamps: as Whisper was trained


class CrossAttention(SelfAttention):
    """Slots attend to acoustic states; keys and values are computed once."""

    def project(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) to keys and values (B, H, T, D / H)."""
        return self.split(self.k_proj(states)), self.split(self.v_proj(states))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        heard = F.scaled_dot_product_attention(self.split(self.q_proj(x)), keys, values, attn_mask=bias)
        return self.out_proj(heard.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Whisper's decoder layer; parameter names are those of ``transformers``."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(d_model, heads)
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.encoder_attn = CrossAttention(d_model, heads)
        self.encoder_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = nn.Linear(d_model, 4 * d_model)
        self.fc2 = nn.Linear(4 * d_model, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)

    def forward(
        self, x: Tensor, self_bias: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
    ) -> Tensor:
        """(B, P + L, D) to (B, P + L, D)."""
        return self.attend_to_memory(self.attend_to_canvas(x, self_bias), keys, values, bias)

    def attend_to_canvas(self, x: Tensor, self_bias: Tensor) -> Tensor:
        """``forward`` up to its cross-attention."""
        return x + self.self_attn(self.self_attn_layer_norm(x), self_bias)  # type: ignore[no-any-return]

    def attend_to_memory(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """``forward`` from its cross-attention on."""
        x = x + self.encoder_attn.attend(self.encoder_attn_layer_norm(x), keys, values, bias)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))  # type: ignore[no-any-return]

    def extend(
        self,
        x: Tensor,
        known: tuple[Tensor, Tensor] | None,
        mask: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """``forward`` for positions that follow ``known`` self-attention keys and values; the grown pair.

        ``mask`` (n, known + n) says what each position attends to.
        """
        own, normed = self.self_attn, self.self_attn_layer_norm(x)
        k, v = own.split(own.k_proj(normed)), own.split(own.v_proj(normed))
        if known is not None:
            k, v = torch.cat([known[0], k], dim=2), torch.cat([known[1], v], dim=2)
        seen = F.scaled_dot_product_attention(own.split(own.q_proj(normed)), k, v, attn_mask=mask)
        x = x + own.out_proj(seen.transpose(1, 2).flatten(2))
        return self.attend_to_memory(x, keys, values), (k, v)
