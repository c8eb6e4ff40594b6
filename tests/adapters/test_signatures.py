"""The adapters' entry points stay in step with ``Recognizer.transcribe`` and ``Recognizer.denoise``.

Every option of core is either handed on by an adapter, under core's name unless the toolkit has its own, or
left out for a reason that is written here. An option that core gains or renames fails until it is decided.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from diffusion_asr.recognizer import Recognizer

LEFT_OUT = {
    "speechbrain": {
        "init": "part of research, not of from_hparams users' calls: use model.recognizer",
        "sample_rate": "transcribe_file reads it from the file",
        "generator": "a repeatable default",
        "progress": "SpeechBrain's interfaces have none",
        "on_hypothesis": "use model.recognizer",
    },
    "nemo": {
        "sample_rate": "NeMo's arrays are at the model's rate",
        "generator": "a repeatable default",
        "progress": "NeMo shows its own bar",
        "on_hypothesis": "use model.recognizer",
    },
    "pyannote": {
        "init": "use pipeline.recognizer",
        "generator": "a repeatable default",
        "on_hypothesis": "use pipeline.recognizer",
    },
    "transformers": {
        "generator": "a repeatable default",
        "progress": "transformers' pipelines have none",
        "on_hypothesis": "use model.recognizer",
    },
}
RENAMED = {
    "speechbrain": {"source": "path"},
    "nemo": {"source": "audio", "language": "source_lang"},
    "pyannote": {"source": "file", "sample_rate": "file", "progress": "hook"},  # rate: file["sample_rate"]
    "transformers": {"source": "inputs", "sample_rate": "inputs"},  # rate: inputs["sampling_rate"]
}


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Name to default, without ``self``."""
    found = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in found if p.name != "self" and p.kind is not p.VAR_KEYWORD}


def speechbrain() -> dict[str, Any]:
    module = pytest.importorskip("speechbrain") and pytest.importorskip("diffusion_asr_speechbrain")
    return parameters(module.DiffusionASR.transcribe_file)


def nemo() -> dict[str, Any]:
    pytest.importorskip("nemo.collections.asr")
    module = pytest.importorskip("diffusion_asr_nemo")
    asked = {f.name: f.default for f in dataclasses.fields(module.DiffusionTranscribeConfig)}
    kept = {k: v for k, v in module.model_config().decoding.items() if k == "init"}  # in the .nemo file
    return asked | kept | {"audio": inspect.Parameter.empty}


def pyannote() -> dict[str, Any]:
    pytest.importorskip("pyannote.audio")
    module = pytest.importorskip("diffusion_asr_pyannote")
    return parameters(module.SpeakerAttributedTranscription.apply)


def transformers() -> dict[str, Any]:
    pytest.importorskip("transformers")
    module = pytest.importorskip("diffusion_asr_transformers")
    from diffusion_asr_transformers.pipeline import _DENOISING

    handed_on = parameters(Recognizer.transcribe)
    return parameters(module.DiffusionASRPipeline.__call__) | {k: handed_on[k] for k in _DENOISING}


ADAPTERS = {f.__name__: f for f in (speechbrain, nemo, pyannote, transformers)}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_option_of_transcribe_is_handed_on_or_left_out_for_a_reason(adapter: str) -> None:
    core, theirs = parameters(Recognizer.transcribe), ADAPTERS[adapter]()
    left_out = LEFT_OUT[adapter]
    assert left_out.keys() <= core.keys(), "left out, but no longer an option of core"
    for name in core.keys() - left_out.keys():
        own = RENAMED[adapter].get(name, name)
        assert own in theirs, f"core's {name!r} is neither handed on nor left out for a reason"
        if own not in RENAMED[adapter].values():
            assert theirs[own] == core[name], f"{name!r} has another default than core's"
    for name in left_out:
        assert name not in theirs, f"{name!r} is handed on now: take it from LEFT_OUT"


def test_speechbrains_batches_take_what_denoise_takes() -> None:
    module = pytest.importorskip("speechbrain") and pytest.importorskip("diffusion_asr_speechbrain")
    core, theirs = parameters(Recognizer.denoise), parameters(module.DiffusionASR.transcribe_batch)
    assert set(theirs) - {"wavs", "wav_lens"} == set(core) - {"memory", "init", "generator", "trace"}
    assert all(theirs[name] == core[name] for name in ("language", "steps"))
