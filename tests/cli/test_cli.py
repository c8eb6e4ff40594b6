"""The command line: no torch before it is needed, wrong options, and a clean stdout."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffusion_asr import DecodingOptions, __version__, formats
from tests.support import cli_helpers
from tests.support.cli_helpers import FAKE_PROGRAM, Fake, process, run

fake, files = cli_helpers.fake, cli_helpers.files


# --- help, version, start ----------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["--help", "--version", "transcribe --help", "info --help"])
def test_help_starts_without_torch(argument: str) -> None:
    code = f"""
import sys
from diffusion_asr.cli import app
try:
    app({argument.split()!r})
except SystemExit as end:
    assert not end.code
heavy = [name for name in ("torch", "numpy", "soundfile", "tokenizers") if name in sys.modules]
assert not heavy, heavy
"""
    child = process(code=code)
    out, err = child.communicate()
    assert child.returncode == 0, err.decode()
    assert err == b""
    assert all(len(line) <= 80 for line in out.decode().splitlines())


def test_wrong_options_are_found_without_torch() -> None:
    code = """
import sys
from diffusion_asr.cli import app
try:
    app(["transcribe", "a.wav", "--language", "xx"])
except SystemExit as end:
    assert end.code == 2 and "torch" not in sys.modules
"""
    child = process(code=code)
    _, err = child.communicate()
    assert child.returncode == 0, err.decode()
    assert "unknown language 'xx'" in err.decode()


def test_version() -> None:
    assert run("--version").stdout == f"diffusion-asr {__version__}\n"


@pytest.mark.parametrize("command", [(), ("transcribe",), ("info",)])
def test_help_has_examples(command: tuple[str, ...]) -> None:
    shown = run(*command, "--help").stdout
    assert "Examples" in shown
    assert f"diffusion-asr {' '.join(command)}" in shown


# --- usage errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--language", "xx"], "this model knows en, de, fr, es, hi, zh, or auto"),
        (["--format", "doc"], "unknown format 'doc'; choose from txt, json"),
        (["--format", ","], "no format given"),
        (["--format", "txt,json"], "give --output-dir to write several"),
        (["--overwrite"], "give --output-dir too"),
        (["--steps", "0"], "0 is not between 1 and 1000"),
        (["--steps", "-3"], "-3 is not between"),
        (["--steps", "many"], "--steps"),
        (["--seed", "-1"], "-1 is not between"),
        (["--threads", "0"], "0 is not between"),
        (["--start", "middle"], "--start"),
        (["--output-dir", "a.wav"], "a.wav is a file"),
        (["empty"], "empty is a folder without sound files; give --recursive"),
        (["*.mp3"], "no file fits *.mp3"),
        (["b.wav", "--report", "page.html"], "a page shows one recording"),
        (["--report", "nowhere/page.html"], "is a folder, or in none"),
        (["--jobs", "0"], "0 is not between"),
        (["--max-line-width", "20"], "it is for srt and vtt"),
        (["--highlight-words", "-f", "json"], "it is for srt and vtt"),
        (["-f", "srt", "--max-line-count", "0"], "0 is not between"),
        (["b.wav", "--format", "srt"], "or give --output-dir"),
        (["folder/a.wav", "--format", "stm"], "two recordings have the id 'a'"),
        (["folder/a.wav", "--output-dir", "out"], "would both become out/a.txt"),
    ],
)
def test_usage_errors(
    arguments: list[str], message: str, fake: Fake, files: Callable[..., list[str]]
) -> None:
    files("a.wav", "b.wav", "folder/a.wav", "empty/notes.txt")
    result = run("transcribe", "a.wav", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert fake.models == []
    assert not Path("out").exists()


def test_a_model_of_ones_own_knows_its_languages(fake: Fake, files: Callable[..., list[str]]) -> None:
    fake.languages = ("it",)
    result = run("transcribe", *files("a.wav"), "--model", "mine", "--language", "IT")
    assert result.exit_code == 0
    assert fake.models == ["mine"]
    result = run("transcribe", "a.wav", "--model", "mine", "--language", "de")
    assert result.exit_code == 2
    assert "this model knows" in result.stderr


# --- stdout ------------------------------------------------------------------------------------


def test_one_file_gives_its_text_alone(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "guten Tag\n", "")


def test_subtitles_are_cut_as_wished(fake: Fake, files: Callable[..., list[str]]) -> None:
    wishes = ["--max-line-width", "4", "--max-line-count", "1", "--highlight-words"]
    result = run("transcribe", *files("de.wav"), "--format", "srt", *wishes)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "<u>gute</u>\n" in result.stdout
    assert run("transcribe", "de.wav", "-f", "vtt,txt", "-o", "out", *wishes).exit_code == 0
    assert "<u>gute</u>\n" in Path("out/de.vtt").read_text(encoding="utf8")
    assert Path("out/de.txt").read_text(encoding="utf8") == "guten Tag\n"


def test_several_texts_have_headings(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "zh.wav"))
    assert result.stdout == "==> de.wav <==\nguten Tag\n\n==> zh.wav <==\n你好\n"


def test_several_files_are_one_json(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "bad.wav", "zh.wav"), "--format", "JSON")
    assert result.exit_code == 1
    assert [t.text for t in formats.parse(result.stdout, "json")] == ["guten Tag", "你好"]


def test_json_names_the_model_and_the_speed(fake: Fake, files: Callable[..., list[str]]) -> None:
    (first,) = json.loads(run("transcribe", *files("de.wav"), "-f", "json").stdout)["transcripts"]
    assert (first["source"], first["duration"], first["language"]) == ("de.wav", 2.0, "de")
    assert first["model"] == "fake 1"
    assert first["processing_seconds"] >= 0
    assert first["speed"] > 0


def test_options_arrive(fake: Fake, files: Callable[..., list[str]]) -> None:
    options = ["-l", "de", "--steps=5", "--start=noise", "--seed=7", "--threads=1"]
    threads = torch.get_num_threads()
    try:
        assert run("transcribe", *files("de.wav"), *options).exit_code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    call = fake.calls[0]
    assert call["language"] == "de"
    assert call["options"] == DecodingOptions(steps=5, start="noise", seed=7)
    assert fake.models == ["canvas-base"]


@pytest.mark.parametrize("name", ["German", "de-DE", "<|de|>", "DE"])
def test_a_language_has_many_names(name: str, fake: Fake, files: Callable[..., list[str]]) -> None:
    assert run("transcribe", *files("de.wav"), "--language", name).exit_code == 0
    assert run("transcribe", "de.wav", "--model", "mine", "--language", name).exit_code == 0
    assert [call["language"] for call in fake.calls] == ["de", "de"]


def test_defaults(fake: Fake, files: Callable[..., list[str]]) -> None:
    run("transcribe", *files("de.wav"))
    kept = {name: fake.calls[0][name] for name in ("language", "options", "on_hypothesis")}
    assert kept == {"language": None, "options": DecodingOptions(), "on_hypothesis": None}


def test_no_speech_is_a_note(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("silence.wav"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "silence.wav: no speech found\n"


def test_a_name_with_a_dash(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("-x.wav")
    assert run("transcribe", "--", "-x.wav").stdout == "this is -x\n"


def test_warnings_are_one_line(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("short.wav"))
    assert result.stderr == "warning: short.wav: breaks off after 1 s\n"
    assert result.stdout == "this is short\n"


def test_trace_is_on_stderr(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav"), "--trace")
    assert result.stdout == "guten Tag\n"
    assert result.stderr.splitlines() == [
        "de.wav at 1.50 s: language de, 1 parallel pass, 1 causal pass",
        "  pass  1  parallel  accepted  25%  confidence 0.75  (nothing)",
        "  pass  2  causal    accepted 100%  confidence 0.75  guten Tag",
    ]


# --- as a process ------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="pipes and terminals of POSIX")
class TestStreams:
    def test_a_closed_pipe_is_quiet(self, files: Callable[..., list[str]]) -> None:
        read, written = os.pipe()
        os.close(read)
        child = process("transcribe", *files("de.wav"), code=FAKE_PROGRAM, stdout=written)
        os.close(written)
        _, err = child.communicate()
        assert (child.returncode, err) == (141, b"")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_a_full_disk_behind_stdout(self, files: Callable[..., list[str]]) -> None:
        with Path("/dev/full").open("wb") as full:
            child = process("transcribe", *files("de.wav", "zh.wav"), code=FAKE_PROGRAM, stdout=full)
            _, err = child.communicate()
        assert child.returncode == 1
        assert err.decode() == "error: cannot write to stdout: No space left on device\n"

    def test_the_bar_stays_on_the_terminal(self, files: Callable[..., list[str]]) -> None:
        ours, theirs = os.openpty()
        child = process("transcribe", *files("de.wav", "[red]zh.wav"), code=FAKE_PROGRAM, stderr=theirs)
        os.close(theirs)
        out, _ = child.communicate()
        shown = os.read(ours, 1 << 16).decode()
        os.close(ours)
        assert child.returncode == 0
        assert out.decode() == "==> de.wav <==\nguten Tag\n\n==> [red]zh.wav <==\nthis is [red]zh\n"
        assert "1/2 de.wav" in shown
        assert "2/2 [red]zh.wav" in shown
        assert "1/2 s" in shown
        assert "x real time" in shown

    def test_names_that_are_not_utf8(self, files: Callable[..., list[str]]) -> None:
        name = os.fsdecode(b"caf\xe9.wav")
        child = process("transcribe", *files("de.wav", name), code=FAKE_PROGRAM)
        out, err = child.communicate()
        assert (child.returncode, err) == (0, b"")
        assert b"==> caf\xe9.wav <==\n" in out
