"""The command line's files: whole or not there, and what a batch does when one fails."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from diffusion_asr import formats
from diffusion_asr.errors import ModelError
from diffusion_asr.recognizer import Recognizer
from tests.support import cli_helpers
from tests.support.cli_helpers import FAKE_PROGRAM, Fake, process, run

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


def test_a_failure_of_any_kind_is_one_file_s(fake: Fake, files: Callable[..., list[str]]) -> None:
    long = "录" * 81 + "z.wav"  # 248 bytes: with .seglst.json it is too long
    names = files("bug.wav", long, "de.wav")
    result = run("transcribe", *names, "x" * 300, "-f", "txt,seglst", "-o", "out")
    assert result.exit_code == 1
    assert {path.name for path in Path("out").iterdir()} == {"de.txt", "de.seglst.json"}
    assert "error: bug.wav: unexpected RuntimeError: a tensor is too large" in result.stderr
    assert result.stderr.count("ile name too long") == 2
    assert run("transcribe", long, "-f", "txt", "-o", "out").exit_code == 0


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


# --- as it comes -------------------------------------------------------------------------------


def test_text_is_written_window_by_window(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("window.wav"))
    assert (result.exit_code, result.stdout) == (0, "one.\ntwo.\n")
    result = run("transcribe", *files("broken-window.wav", "de.wav"))
    assert result.exit_code == 1
    assert result.stdout == "==> broken-window.wav <==\none.\n\n==> de.wav <==\nguten Tag\n"


@pytest.mark.parametrize(
    ("form", "kept"), [("txt", "one.\n"), ("srt", "1\n00:00:00,000 --> 00:00:01,000\none.\n")]
)
def test_ctrl_c_keeps_what_is_done(form: str, kept: str, fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("interrupt-window.wav"), "--format", form)
    assert (result.exit_code, result.stdout) == (130, kept)


# --- after a kill ------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_the_same_command_goes_on_after_a_kill(fake: Fake, files: Callable[..., list[str]]) -> None:
    command = ("transcribe", *files("de.wav", "killed-window.wav", "zh.wav"), "-f", "txt,json", "-o", "out")
    with process(*command, code=FAKE_PROGRAM) as child:
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert sorted(path.name for path in Path("out").glob("[!.]*")) == ["de.json", "de.txt"]
    before = Path("out/de.json").read_bytes()
    result = run(*command)
    assert result.exit_code == 0, result.stderr
    assert "de.wav: was done before" in result.stderr
    assert "going on with a run that had come to 1 s" in result.stderr
    assert [call["source"].stem for call in fake.calls] == ["killed-window", "zh"]
    assert Path("out/de.json").read_bytes() == before
    assert Path("out/killed-window.txt").read_text(encoding="utf8") == "one.\ntwo.\n"
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "de.json", "de.txt", "killed-window.json", "killed-window.txt", "zh.json", "zh.txt",
    ]  # fmt: skip
    assert run(*command).exit_code == 2  # the run is over: now they are anybody's


def test_another_command_does_not_go_on(fake: Fake, files: Callable[..., list[str]]) -> None:
    command = ("transcribe", *files("de.wav", "interrupt-window.wav"), "-o", "out")
    assert run(*command).exit_code == 130
    for change in (["--language", "de"], ["--steps", "1"], ["--format", "txt,srt"]):
        refused = run(*command, *change)
        assert refused.exit_code == 2
        assert "out/de.txt exists already" in refused.stderr
    assert run(*command).exit_code == 130
    assert list(fake.calls[-1]["known"]) == [(0.0, 1.0)]
    assert run(*command, "--no-resume", "--overwrite").exit_code == 130
    assert fake.calls[-1]["known"] == {}
    assert run(*command).exit_code == 130
    Path("out/de.txt").write_text("corrected by hand")
    assert run(*command).exit_code == 2
    assert Path("out/de.txt").read_text() == "corrected by hand"
