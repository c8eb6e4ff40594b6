"""Feature extractor and tokenizer in one."""

from __future__ import annotations

import os
from typing import Any

from transformers import BatchFeature, ProcessorMixin

from diffusion_asr_transformers.arguments import PipelineInputError
from diffusion_asr_transformers.feature_extraction import DiffusionASRFeatureExtractor
from diffusion_asr_transformers.tokenization import DiffusionASRTokenizer


class DiffusionASRProcessor(ProcessorMixin):  # type: ignore[misc]
    """Sound in for the model, ids out as text.

    Example:
        >>> processor = DiffusionASRProcessor.from_pretrained("canvas-base")
        >>> inputs = processor(samples, sampling_rate=16_000, return_tensors="pt")
        >>> processor.batch_decode(model.generate(**inputs), skip_special_tokens=True)
    """

    def __init__(
        self, feature_extractor: DiffusionASRFeatureExtractor, tokenizer: DiffusionASRTokenizer
    ) -> None:
        super().__init__(feature_extractor, tokenizer)

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str] = "canvas-base", **kwargs: Any
    ) -> DiffusionASRProcessor:
        """Of an embedded model by name, a saved model's folder or a folder of core's format.

        Args:
            name: The model.
            kwargs: ``language`` of texts to encode; ``revision``, ``token`` and the like for the hub.

        Raises:
            ModelError: There is none.
        """
        language = kwargs.get("language")
        tokenizer = DiffusionASRTokenizer.from_pretrained(
            name, **({"language": language} if language else {})
        )
        return cls(DiffusionASRFeatureExtractor(), tokenizer)

    def __call__(
        self, audio: Any = None, text: Any = None, sampling_rate: int | None = None, **kwargs: Any
    ) -> BatchFeature:
        """``input_values`` and ``attention_mask`` of sound, ``input_ids`` of text, or sound with ``labels``.

        Args:
            audio: See ``DiffusionASRFeatureExtractor.__call__``.
            text: One text or a list of some.
            sampling_rate: Hz of plain arrays.
            kwargs: Of the feature extractor, or of the tokenizer where there is only text.

        Raises:
            PipelineInputError: Neither, or sound that cannot be read.
        """
        if audio is None and text is None:
            raise PipelineInputError("give audio, text or both")
        if audio is None:
            return self.tokenizer(text, **kwargs)
        batch = self.feature_extractor(audio, sampling_rate=sampling_rate, **kwargs)
        if text is not None:
            tensors = kwargs.get("return_tensors")
            batch["labels"] = self.tokenizer(text, padding=True, return_tensors=tensors)["input_ids"]
        return batch
