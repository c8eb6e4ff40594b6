"""The adapters stay in step with ``Recognizer.transcribe`` and with ``DecodingOptions``.

Every parameter of core is either handed on by an adapter, under core's name unless the toolkit has its own,
or left out for a reason that is written here. One that core gains or renames fails until it is decided. The
options of decoding arrive at the decoder whole, wherever a toolkit's users give them.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.decoder import Decoded
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.recognizer import Recognizer

CLIP = Path(__file__).parents[1] / "data/en-arctic_a0239_1592711579.flac"
OPTIONS = DecodingOptions(
    steps=3, max_steps=5, verify=True, start="noise", entropy_bound=2.0, temperature=0.5, seed=7
)  # none of them is the default
GIVEN = {name: value for name, value in dataclasses.asdict(OPTIONS).items() if name != "trace"}

OF_COMMANDS = {
    "on_window": "for commands that write results as they come",
    "known": "for commands that go on where they were killed",
}
LEFT_OUT = {
    "speechbrain": {
        "options": "its fields are handed on, see below",
        "sample_rate": "transcribe_file reads it from the file",
        "progress": "SpeechBrain's interfaces have none",
        "on_hypothesis": "use model.recognizer",
    },
    "nemo": {
        "options": "its fields are the .nemo file's section decoding, see below; steps is a call's too",
        "sample_rate": "NeMo's arrays are at the model's rate",
        "progress": "NeMo shows its own bar",
        "track": "NeMo's manifests have no such key: a file's default track is heard",
        "on_hypothesis": "use model.recognizer",
    },
    "pyannote": {
        "options": "its fields are handed on, see below",
        "on_hypothesis": "use pipeline.recognizer",
    },
    "transformers": {
        "options": "its fields are handed on, see below",
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
    return parameters(adapter("speechbrain").DiffusionASR.transcribe_file)


def nemo() -> dict[str, Any]:
    asked = {f.name: f.default for f in dataclasses.fields(adapter("nemo").DiffusionTranscribeConfig)}
    return asked | {"audio": inspect.Parameter.empty}


def pyannote() -> dict[str, Any]:
    return parameters(adapter("pyannote").SpeakerAttributedTranscription.apply)


def transformers() -> dict[str, Any]:
    from diffusion_asr_transformers.arguments import GENERATION

    pipeline = adapter("transformers").DiffusionASRPipeline
    named = {*GENERATION, *inspect.signature(pipeline._sanitize_parameters).parameters}
    asked = {name: default for name, default in parameters(Recognizer.transcribe).items() if name in named}
    return parameters(pipeline.__call__) | asked


ADAPTERS = {f.__name__: f for f in (speechbrain, nemo, pyannote, transformers)}
TOOLKITS = {"speechbrain": "speechbrain", "nemo": "nemo.collections.asr", "pyannote": "pyannote.audio"}


def adapter(name: str) -> Any:
    """The adapter's module; skips the test where its toolkit is not installed."""
    pytest.importorskip(TOOLKITS.get(name, name))
    return pytest.importorskip(f"diffusion_asr_{name}")


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_parameter_of_transcribe_is_handed_on_or_left_out_for_a_reason(name: str) -> None:
    adapter(name)
    core, theirs = parameters(Recognizer.transcribe), ADAPTERS[name]()
    left_out = LEFT_OUT[name] | OF_COMMANDS
    assert left_out.keys() <= core.keys(), "left out, but no longer a parameter of core"
    for known in core.keys() - left_out.keys():
        own = RENAMED[name].get(known, known)
        assert own in theirs, f"core's {known!r} is neither handed on nor left out for a reason"
        if own not in RENAMED[name].values():
            assert theirs[own] == core[known], f"{known!r} has another default than core's"
    for known in left_out:
        assert known not in theirs, f"{known!r} is handed on now: take it from LEFT_OUT"


def test_speechbrains_batches_take_what_decode_takes() -> None:
    core, theirs = (
        parameters(Recognizer.decode),
        parameters(adapter("speechbrain").DiffusionASR.transcribe_batch),
    )
    assert set(theirs) - {"wavs", "wav_lens", "detect_speech"} == set(core) - {"memory", "options"}
    assert theirs["language"] == core["language"]


class Spy:
    """A decoder that writes nothing and keeps what it was asked for."""

    languages = ("en", "de")

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], DecodingOptions]] = []

    def decode(
        self, memory: AcousticMemory, languages: Sequence[str], options: DecodingOptions
    ) -> list[Decoded]:
        self.asked.append((tuple(languages), options))
        nothing = torch.zeros(1, dtype=torch.long)
        return [Decoded(nothing, torch.ones(1), torch.zeros(1), 0.08, 1) for _ in languages]


def spied(recognizer: Recognizer) -> Spy:
    spy = Spy()
    recognizer.parts = dataclasses.replace(recognizer.parts, decoder=spy)
    return spy


def from_speechbrains_module(_: Path) -> Spy:
    module = adapter("speechbrain")
    model = module.DiffusionModule(language="en", **GIVEN)
    spy = spied(model.recognizer)
    states = model.encode(torch.rand(1, 16_000))
    module.DiffusionSearcher(model, detect_speech=False)(states)
    wave = torch.from_numpy(sf.read(CLIP, dtype="float32")[0])[None]  # speech must be in it to be decoded
    module.DiffusionSearcher(model)(model.encode(wave).detach())
    assert len(spy.asked) == 2
    return spy


def from_speechbrains_calls(tmp_path: Path) -> Spy:
    module = adapter("speechbrain")
    asr = module.DiffusionASR.from_hparams(source=module.CANVAS_BASE, savedir=tmp_path)
    spy = spied(asr.mods.model.recognizer)
    asr.transcribe_file(CLIP, language="en", **GIVEN)
    asr.transcribe_batch(torch.rand(1, 16_000), torch.ones(1), "en", detect_speech=False, **GIVEN)
    return spy


def from_nemos_file(tmp_path: Path) -> Spy:
    kind = adapter("nemo").DiffusionASRModel
    kind.from_checkpoint(language="en", **GIVEN).save_to(str(tmp_path / "x.nemo"))
    model = kind.restore_from(str(tmp_path / "x.nemo"))
    spy = spied(model.recognizer)
    model.transcribe([str(CLIP)], verbose=False)
    return spy


def one_speaker() -> Any:
    from pyannote.audio import Pipeline
    from pyannote.core import Annotation, Segment

    class OneSpeaker(Pipeline):  # type: ignore[misc]  # pyannote is untyped
        def apply(self, file: Any, hook: Any = None) -> Any:
            turns = Annotation()
            turns[Segment(0.0, 60.0)] = "A"
            return turns

    return OneSpeaker()


def from_pyannotes_pipeline(_: Path) -> Spy:
    kind = adapter("pyannote").SpeakerAttributedTranscription
    pipeline = kind(one_speaker(), language="en", **GIVEN)
    spy = spied(pipeline.recognizer)
    pipeline(CLIP)
    return spy


def from_pyannotes_call(_: Path) -> Spy:
    pipeline = adapter("pyannote").SpeakerAttributedTranscription(one_speaker())
    spy = spied(pipeline.recognizer)
    pipeline(CLIP, language="en", **GIVEN)
    return spy


def from_transformers_pipeline(_: Path) -> Spy:
    """Some options of the pipeline and some of a call are one value."""
    module = adapter("transformers")
    own = {name: value for name, value in GIVEN.items() if name not in ("steps", "start")}
    model = module.DiffusionASRForSpeech.from_pretrained()
    pipeline = module.DiffusionASRPipeline(model=model, language="de", **own)
    spy = spied(model.recognizer)
    pipeline(CLIP, start="noise", generate_kwargs={"language": "en", "steps": 3})
    return spy


@pytest.mark.parametrize(
    "way",
    [
        from_speechbrains_module,
        from_speechbrains_calls,
        from_nemos_file,
        from_pyannotes_pipeline,
        from_pyannotes_call,
        from_transformers_pipeline,
    ],
    ids=lambda way: way.__name__,
)
def test_options_arrive_at_the_decoder_whole(way: Callable[[Path], Spy], tmp_path: Path) -> None:
    asked = way(tmp_path).asked
    assert asked
    assert all(one == (("en",), OPTIONS) for one in asked)


def test_the_options_above_are_all_there_are() -> None:
    assert all(getattr(OPTIONS, name) != getattr(DecodingOptions(), name) for name in GIVEN)
    assert set(GIVEN) == {field.name for field in dataclasses.fields(DecodingOptions)} - {"trace"}


# Of NeMo and torch, which have no public names for them; core has one for everything that adapters need.
FOREIGN = {"_C", "_nn", "_parse_to", "_internal", "_set_model_restore_state", "_version"}


def test_adapters_reach_only_public_names_of_core() -> None:
    files = sorted((CLIP.parents[2] / "adapters").rglob("*.py"))
    assert len(files) > 20
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            reached = [node.attr] if isinstance(node, ast.Attribute) and not of_its_own(node.value) else []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffusion_asr."):
                reached = [node.module or "", *(name.name for name in node.names)]
            private = {part for name in reached for part in name.split(".") if hidden(part)}
            assert private <= FOREIGN, f"{path}: {private - FOREIGN}"


def of_its_own(value: ast.expr) -> bool:
    """Whether it is ``self``, ``cls`` or ``super()``."""
    if isinstance(value, ast.Call):
        value = value.func
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "super")


def hidden(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")
