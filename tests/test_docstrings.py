"""The examples in core's docstrings are run, each module's in a folder where the recordings lie."""

from __future__ import annotations

import doctest
import importlib
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import soundfile as sf

from diffusion_asr import Recognizer
from diffusion_asr.errors import DiffusionASRError
from tests.support.tiny import DATA, ROOT

CORE = ROOT / "core"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
WITH_EXAMPLES = [path for path in sorted(CORE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf8")]


class RecognitionError(DiffusionASRError):
    """An adapter's own, in the example of ``toolkits``."""


def module_of(path: Path) -> str:
    parts = path.relative_to(CORE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def names(module: Any) -> dict[str, Any]:
    """What examples may use without importing it: their module's own names, and what a caller has."""
    own = dict(vars(module))
    if "recognizer" not in own:
        own |= {"recognizer": Recognizer.from_pretrained(), "path": "talk.flac"}
    return own | {"RecognitionError": RecognitionError}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    samples, rate = sf.read(DATA / "de-de_rhasspy-0208.flac")
    for name in ("talk.flac", "talk.wav", "meeting.wav"):
        sf.write(tmp_path / name, samples, rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", list(map(module_of, WITH_EXAMPLES)))
def test_examples_run(name: str) -> None:
    """An example that tells its output gives it; the others give some, or none."""
    if name == "diffusion_asr.meeting":
        pytest.importorskip("pyannote.audio")
    module = importlib.import_module(name)
    ran = 0
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names(module)):
        for example in test.examples:
            shown = io.StringIO()
            with redirect_stdout(shown):
                exec(compile(example.source, f"{test.name}:{example.lineno}", "single"), test.globs)
            ran += 1
            if example.want:
                told = doctest.OutputChecker().check_output(example.want, shown.getvalue(), FLAGS)
                assert told, f"{test.name}: {shown.getvalue()!r} instead of {example.want!r}"
    assert ran
