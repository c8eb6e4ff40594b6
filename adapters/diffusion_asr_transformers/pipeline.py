"""``pipeline(...)`` for a diffusion recogniser: transformers' inputs and outputs around ``transcribe``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.pipelines import Pipeline

from diffusion_asr.errors import ModelError
from diffusion_asr.toolkits import translate_errors
from diffusion_asr.transcript import Segment, Transcript, Word
from diffusion_asr_transformers.arguments import PipelineInputError, make_options, read_arguments, warn_idle
from diffusion_asr_transformers.clips import find_extras, is_clip, is_numbers, iterate_clips, open_clip
from diffusion_asr_transformers.feature_extraction import DiffusionASRFeatureExtractor
from diffusion_asr_transformers.tokenization import DiffusionASRTokenizer

_BATCHING = ("batch_size", "num_workers")
_WHY_ALONE = "clips are decoded one by one, so that none depends on its neighbours"


class DiffusionASRPipeline(Pipeline):  # type: ignore[misc]
    """Speech recognition with the options of transformers' stock pipeline.

    Recordings may be of any length. They are cut at pauses, so that no word is cut in two or doubled:
    ``chunk_length_s`` and ``stride_length_s`` are taken but change nothing. Nor does ``batch_size``, because
    a clip's text must not depend on its neighbours. A warning names what changes nothing.
    """

    tokenizer: Any
    feature_extractor: Any
    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False  # both are made of the model
    _load_tokenizer = False

    def __init__(self, model: Any, *args: Any, device: Any = None, **kwargs: Any) -> None:
        """Around a model.

        Args:
            model: A ``DiffusionASRForSpeech``.
            args: Of ``transformers.Pipeline``.
            device: Taken; the model computes on the CPU.
            kwargs: Of ``transformers.Pipeline``, and options of every call.
        """
        if str(device) not in ("None", "-1", "cpu"):
            warn_idle([f"device={device}"], "this model computes on the CPU")
        super().__init__(model, *args, device="cpu", **_drop_batching(kwargs))
        if self.tokenizer is None:
            with contextlib.suppress(ModelError):  # DiffusionGemma has a tokenizer of its own
                checkpoint = model.config.find_checkpoint()
                self.tokenizer = DiffusionASRTokenizer.from_pretrained(checkpoint)
        if self.feature_extractor is None:
            self.feature_extractor = DiffusionASRFeatureExtractor()

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Transcribe.

        Args:
            inputs: A path, an open file or a file's bytes, (samples,) or (channels, samples) at 16 kHz, a
                dictionary with "array" or "raw" and "sampling_rate", a row of a data set's audio column; or a
                list, iterator, data set or ``KeyDataset`` of these.
            kwargs: ``return_timestamps`` (True: segments, "word": words), ``return_language``, ``track`` (of
                a file's audio tracks, from 1), ``generate_kwargs`` with ``language`` and fields of
                ``DecodingOptions`` (``steps``, ``start`` …); these may also stand alone.

        Returns:
            ``{"text": …, "chunks": [{"text", "timestamp": (start, end)}]}``, or one for each of a list;
            iterators and data sets give an iterator. Times are in seconds. The chunks' texts join to the
            whole text.

        Raises:
            PipelineInputError: Unreadable audio, an unknown language, an option that does not exist or
                makes no sense.
        """
        known = _drop_batching(kwargs)
        several = None if is_clip(inputs) or is_numbers(inputs) else iterate_clips(inputs)
        if several is None:
            return self._call_one(inputs, known)
        texts = (self._call_one(each, known) for each in several)
        return list(texts) if isinstance(inputs, list | tuple) else texts

    def _call_one(self, inputs: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        return super().__call__([inputs], **kwargs)[0]  # type: ignore[no-any-return]

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Write model, tokenizer and feature extractor; any of transformers' Auto classes loads them.

        Raises:
            ModelError: See ``DiffusionASRForSpeech.save_pretrained``.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(Path(save_directory))
        self.feature_extractor.save_pretrained(save_directory)

    def _sanitize_parameters(
        self,
        return_timestamps: bool | str | None = None,
        return_language: bool | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        track: int | None = None,
        **others: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        asked = {**others, **(generate_kwargs or {})}
        if "return_timestamps" in asked:  # Whisper's generate takes it too
            return_timestamps = asked.pop("return_timestamps")
        if return_timestamps not in (None, False, True, "word"):
            raise PipelineInputError(f"return_timestamps is True or 'word', not {return_timestamps!r}")
        found = read_arguments(asked, self.model.recognizer.languages)
        if isinstance(found.get("language"), list):
            raise PipelineInputError("a pipeline takes one language for all clips; call it for each")
        wanted = {"return_timestamps": return_timestamps, "return_language": return_language}
        found |= {} if track is None else {"track": track}
        return {}, found, {name: value for name, value in wanted.items() if value is not None}

    def preprocess(self, inputs: Any, **_: Any) -> dict[str, Any]:
        """Find the samples or the file."""
        with translate_errors(PipelineInputError):
            return {"clip": open_clip(inputs), "extras": find_extras(inputs)}

    def _forward(
        self, model_inputs: dict[str, Any], track: int | None = None, **asked: Any
    ) -> dict[str, Any]:
        recognizer = self.model.recognizer
        found = read_arguments({**self.model.decoding_defaults(), **asked}, recognizer.languages)
        options = make_options(found)  # here: transformers joins a call's options with the pipeline's own
        with translate_errors(PipelineInputError):
            clip = {**model_inputs["clip"], "language": found.get("language"), "track": track}
            transcript = recognizer.transcribe(**clip, options=options)
        return {"transcript": transcript, "extras": model_inputs["extras"]}

    def postprocess(
        self, model_outputs: dict[str, Any], return_timestamps: Any = False, return_language: bool = False
    ) -> dict[str, Any]:
        """As transformers' users know it."""
        transcript: Transcript = model_outputs["transcript"]
        out: dict[str, Any] = {"text": transcript.text}
        if return_timestamps or return_language:
            chunks = _cut_chunks(transcript, by_word=return_timestamps == "word")
            for chunk in chunks if not return_language else ():
                del chunk["language"]
            out["chunks"] = chunks
        return {**model_outputs["extras"], **out}


def _cut_chunks(transcript: Transcript, by_word: bool) -> list[dict[str, Any]]:
    """Segments or words with their times and language; their texts, spaces included, join to the whole."""
    pieces: list[tuple[Segment | Word, str | None]] = []
    for segment in transcript.segments:
        pieces += [(piece, segment.language) for piece in (segment.words if by_word else [segment])]
    chunks, done = [], 0
    for piece, language in pieces:
        end = transcript.text.index(piece.text, done) + len(piece.text)
        text, done = transcript.text[done:end], end
        chunks.append({"text": text, "timestamp": (piece.start, piece.end), "language": language})
    return chunks


def _drop_batching(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The other arguments; says that these are left out, where they ask for anything."""
    warn_idle([name for name in _BATCHING if kwargs.get(name) not in (None, 0, 1)], _WHY_ALONE)
    return {name: value for name, value in kwargs.items() if name not in _BATCHING}
