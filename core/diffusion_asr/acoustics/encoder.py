"""Whisper's acoustic encoder (Radford et al. 2022, section 2.2) in plain torch, at real length.

Parameter names are those of ``transformers.WhisperEncoder``, so published weights load as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.features import HOP, SAMPLE_RATE, LogMel
from diffusion_asr.errors import AudioError


@dataclass(frozen=True, slots=True)
class AcousticMemory:
    """What the encoder heard.

    Attributes:
        states: (B, T, D) acoustic states, zero where ``mask`` is False.
        mask: (B, T) bool, True on real frames.
        frame_rate: States per second.
        tail: (B,) how many of a clip's last frames are silence that the encoder added; None is none.
        lower: (B, T, D) states below the encoder's top layers, for who has top layers of its own; None where
            nobody asked for them (``EncoderConfig.tap``).
    """

    states: Tensor
    mask: Tensor
    frame_rate: float
    tail: Tensor | None = None
    lower: Tensor | None = None

    def __len__(self) -> int:
        return len(self.states)

    def clip(self, row: int) -> AcousticMemory:
        """One clip without its padding, as a batch of one."""
        size = int(self.mask[row].sum())
        tail = None if self.tail is None else self.tail[row : row + 1]
        lower = None if self.lower is None else self.lower[row : row + 1, :size]
        own = slice(row, row + 1), slice(size)
        return AcousticMemory(self.states[own], self.mask[own], self.frame_rate, tail, lower)

    def trainable(self) -> AcousticMemory:
        """In tensors that a gradient may pass by: an encoder's own are of inference mode."""
        return replace(self, states=self.states.clone(), mask=self.mask.clone())

    def spoken(self) -> AcousticMemory:
        """Without the tail."""
        if self.tail is None:
            return self
        frames = torch.arange(self.mask.shape[1], device=self.mask.device)
        mask = frames < (self.lengths - self.tail)[:, None]
        return AcousticMemory(self.states * mask[..., None], mask, self.frame_rate)

    @property
    def lengths(self) -> Tensor:
        """(B,) number of real frames."""
        return self.mask.sum(dim=1)

    @property
    def seconds(self) -> Tensor:
        """(B,) duration of each clip in seconds, without an added tail."""
        spoken = self.lengths if self.tail is None else self.lengths - self.tail
        return spoken / self.frame_rate


class Encoder(Protocol):
    """Waveforms to acoustic memory."""

    def encode(self, waveforms: Tensor, lengths: Tensor | None = None) -> AcousticMemory:
        """Encode (B, samples) float32 at 16 kHz; ``lengths`` (B,) in samples."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Sizes of a Whisper encoder; the defaults are Whisper base's.

    ``tail`` is how many seconds of silence it hears after a clip, where 30 s leave room. Whisper was trained
    on clips padded to 30 s: one second of that is enough to make it write ends as well (RUNS.md), and cheap.
    ``tap`` is after how many layers ``AcousticMemory.lower`` is taken; 0 is never.
    """

    n_mels: int = 80
    d_model: int = 512
    layers: int = 6
    heads: int = 8
    max_frames: int = 1500
    tail: float = 0.0
    tap: int = 0


class SelfAttention(nn.Module):
    """Multi-head self-attention; the key projection has no bias, as in Whisper."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def split(self, x: Tensor) -> Tensor:
        """(B, L, D) to (B, heads, L, D / heads)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend over ``x`` (B, L, D); ``mask`` broadcasts to (B, heads, L, L), True (or 0.0) = visible."""
        q, k, v = self.split(self.q_proj(x)), self.split(self.k_proj(x)), self.split(self.v_proj(x))
        heard = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(heard.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(d_model, heads)
        self.self_attn_layer_norm = nn.LayerNorm(d_model)
        self.fc1 = nn.Linear(d_model, 4 * d_model)
        self.fc2 = nn.Linear(4 * d_model, d_model)
        self.final_layer_norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))  # type: ignore[no-any-return]


def compute_sinusoids(length: int, width: int) -> Tensor:
    """(length, width) Whisper's encoder positions (its ``sinusoids``): never trained, so never stored."""
    step = math.log(10_000) / (width // 2 - 1)
    rates = torch.exp(-step * torch.arange(width // 2, dtype=torch.float64))
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


class WhisperEncoder(nn.Module):
    """Log-mel features, two convolutions (stride 2) and transformer layers: 50 states a second."""

    frame_rate = 50.0

    def __init__(self, config: EncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or EncoderConfig()
        d = self.config.d_model
        self.log_mel = LogMel(self.config.n_mels)
        self.conv1 = nn.Conv1d(self.config.n_mels, d, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(d, d, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(self.config.max_frames, d)
        self.layers = nn.ModuleList(EncoderLayer(d, self.config.heads) for _ in range(self.config.layers))
        self.layer_norm = nn.LayerNorm(d)

    def forward(self, mel: Tensor) -> Tensor:
        """Encode (B, n_mels, frames) at 100 Hz into (B, ceil(frames / 2), D)."""
        return self.layer_norm(self.climb(self.embed(mel), self.layers))  # type: ignore[no-any-return]

    def embed(self, mel: Tensor) -> Tensor:
        """What the first layer reads."""
        x = F.gelu(self.conv1(mel.to(self.conv1.weight.dtype)))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        return x + self.embed_positions.weight[: x.shape[1]]

    def climb(self, x: Tensor, layers: nn.ModuleList) -> Tensor:
        """``x`` (B, T, D) through some of its layers."""
        for layer in layers:
            x = layer(x, None)
        return x

    def _tapped(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """``forward``, and the states after ``tap`` layers."""
        lower = self.climb(self.embed(mel), self.layers[: self.config.tap])
        return self.layer_norm(self.climb(lower, self.layers[self.config.tap :])), lower

    @torch.inference_mode()
    def encode(self, waveforms: Tensor, lengths: Tensor | None = None) -> AcousticMemory:
        """See ``Encoder.encode``. Clips may be up to ``max_frames / frame_rate`` seconds long.

        Clips go through one by one: on a CPU that is four times faster than a padded batch with masks
        (measured, bf16, 8 clips of mixed length), and a clip's states cannot depend on its neighbours.
        """
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        most = round(self.config.max_frames / self.frame_rate * SAMPLE_RATE)
        tail = round(self.config.tail * SAMPLE_RATE)
        heard = (lengths + tail).clamp(max=most).maximum(lengths)
        waveforms = F.pad(waveforms.float(), (0, max(0, int(heard.max()) - waveforms.shape[1])))
        mel, frames = self.log_mel(waveforms, heard)
        clips = [clip[None, :, :n] for clip, n in zip(mel, frames.tolist(), strict=True)]
        lower = None
        if self.config.tap:
            both = [self._tapped(clip) for clip in clips]
            states = [top[0] for top, _ in both]
            lower = nn.utils.rnn.pad_sequence([below[0] for _, below in both], batch_first=True)
        else:
            states = [self(clip)[0] for clip in clips]
        used = torch.tensor([len(s) for s in states], device=lengths.device)
        mask = torch.arange(int(used.max()), device=used.device) < used[:, None]
        padded = nn.utils.rnn.pad_sequence(states, batch_first=True)
        spoken = ((lengths // HOP).clamp(min=1) + 1) // 2  # states: the second convolution has stride 2
        return AcousticMemory(padded, mask, self.frame_rate, used - spoken if tail else None, lower)


def check_waveforms(waveforms: Tensor, lengths: Tensor | None) -> None:
    """Raise ``AudioError`` unless these can be encoded; see ``Recognizer.encode``."""
    if waveforms.ndim != 2 or waveforms.shape[1] == 0 or len(waveforms) == 0:
        raise AudioError(f"waveforms must be (batch, samples), not {tuple(waveforms.shape)}")
    most = int(30 * SAMPLE_RATE)
    if waveforms.shape[1] > most:
        seconds = waveforms.shape[1] / SAMPLE_RATE
        raise AudioError(f"a clip of {seconds:.1f} s: encode takes 30 s at most; use transcribe")
    if lengths is not None:
        fits = lengths.shape == (len(waveforms),) and int(lengths.min()) > 0
        if not fits or int(lengths.max()) > waveforms.shape[1]:
            shape = tuple(waveforms.shape)
            raise AudioError(
                f"lengths {lengths.tolist()} do not fit waveforms {shape}: one for each, above 0"
            )
    if not bool(torch.isfinite(waveforms).all()):
        raise AudioError("waveforms hold NaN or infinite samples; repair or drop the clip")
