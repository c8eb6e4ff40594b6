"""A recogniser that says what the file's name says, and the command line run with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from diffusion_asr.audio.files import AudioWarning
from diffusion_asr.cli import app
from diffusion_asr.decoding.decoder import Decoded, Hypothesis, TraceStep
from diffusion_asr.errors import AudioError
from diffusion_asr.languages import find_language
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.text.vocabulary import Vocabulary
from diffusion_asr.transcript import Segment, Transcript, Word

ROOT = Path(__file__).parents[2]
TEXTS = {"de": "guten Tag", "silence": "", "zh": "你好"}
PLAIN = {"_TYPER_FORCE_DISABLE_TERMINAL": "1"}  # typer colours its messages on CI otherwise
PROGRAM = "from diffusion_asr.cli import main; main()"
FAKE_PROGRAM = "import tests.support.cli_helpers as t; t.Fake.install(); t.main()"


@dataclass
class FakeParts:
    name: str = "fake"
    version: str = "1"
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(["", "Ġguten", "ĠTag"], 3, []))


@dataclass
class Fake:
    """Says what the file's name says; behaves as badly as the name says, too."""

    languages: tuple[str, ...] = ("en", "de")
    parts: FakeParts = field(default_factory=FakeParts)
    calls: list[dict[str, Any]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    @classmethod
    def install(cls) -> Fake:
        """Takes the recogniser's place in a process of its own."""
        fake = cls()
        Recognizer.from_pretrained = fake.load  # type: ignore[method-assign, assignment]
        return fake

    def load(self, name: str) -> Fake:
        self.models.append(name)
        return self

    def check_language(self, language: str | None) -> str | None:
        return find_language(language, self.languages)

    def transcribe(self, source: Path, **options: Any) -> Transcript:
        self.calls.append(options | {"source": source})
        name = source.stem
        if "bad" in name:
            raise AudioError(f"{source.absolute()}: is damaged: copy it again")
        if "unplugged" in name:
            raise OSError(5, "Input/output error", str(source))
        if "window" in name:
            return self._by_windows(name, options)
        if "interrupt" in name:
            raise KeyboardInterrupt
        if "bug" in name:
            raise RuntimeError("a tensor\nis too large")
        if "short" in name:
            for _ in range(2):
                warnings.warn(f"{source}: breaks off\nafter 1 s", AudioWarning, stacklevel=1)
        if options["on_hypothesis"] is not None:
            options["on_hypothesis"](1.5, hypothesis())
        if options["progress"] is not None:
            options["progress"](1.0, 2.0)
        text = TEXTS.get(name, f"this is {name}")
        words = (Word(text, 0.0, 1.0, 0.5),)
        segments = (Segment(0.0, 1.0, text, words, "de"),) if text else ()
        return Transcript(segments, duration=2.0, source=str(source))

    def _by_windows(self, name: str, options: dict[str, Any]) -> Transcript:
        """Two windows; what comes between them the name says."""
        parts = [Segment(0.0, 1.0, "one.", (Word("one.", 0.0, 1.0),)), Segment(1.0, 2.0, "two.")]
        options["on_window"](0.0, 1.0, (parts[0],))
        if "interrupt" in name:
            raise KeyboardInterrupt
        if "broken" in name:
            raise AudioError("breaks off")
        if "killed" in name and (0.0, 1.0) not in options["known"]:
            os.kill(os.getpid(), signal.SIGKILL)
        options["on_window"](1.0, 2.0, (parts[1],))
        return Transcript(tuple(parts), duration=2.0)


def hypothesis() -> Hypothesis:
    canvas, confidence = torch.tensor([1, 1, 0, 2]), torch.tensor([0.5, 0.5, 1.0, 1.0])
    kept = torch.tensor([True, False, False, False])
    nothing = torch.zeros(4, dtype=torch.long)
    steps = (
        TraceStep("parallel", 1, nothing, nothing, confidence, kept),
        TraceStep("causal", 2, nothing, canvas, confidence, ~nothing.bool()),
    )
    times = (torch.arange(4) + 0.5) * 0.08
    clip = Decoded(canvas, confidence, times, 0.08, parallel_passes=1, causal_passes=1, trace=steps)
    return Hypothesis("guten Tag", (), "de", 0.5, clip)


def main() -> None:
    from diffusion_asr.cli import main as run

    run()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    it = Fake()
    monkeypatch.setattr(Recognizer, "from_pretrained", it.load)
    return it


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Makes sound files that the fake recogniser understands, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> list[str]:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"sound")
        return list(names)

    return make


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), env={**PLAIN, "COLUMNS": "1000"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def process(*arguments: str, code: str = PROGRAM, **options: Any) -> subprocess.Popen[bytes]:
    """The program as users start it."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("core", "."))
    environment = {**os.environ, **PLAIN, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **streams | options)
