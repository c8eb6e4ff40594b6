"""Which arguments of transformers mean something to this recogniser; the others are named in a warning.

Scripts written for Whisper hand over beams, penalties and lengths. None of them has a counterpart here, and
none may change a text unseen or stop a script: they are taken, and said to change nothing. A name that
transformers does not know either is a mistake, and an error.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from transformers import GenerationConfig

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.languages import find_language
from diffusion_asr.toolkits import translate_errors

DECODING = tuple(field.name for field in fields(DecodingOptions) if field.name != "trace")  # nobody reads one
GENERATION = ("language", *DECODING)
"""What ``generate_kwargs`` may hold and what changes the text."""

# Of Whisper's generate and transformers' pipeline; those of every model are GenerationConfig's attributes.
_OTHERS = frozenset({
    "assistant_model", "assistant_tokenizer", "chunk_length_s", "compression_ratio_threshold",
    "condition_on_prev_tokens", "decoder_input_ids", "decoder_kwargs", "force_unique_generate_call",
    "forced_decoder_ids", "generation_config", "ignore_warning", "is_multilingual", "logits_processor",
    "logprob_threshold", "negative_prompt_ids", "no_speech_threshold", "num_segment_frames", "num_workers",
    "prefix_allowed_tokens_fn", "prompt_condition_type", "prompt_ids", "return_segments",
    "return_token_timestamps", "stopping_criteria", "streamer", "stride", "stride_length_s",
    "suppress_tokens", "begin_suppress_tokens", "synced_gpus", "batch_size",
})  # fmt: skip
# What is done anyway, or asks for nothing.
_DONE: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,), "num_beam_groups": (1,), "num_return_sequences": (1,), "do_sample": (False,),
    "use_cache": (True, False), "synced_gpus": (False,), "is_multilingual": (True,), "min_length": (0,),
    "ignore_warning": (True, False), "num_workers": (0,), "batch_size": (1,), "pad_token_id": (0,),
    "suppress_tokens": ([],), "begin_suppress_tokens": ([],), "repetition_penalty": (1.0,),
    "forced_decoder_ids": ([],), "return_token_timestamps": (False,), "return_segments": (False,),
}  # fmt: skip


class PipelineInputError(DiffusionASRError, ValueError):
    """An input or an argument that makes no sense: a ``ValueError``, as transformers raises."""


@functools.cache
def _known() -> frozenset[str]:
    return _OTHERS | {name for name in vars(GenerationConfig()) if not name.startswith("_")}


def read_arguments(asked: Mapping[str, Any], languages: Sequence[str]) -> dict[str, Any]:
    """Language and fields of ``DecodingOptions`` among what is asked for.

    Args:
        asked: By name, as a caller of ``generate`` gives them.
        languages: Codes that the model writes.

    Raises:
        PipelineInputError: An unknown name or language, or a value that makes no sense.

    Warns:
        UserWarning: Arguments that transformers knows and that change nothing here.
    """
    given = _unfold(asked)
    if given.pop("task", None) not in (None, "transcribe"):
        raise PipelineInputError("this model transcribes; it does not translate")
    found = {name: given.pop(name) for name in GENERATION if name in given}
    if unknown := sorted(given.keys() - _known()):
        raise PipelineInputError(f"unknown options {', '.join(unknown)}; known: {', '.join(GENERATION)}")
    idle = [name for name, value in given.items() if not _is_done(name, value)]
    if isinstance(found.get("temperature"), list | tuple):
        found["temperature"] = _first_temperature(found["temperature"])
    warn_idle(idle, "they change nothing about how this model decodes")
    if "language" in found:
        found["language"] = read_language(found["language"], languages)
    make_options(found)  # an error belongs before the work
    return found


def _is_done(name: str, value: Any) -> bool:
    """Whether it asks for nothing but what is done anyway; arrays are no such thing."""
    return value is None or (isinstance(value, bool | float | int | list) and value in _DONE.get(name, ()))


def read_language(given: Any, languages: Sequence[str]) -> str | list[str | None] | None:
    """Codes for names and tags, one or one for each clip; None is to be detected.

    Raises:
        PipelineInputError: A language that the model does not write.
    """
    with translate_errors(PipelineInputError):
        if isinstance(given, list | tuple):
            return [find_language(one, languages) for one in given]
        return find_language(given, languages)


def make_options(found: Mapping[str, Any]) -> DecodingOptions:
    """One value of its fields.

    Raises:
        PipelineInputError: A value that makes no sense.
    """
    with translate_errors(PipelineInputError, TypeError, ValueError):
        return DecodingOptions(**{name: value for name, value in found.items() if name in DECODING})


def warn_idle(names: Collection[str], why: str) -> None:
    """Say which arguments have no effect, if any has none."""
    if names:
        warnings.warn(f"ignored: {', '.join(names)} ({why})", UserWarning, stacklevel=4)


def _unfold(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A ``GenerationConfig`` among the arguments as arguments, under those that were named."""
    given = dict(asked)
    config = given.pop("generation_config", None)
    if config is None:
        return given
    return {**read_generation_config(config), **given}


def read_generation_config(config: GenerationConfig) -> dict[str, Any]:
    """What a ``GenerationConfig`` sets, by name."""
    values = config.to_diff_dict()
    return {name: value for name, value in values.items() if name != "transformers_version"}


def _first_temperature(given: Sequence[Any]) -> Any:
    """Whisper's ladder of temperatures begins with the one to use; the others are for a second try."""
    if not given:
        raise PipelineInputError("temperature must be a number of 0 or more (or None), not an empty list")
    if len(given) > 1:
        warn_idle([f"temperature={', '.join(map(str, given[1:]))}"], "only the first one is tried")
    return given[0]
