"""Waveforms for the model: mono, 16 kHz, float32, padded to one length."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor

from diffusion_asr.audio.files import SAMPLE_RATE, Samples, convert_to_mono, read_audio
from diffusion_asr.audio.sources import is_readable
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_transformers.arguments import PipelineInputError
from diffusion_asr_transformers.clips import list_clips, open_clip

_WINDOW = 30 * SAMPLE_RATE  # what Whisper's extractor pads to
_ALIAS = {"input_features": "input_values"}  # Whisper's name for what its model takes


class SpeechBatch(BatchFeature):  # type: ignore[misc]
    """``input_values`` and ``attention_mask``; the samples can be had as ``input_features`` too.

    Samples stay float32 when a script casts its inputs to the model's precision: bfloat16 would leave them
    8 bits, which is noise that one hears.
    """

    def __getitem__(self, item: str) -> Any:
        return super().__getitem__(_ALIAS.get(item, item))

    def __getattr__(self, item: str) -> Any:
        return super().__getattr__(_ALIAS.get(item, item))

    def to(self, *args: Any, **kwargs: Any) -> SpeechBatch:
        """Move to a device; a ``dtype`` is left out."""
        kwargs.pop("dtype", None)
        places = [arg for arg in args if not isinstance(arg, torch.dtype)]
        if places or kwargs.get("device") is not None:
            super().to(*places, **kwargs)
        return self


class DiffusionASRFeatureExtractor(SequenceFeatureExtractor):  # type: ignore[misc]
    """Recordings to ``input_values`` (B, samples) float32 and ``attention_mask`` (B, samples).

    Mel features are the recogniser's own matter: it finds speech in the waveform first, so that recordings
    may have any length and nothing is cut off.

    Example:
        >>> DiffusionASRFeatureExtractor()(samples, sampling_rate=16_000, return_tensors="pt").input_values
    """

    model_input_names = ["input_values", "attention_mask"]  # noqa: RUF012 - transformers reads it so

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = SAMPLE_RATE,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if sampling_rate != SAMPLE_RATE:
            raise PipelineInputError(f"the model hears 16000 Hz, not {sampling_rate!r}")
        super().__init__(feature_size, sampling_rate, padding_value, **kwargs)

    def __call__(
        self,
        raw_speech: Any,
        sampling_rate: int | None = None,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        device: Any = None,
        **kwargs: Any,
    ) -> SpeechBatch:
        """Convert and pad.

        Args:
            raw_speech: One recording or a list of some; see ``clips.open_clip``. Rows of a (clips, samples)
                array are clips.
            sampling_rate: Hz of plain arrays; they are resampled. None is 16 kHz.
            padding: True or "longest"; "max_length" pads to ``max_length``, or to 30 s; False leaves lengths
                as they are.
            max_length: Samples.
            truncation: Cut what is longer than ``max_length``. Nothing is cut otherwise.
            return_attention_mask: 1 on samples, 0 on padding; None is yes.
            return_tensors: "pt" or "np"; None gives lists of arrays.
            device: Where tensors go.
            kwargs: Further ones of ``SequenceFeatureExtractor.pad``; those of other extractors do nothing.

        Raises:
            PipelineInputError: A recording that cannot be read.
        """
        with translate_errors(PipelineInputError):
            clips = [_read_clip(one, sampling_rate) for one in list_clips(raw_speech)]
        if padding == "max_length" and max_length is None:
            max_length = max(_WINDOW, *map(len, clips))
        padded = self.pad(
            BatchFeature({"input_values": clips}),
            padding=padding,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=kwargs.get("pad_to_multiple_of"),
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )
        batch = SpeechBatch(padded.data)
        return batch.to(device) if device is not None and return_tensors == "pt" else batch


def _read_clip(inputs: Any, sampling_rate: int | None) -> Samples:
    """(samples,) float32 mono at 16 kHz."""
    clip = open_clip(inputs)
    source, rate = clip["source"], clip["sample_rate"]
    if is_readable(source):
        return read_audio(source)
    plain = isinstance(inputs, np.ndarray | torch.Tensor | list | tuple)
    return convert_to_mono(source, sampling_rate if plain and sampling_rate else rate)
