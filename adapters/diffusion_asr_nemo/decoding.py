"""The section ``decoding`` of a model's configuration, which every ``.nemo`` file holds.

Its fields are those of ``DecodingOptions``. NeMo's scripts also hand over the sections of its own decoders
(``strategy``, ``greedy``, ``beam`` …): those fields mean nothing to this one, and are left aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecodingConfig
from nemo.collections.asr.parts.submodules.multitask_decoding import (
    MultiTaskDecoding,
    MultiTaskDecodingConfig,
)
from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTDecodingConfig
from omegaconf import DictConfig, OmegaConf

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_nemo.toolkit import RecognitionError

STRATEGY = "diffusion"  # NeMo's scripts read ``cfg.decoding.strategy``
_NEMOS = {
    field.name
    for kind in (CTCDecodingConfig, RNNTDecodingConfig, MultiTaskDecodingConfig)
    for field in fields(kind)
}
_OURS = {field.name for field in fields(DecodingOptions)}
_BOTH = _NEMOS & _OURS  # names that mean one thing here and another there
_MARKS = {"greedy", "beam", "wfst", "confidence_cfg"}  # what only a section of NeMo's has


class CanvasDecoding(MultiTaskDecoding):  # type: ignore[misc]
    """``model.decoding``: how clips are decoded.

    NeMo's scripts look at its kind: one of ``MultiTaskDecoding``, as Canary's, may be asked for languages
    (``compute_langs``) and takes a ``prompt``. Nothing of that class is used.

    Attributes:
        options: What the decoder gets.
        cfg: The section that they are of.
    """

    def __init__(self, section: Any, tokenizer: Any) -> None:
        self.options, self.cfg, self.tokenizer = decoding_options(section), section, tokenizer


def decoding_options(
    section: Mapping[str, Any] | None, base: DecodingOptions | None = None
) -> DecodingOptions:
    """A section as one value; what it does not state is ``base``'s, by default core's.

    Raises:
        RecognitionError: An unknown option, or a value that makes no sense.
    """
    with translate_errors(RecognitionError, TypeError, ValueError):
        return (base or DecodingOptions()).changed(**_own(current(section or {})))


def decoding_section(options: DecodingOptions) -> dict[str, Any]:
    """The inverse; a trace has nobody to go to in NeMo."""
    return {"strategy": STRATEGY} | {
        name: value for name, value in asdict(options).items() if name != "trace"
    }


def foreign_fields(section: Mapping[str, Any]) -> list[str]:
    """What of a section belongs to NeMo's decoders and says something."""
    return sorted(set(section) - set(_own(section)) - {"strategy"})


def as_section(given: Any) -> dict[str, Any]:
    """A section as a dictionary: of a dictionary, a ``DictConfig`` or one of NeMo's dataclasses."""
    if given is None:
        return {}
    if is_dataclass(given) and not isinstance(given, type):
        given = OmegaConf.structured(given)
    section: Any = OmegaConf.to_container(given) if isinstance(given, DictConfig) else dict(given)
    return dict(section)


def current(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section with today's names: earlier files call ``start`` ``init``, and its "null" "draft".

    A bare ``null``, which YAML and hydra read as None, is meant as "null".
    """
    given = dict(section)
    init = given.pop("init", None)
    if init is not None or "start" in given:
        start = given.get("start", "null" if init == "draft" else init)
        given["start"] = "null" if start is None else start
    return given


def _own(section: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are this decoder's."""
    left_aside = _NEMOS if _MARKS & section.keys() else _NEMOS - _BOTH
    return {name: value for name, value in section.items() if name not in left_aside}
