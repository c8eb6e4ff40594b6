"""``pipeline(...)`` for a diffusion recogniser: transformers' inputs and outputs around ``transcribe``."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import GeneratorType
from typing import Any

import numpy as np
import soundfile as sf
from transformers.pipelines import Pipeline

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import AudioError, DiffusionASRError
from diffusion_asr.toolkits import translate_errors
from diffusion_asr.transcript import Transcript

_IGNORED = ("chunk_length_s", "stride_length_s", "batch_size", "num_workers")
DECODING = tuple(field.name for field in fields(DecodingOptions) if field.name != "trace")  # nobody reads one
GENERATION = ("language", *DECODING)
"""What ``generate_kwargs`` may hold."""


class PipelineInputError(DiffusionASRError, ValueError):
    """An input that cannot be transcribed: a ``ValueError``, as transformers' pipelines raise."""


class DiffusionASRPipeline(Pipeline):  # type: ignore[misc]
    """Speech recognition with the options of transformers' stock pipeline.

    Recordings may be of any length. They are cut at pauses, so that no word is cut in two or doubled:
    ``chunk_length_s`` and ``stride_length_s`` are taken but change nothing. Nor does ``batch_size``, because
    a clip's text must not depend on its neighbours.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Transcribe.

        Args:
            inputs: A path, a file's bytes, (samples,) or (channels, samples) at 16 kHz, or a dictionary with
                "array" or "raw" and "sampling_rate"; or a list, generator or dataset of these.
            kwargs: ``return_timestamps`` (True: segments, "word": words), ``return_language``,
                ``generate_kwargs`` with ``language`` and fields of ``DecodingOptions`` (``steps``, ``start``
                …); these may also stand alone.

        Returns:
            ``{"text": …, "chunks": [{"text", "timestamp": (start, end)}]}``, or one for each of a list;
            a generator gives a generator. Times are in seconds.

        Raises:
            PipelineInputError: Unreadable audio, an unknown language, an option that does not exist or
                makes no sense.
        """
        if isinstance(inputs, list | tuple):
            return [self(each, **kwargs) for each in inputs]
        if isinstance(inputs, GeneratorType) or _is_dataset(inputs):
            return self._each(inputs, kwargs)
        known = {k: v for k, v in kwargs.items() if k not in ("batch_size", "num_workers")}
        return super().__call__([inputs], **known)[0]

    def _each(self, inputs: Any, kwargs: dict[str, Any]) -> Iterator[Any]:
        return (self(each, **kwargs) for each in inputs)

    def _sanitize_parameters(
        self,
        return_timestamps: bool | str = False,
        return_language: bool = False,
        generate_kwargs: Mapping[str, Any] | None = None,
        **others: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        asked = {**(generate_kwargs or {}), **{k: v for k, v in others.items() if k in GENERATION}}
        if "task" in asked and asked.pop("task") not in (None, "transcribe"):
            raise PipelineInputError("this model transcribes; it does not translate")
        unknown = sorted((others.keys() - {*_IGNORED, *GENERATION}) | (asked.keys() - {*GENERATION}))
        if unknown:
            raise PipelineInputError(f"unknown options {', '.join(unknown)}; known: {', '.join(GENERATION)}")
        if return_timestamps not in (False, True, "word"):
            raise PipelineInputError(f"return_timestamps is True or 'word', not {return_timestamps!r}")
        wanted = {"return_timestamps": return_timestamps, "return_language": return_language}
        _options({name: value for name, value in asked.items() if name in DECODING})
        return {}, asked, wanted

    def preprocess(self, inputs: Any, **_: Any) -> dict[str, Any]:
        """Find the samples or the path."""
        with translate_errors(PipelineInputError):
            return _source(inputs)

    def _forward(
        self, model_inputs: dict[str, Any], language: str | None = None, **decoding: Any
    ) -> dict[str, Any]:
        options = _options(decoding)  # here: transformers joins a call's options with the pipeline's own
        with translate_errors(PipelineInputError):
            transcribe = self.model.recognizer.transcribe
            return {"transcript": transcribe(**model_inputs, language=language, options=options)}

    def postprocess(
        self, model_outputs: dict[str, Any], return_timestamps: Any = False, return_language: bool = False
    ) -> dict[str, Any]:
        """As transformers' users know it."""
        transcript: Transcript = model_outputs["transcript"]
        out: dict[str, Any] = {"text": transcript.text}
        if return_timestamps or return_language:
            pieces = transcript.words if return_timestamps == "word" else transcript.segments
            out["chunks"] = [{"text": p.text, "timestamp": (p.start, p.end)} for p in pieces]
        if return_language:
            spoken = [
                s.language
                for s in transcript.segments
                for _ in (s.words if return_timestamps == "word" else [s])
            ]
            for chunk, language in zip(out["chunks"], spoken, strict=True):
                chunk["language"] = language
        return out


def _options(given: Mapping[str, Any]) -> DecodingOptions:
    """One value of its fields; an error of ours where one makes no sense."""
    with translate_errors(PipelineInputError, TypeError, ValueError):
        return DecodingOptions(**given)


def _is_dataset(inputs: Any) -> bool:
    kinds = (str, bytes, dict, np.ndarray, os.PathLike)
    return hasattr(inputs, "__getitem__") and not isinstance(inputs, kinds) and not hasattr(inputs, "ndim")


def _source(inputs: Any) -> dict[str, Any]:
    """What ``Recognizer.transcribe`` takes."""
    if isinstance(inputs, Mapping):
        samples = inputs.get("raw", inputs.get("array"))
        if samples is None and inputs.get("path"):
            return {"source": inputs["path"]}
        if samples is None or "sampling_rate" not in inputs:
            raise AudioError('a dictionary needs "array" (or "raw") and "sampling_rate", or "path"')
        return {"source": samples, "sample_rate": int(inputs["sampling_rate"])}
    if isinstance(inputs, bytes):
        try:
            samples, rate = sf.read(io.BytesIO(inputs), dtype="float32", always_2d=True)
        except sf.SoundFileError as error:
            raise AudioError(
                f"the {len(inputs)} bytes are not audio that libsndfile reads ({error})"
            ) from error
        return {"source": samples.T, "sample_rate": rate}
    if isinstance(inputs, str) and inputs.startswith(("http://", "https://")):
        raise AudioError(f"{inputs}: nothing is fetched from the network; download it first")
    return {"source": inputs, "sample_rate": SAMPLE_RATE}
