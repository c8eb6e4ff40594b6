"""The command line's files: whole or not there, and what a batch does when one fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from diffusion_asr import formats
from diffusion_asr.errors import ModelError
from diffusion_asr.recognizer import Recognizer
from tests.support import cli_helpers
from tests.support.cli_helpers import Fake, run

fake, files = cli_helpers.fake, cli_helpers.files


# --- files -------------------------------------------------------------------------------------


def test_files_in_a_new_folder(fake: Fake, files: Callable[..., list[str]]) -> None:
    arguments = ["--format", "txt,SRT", "--format", "json,txt,seglst", "--output-dir", "new/out"]
    result = run("transcribe", *files("de.wav", "x/zh.opus"), *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    names = {path.name for path in Path("new/out").iterdir()}
    ends = ("txt", "srt", "json", "seglst.json")
    assert names == {f"{stem}.{end}" for stem in ("de", "zh") for end in ends}
    assert formats.read("new/out/zh.json")[0].text == "你好"
    assert "de.wav -> new/out/de.txt, new/out/de.srt" in result.stderr


def test_existing_files_are_kept(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("de.wav", "zh.wav", "out/zh.txt")
    arguments = ("transcribe", "de.wav", "zh.wav", "--output-dir", "out")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "out/zh.txt exists already; give --overwrite" in result.stderr
    assert fake.calls == []
    assert Path("out/zh.txt").read_bytes() == b"sound"
    assert run(*arguments, "--overwrite").exit_code == 0
    assert Path("out/zh.txt").read_text(encoding="utf8") == "你好\n"


def test_a_folder_in_the_way(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("de.wav", "out/de.txt/x")
    result = run("transcribe", "de.wav", "--output-dir", "out", "--overwrite")
    assert result.exit_code == 2
    assert "exists and is not a file" in result.stderr


def test_a_full_disk_ends_the_batch(
    fake: Fake, files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = run("transcribe", *files("de.wav", "zh.wav"), "--output-dir", "out")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: out/")
    assert "No space left on device" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert len(fake.calls) <= 1
    assert list(Path("out").iterdir()) == []


# --- failures ----------------------------------------------------------------------------------


def test_a_batch_goes_on(fake: Fake, files: Callable[..., list[str]]) -> None:
    names = files("bad.wav", "de.wav", "unplugged.wav", "zh.wav")
    result = run("transcribe", *names, "missing.wav", "--output-dir", "out")
    assert result.exit_code == 1
    assert {path.name for path in Path("out").iterdir()} == {"de.txt", "zh.txt"}
    heading, *errors = result.stderr.splitlines()[-4:]
    assert heading == "3 of 5 files failed:"
    assert errors[0] == "error: missing.wav: there is no such file: check the path"
    assert errors[1].endswith("bad.wav: is damaged: copy it again")
    assert errors[2] == "error: unplugged.wav: Input/output error"


def test_a_missing_file_needs_no_model(fake: Fake, files: Callable[..., list[str]]) -> None:
    files()
    result = run("transcribe", "missing.wav")
    assert (result.exit_code, result.stdout, fake.models) == (1, "", [])
    assert result.stderr == "error: missing.wav: there is no such file: check the path\n"


def test_no_model(files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModelError(f"no model {name!r}: not a folder")

    monkeypatch.setattr(Recognizer, "from_pretrained", missing)
    result = run("transcribe", *files("a.wav"), "--model", "nowhere")
    assert (result.exit_code, result.stderr) == (1, "error: no model 'nowhere': not a folder\n")


def test_interrupted(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "interrupt.wav", "zh.wav"), "--output-dir", "out")
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted: 1 of 3 files done\n")
    assert [path.name for path in Path("out").glob("[!.]*")] == ["de.txt"]
    assert "the same command goes on from here" in result.stderr


def test_an_interrupted_json_is_whole(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "interrupt.wav"), "--format", "json")
    assert result.exit_code == 130
    assert len(json.loads(result.stdout)["transcripts"]) == 1


def test_interrupted_while_loading(files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Recognizer, "from_pretrained", interrupted)
    result = run("transcribe", *files("de.wav"))
    assert result.exit_code == 130
    assert result.stderr == "interrupted: 0 of 1 files done\n"
