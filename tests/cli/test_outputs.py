"""The rule for everything that is written: never an input, never each other, no work before the check."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from diffusion_asr.cli import outputs
from tests.support import cli_helpers
from tests.support.cli_helpers import FAKE_PROGRAM, Fake, process, run

fake, files = cli_helpers.fake, cli_helpers.files


def refused(fake: Fake, *arguments: str) -> str:
    """The message of a command that is refused before anything is done."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = run("transcribe", *arguments)
    assert result.exit_code == 2, result.stderr
    assert fake.models == []
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    return result.stderr


def test_an_output_never_replaces_an_input(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("talk.txt", "a.wav", "b.wav", "out/x", "page.html")
    Path("link.wav").symlink_to("talk.txt")
    Path("out/b.srt").symlink_to("../b.wav")
    Path("out/a.vtt").hardlink_to("a.wav")
    always = ("--overwrite", "-o")
    assert "would replace the input talk.txt" in refused(fake, "talk.txt", *always, ".")
    assert "would replace the input link.wav" in refused(
        fake, "link.wav", "--report", "talk.txt", "--overwrite"
    )
    assert "would replace the input a.wav" in refused(fake, "a.wav", "-f", "vtt", *always, "out")
    assert "would replace the input b.wav" in refused(fake, "a.wav", "b.wav", "-f", "srt", *always, "out")
    assert "would replace the input page.html" in refused(
        fake, "page.html", "--report", "page.html", "--overwrite"
    )


def test_outputs_never_replace_each_other(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("a.wav", "a.mp3", "x/a.wav", "out/x")
    assert "a.wav and a.mp3 would both become out/a.txt" in refused(fake, "a.wav", "a.mp3", "-o", "out")
    assert "two outputs of a.wav" in refused(fake, "a.wav", "-f", "vtt", "-o", "out", "--report", "out/a.vtt")
    Path("same").symlink_to("out")
    assert "two outputs of a.wav" in refused(
        fake, "a.wav", "-f", "vtt", "-o", "out", "--report", "same/a.vtt"
    )


def test_a_folder_that_ignores_case(
    fake: Fake, files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    files("Talk.wav", "TALK.mp3", "out/x")
    assert run("transcribe", "Talk.wav", "TALK.mp3", "-o", "out").exit_code == 0
    fake.models.clear()
    monkeypatch.setattr(outputs, "_ignores_case", lambda folder: True)
    assert "would both become" in refused(fake, "Talk.wav", "TALK.mp3", "-o", "new")


def test_whether_a_folder_ignores_case_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Talk.wav").touch()
    assert not outputs._ignores_case(tmp_path)
    outputs._ignores_case.cache_clear()
    monkeypatch.setattr(Path, "samefile", lambda self, other: str(self).lower() == str(other).lower())
    assert outputs._ignores_case(tmp_path)
    assert outputs._ignores_case(tmp_path / "to/be/made")
    outputs._ignores_case.cache_clear()


def test_overwrite_holds_for_the_page_too(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("a.wav", "old.html")
    assert "old.html exists already; give --overwrite" in refused(fake, "a.wav", "--report", "old.html")


@pytest.mark.parametrize("command", ["meeting", "transcribe"])
def test_a_meeting_keeps_the_rule(command: str, fake: Fake, files: Callable[..., list[str]]) -> None:
    files("a.wav", "a.rttm", "a.html")
    always = ("-o", ".", "--overwrite")
    if command == "meeting":
        result = run(command, "a.wav", "--rttm", "a.rttm", "-f", "rttm", *always)
        assert result.exit_code == 2
        assert "would replace the input a.rttm" in result.stderr
    result = run(command, "a.wav", "-f", "vtt", "--report", "a.vtt", *always)
    assert result.exit_code == 2
    assert "two outputs of a.wav" in result.stderr


def test_the_same_file_given_twice_is_done_once(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav"), "./de.wav", str(Path("de.wav").absolute()))
    assert (result.exit_code, result.stdout) == (0, "guten Tag\n")


@pytest.mark.skipif(os.name != "posix", reason="closes streams as shells of POSIX do")
@pytest.mark.parametrize("command", ["info", "adapters"])
def test_a_closed_stdout_is_no_success(command: str) -> None:
    child = process(command, preexec_fn=lambda: os.close(1))
    _, err = child.communicate()
    assert (child.returncode, err) == (1, b"error: cannot write to stdout: it is closed\n")


@pytest.mark.skipif(os.name != "posix", reason="closes streams as shells of POSIX do")
def test_a_closed_stdout_is_told_before_the_work(files: Callable[..., list[str]]) -> None:
    child = process("transcribe", *files("de.wav"), code=FAKE_PROGRAM, preexec_fn=lambda: os.close(1))
    _, err = child.communicate()
    assert child.returncode == 1
    assert err.decode().startswith("error: stdout is closed")


@pytest.mark.skipif(os.name != "posix", reason="file descriptors of POSIX")
def test_stdout_that_is_the_recording_is_refused(files: Callable[..., list[str]]) -> None:
    with Path(*files("de.wav")).open("ab") as file:
        child = process("transcribe", "de.wav", code=FAKE_PROGRAM, stdout=file)
        _, err = child.communicate()
    assert child.returncode == 2
    assert "stdout goes to de.wav" in err.decode()
    assert Path("de.wav").read_bytes() == b"sound"
