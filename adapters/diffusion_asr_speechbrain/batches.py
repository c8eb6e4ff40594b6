"""SpeechBrain's padded batches and autocast, and what core takes instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.audio.files import convert_to_mono
from diffusion_asr.errors import AudioError

P = ParamSpec("P")
R = TypeVar("R")


def in_core_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Keep ``eval_precision: bf16`` and the like out of core, which chooses its own precision."""
    decorated: Callable[P, R] = torch.autocast("cpu", enabled=False)(function)
    return decorated


def memory_of(states: Tensor) -> AcousticMemory:
    """States (B, T, D), zero behind a clip's end, as core's memory."""
    states = states.detach().cpu()
    return AcousticMemory(states, states.abs().sum(-1) > 0, 50.0)


def shares_memory(one: Tensor, other: Tensor) -> bool:
    """Whether they are the same numbers in the same place, detached or not."""
    return one.shape == other.shape and one.device == other.device and one.data_ptr() == other.data_ptr()


def split_batch(wavs: Tensor, wav_lens: Tensor | None) -> list[Tensor]:
    """Each clip of a padded batch, (samples,) float32 on the CPU.

    Raises:
        AudioError: No batch of clips, or values that no sound has.
    """
    if wavs.ndim not in (2, 3) or wavs.numel() == 0:
        raise AudioError(f"waveforms must be (batch, samples), not {tuple(wavs.shape)}")
    wavs = wavs.detach().cpu()
    if wav_lens is None:
        sound = wavs if wavs.ndim == 2 else wavs.abs().amax(-1)
        ends = ((sound != 0) * torch.arange(1, wavs.shape[1] + 1)).amax(1)
    else:
        ends = (wav_lens.detach().cpu() * wavs.shape[1]).round().long()
        if ends.shape != (len(wavs),) or int(ends.max()) > wavs.shape[1] or int(ends.min()) < 0:
            raise AudioError(
                f"wav_lens {wav_lens.tolist()}: give one for each of {len(wavs)} clips, from 0 to 1"
            )
    pairs = zip(wavs, ends.clamp(min=1).tolist(), strict=True)
    return [torch.from_numpy(convert_to_mono(clip[:n])) for clip, n in pairs]
