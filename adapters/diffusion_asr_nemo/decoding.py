"""The section ``decoding`` of a model's configuration, which every ``.nemo`` file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_nemo.toolkit import RecognitionError


def decoding_options(section: Mapping[str, Any] | None) -> DecodingOptions:
    """The section as one value; what it does not state is core's default.

    Raises:
        RecognitionError: An unknown option, or a value that makes no sense.
    """
    with translate_errors(RecognitionError, TypeError, ValueError):
        return DecodingOptions().changed(**current(section or {}))


def decoding_section(options: DecodingOptions) -> dict[str, Any]:
    """The inverse; a trace has nobody to go to in NeMo."""
    return {name: value for name, value in asdict(options).items() if name != "trace"}


def current(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with today's names: earlier files call ``start`` ``init``, and its "null" "draft".

    A bare ``null``, which YAML and hydra read as None, is meant as "null".
    """
    given = dict(section)
    init = given.pop("init", None)
    start = given.get("start", "null" if init == "draft" else init)
    return given | {"start": "null" if start is None else start}
