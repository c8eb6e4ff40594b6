"""The encoder's log-mel spectrogram as NeMo's ``preprocessor``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from diffusion_asr.acoustics.features import HOP, N_FFT, SAMPLE_RATE, LogMel


class CanvasPreprocessor(nn.Module):
    """Waveforms to features, with the signature of ``AudioToMelSpectrogramPreprocessor``."""

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        self.featurizer = log_mel

    def forward(self, input_signal: Tensor, length: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (B, n_mels, frames) of (B, samples) at 16 kHz, 100 a second, and each clip's number."""
        device = input_signal.device
        mel, frames = self.featurizer(input_signal.cpu().float(), None if length is None else length.cpu())
        return mel.to(device), frames.to(device)


def preprocessor_section(n_mels: int) -> dict[str, Any]:
    """The section ``preprocessor`` of a model's configuration, in NeMo's units (seconds)."""
    return {
        "sample_rate": SAMPLE_RATE, "window": "hann", "window_size": N_FFT / SAMPLE_RATE,
        "window_stride": HOP / SAMPLE_RATE, "n_fft": N_FFT, "features": n_mels, "log": True, "dither": 0.0,
        "pad_to": 0, "frame_splicing": 1,
    }  # fmt: skip
