"""Log-mel spectrogram, as Whisper computes it, for audio of any length.

Equal to ``transformers.WhisperFeatureExtractor`` within 1e-4 where that one sees the same samples;
here nothing is padded to 30 s. Each clip is normalised by its own maximum, so padding a clip in a
batch never changes its features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLE_RATE = 16_000
N_FFT = 400
HOP = 160
N_MELS = 80
PADDED_SAMPLES = 30 * SAMPLE_RATE


def _hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney's mel scale: linear below 1 kHz, logarithmic above."""
    return torch.where(
        hz < 1000, hz * 3 / 200, 15 + torch.log(hz.clamp(min=1e-9) / 1000) * 27 / math.log(6.4)
    )


def _mel_to_hz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))


def compute_mel_filters(n_mels: int = N_MELS) -> Tensor:
    """Triangular Slaney-normalised filters, shape (n_mels, N_FFT // 2 + 1)."""
    fft_hz = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64)
    top = _hz_to_mel(torch.tensor(SAMPLE_RATE / 2, dtype=torch.float64)).item()
    hz = _mel_to_hz(torch.linspace(0, top, n_mels + 2, dtype=torch.float64))
    width = hz.diff()
    ramps = hz[:, None] - fft_hz[None]
    rising = -ramps[:-2] / width[:-1, None]
    falling = ramps[2:] / width[1:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return (triangles * (2 / (hz[2:] - hz[:-2]))[:, None]).float()


def _padded(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Half a window of context on both sides, as Whisper's extractor gives it.

    Reflected at the start; at the end silence, because Whisper pads to 30 s (two hops more of it, for
    the frames that still hear the last sample), but reflected for clips of 30 s or more.
    """
    half = N_FFT // 2
    padded = F.pad(waveforms, (half, half + 2 * HOP + max(0, half + 1 - waveforms.shape[1])))
    padded[:, :half] = padded[:, half + 1 : N_FFT + 1].flip(1)
    for clip in (lengths >= PADDED_SAMPLES).nonzero().flatten().tolist():
        end = half + int(lengths[clip])
        padded[clip, end : end + half] = padded[clip, end - 1 - half : end - 1].flip(0)
    return padded


class LogMel(torch.nn.Module):
    """Waveforms at 16 kHz to log-mel frames at 100 Hz."""

    def __init__(self, n_mels: int = N_MELS) -> None:
        super().__init__()
        with torch.device("cpu"):  # computed, not loaded: they exist also in a model built on "meta"
            self.register_buffer("filters", compute_mel_filters(n_mels), persistent=False)
            self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)
        self.filters: Tensor
        self.window: Tensor

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute features.

        Args:
            waveforms: (B, samples) float32 in [-1, 1], zero-padded at the right.
            lengths: (B,) samples of each clip; None means that all are full.

        Returns:
            ``(mel (B, n_mels, frames), frames (B,))``; frames past a clip's end hold its floor value.
        """
        if lengths is None:
            lengths = torch.full((len(waveforms),), waveforms.shape[1], device=waveforms.device)
        spectrum = torch.stft(
            _padded(waveforms, lengths), N_FFT, HOP, window=self.window, center=False, return_complex=True
        )
        power = spectrum.abs().square()
        log = (self.filters @ power).clamp(min=1e-10).log10()
        frames = (lengths // HOP).clamp(min=1)
        count = torch.arange(log.shape[-1], device=log.device)
        heard = torch.where(lengths < PADDED_SAMPLES, (lengths + N_FFT // 2 - 1) // HOP + 1, frames)
        peak = log.masked_fill(count >= heard[:, None, None], -10.0).amax(dim=(1, 2), keepdim=True)
        log = torch.maximum(log, peak - 8.0)
        log = torch.where(count < frames[:, None, None], log, peak - 8.0)
        return (log[..., : int(frames.max())] + 4.0) / 4.0, frames
