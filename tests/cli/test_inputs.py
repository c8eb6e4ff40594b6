"""What the command listens to: folders, patterns, and what is piped in."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusion_asr.cli import app
from diffusion_asr.cli.inputs import find_inputs
from tests.support import cli_helpers
from tests.support.cli_helpers import Fake, run

fake, files = cli_helpers.fake, cli_helpers.files


def names(*given: str, recursive: bool = False) -> list[str]:
    return [one.name for one in find_inputs([Path(name) for name in given], recursive)]


def test_folders_and_patterns(files: Callable[..., list[str]]) -> None:
    files("t/b.WAV", "t/a.mp3", "t/notes.txt", "t/.hidden.wav", "t/deep/c.flac", "t/.git/d.wav")
    files("[x].wav", "e.wav")
    assert names("t") == ["t/a.mp3", "t/b.WAV"]
    assert names("t", recursive=True) == ["t/a.mp3", "t/b.WAV", "t/deep/c.flac"]
    assert names("t/*.mp3", "t", "e.wav") == ["t/a.mp3", "t/b.WAV", "e.wav"]
    assert names("**/*.flac") == ["t/deep/c.flac"]
    assert names("[x].wav") == ["[x].wav"]
    assert names("none.wav") == ["none.wav"]


def test_a_searched_folder_is_mirrored(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("t/de.wav", "t/deep/de.wav")
    result = run("transcribe", "t", "--recursive", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert Path("out/de.txt").read_text(encoding="utf8") == "guten Tag\n"
    assert Path("out/deep/de.txt").read_text(encoding="utf8") == "guten Tag\n"


def test_what_is_piped_in(fake: Fake, files: Callable[..., list[str]]) -> None:
    files()
    piped = CliRunner().invoke(app, ["transcribe", "-", "-f", "txt,json", "-o", "out"], input=b"sound")
    assert piped.exit_code == 0, piped.stderr
    assert Path("out/stdin.txt").read_text(encoding="utf8").startswith("this is ")
    assert '"source": "stdin"' in Path("out/stdin.json").read_text(encoding="utf8")
    assert not fake.calls[0]["source"].exists()  # the copy is gone


def test_nothing_is_piped_in(
    fake: Fake, files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files()
    empty = CliRunner().invoke(app, ["transcribe", "-"], input=b"")
    assert empty.exit_code == 1
    assert empty.stderr.startswith("error: stdin: is empty (0 bytes)")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(Exception, match="nothing is"):
        names("-")
