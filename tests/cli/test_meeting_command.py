"""The meeting command: files that others can read, one-line errors, and a run that survives a kill."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from diffusion_asr import formats
from diffusion_asr.cli import app
from diffusion_asr.cli.meeting import Order, meeting
from diffusion_asr.meeting import DEFAULT_ORDER, ORDERS
from tests.support.meeting_helpers import BOTH, END, HANDOVER, call, rttm, write

PLAIN = {"_TYPER_FORCE_DISABLE_TERMINAL": "1", "COLUMNS": "200"}
ALL = "txt,json,srt,vtt,tsv,rttm,stm,ctm,seglst"
ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["meeting", *map(str, arguments)], env=PLAIN)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """talk.wav, its RTTM, and out/ with what the command made of it in every format."""
    folder = tmp_path_factory.mktemp("meeting")
    write(folder / "talk.wav", BOTH)
    rttm(folder / "talk.rttm", ("talk", 0.0, HANDOVER, "Ann"), ("talk", HANDOVER, END, "Ben"))
    result = run(
        folder / "talk.wav", "--rttm", folder / "talk.rttm", "--format", ALL, "--steps", "2",
        "--output-dir", folder / "out", "--report", folder / "out/talk.html",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "2 speakers" in result.stderr
    return folder


def test_every_format_and_the_page_are_there_and_no_state(folder: Path) -> None:
    names = sorted(path.name for path in (folder / "out").iterdir())
    suffixes = [form.suffixes[0] for form in formats.FORMATS.values()]
    assert names == sorted([*(f"talk{suffix}" for suffix in suffixes), "talk.html"])
    assert "Ann" in (folder / "out/talk.html").read_text(encoding="utf8")


def test_json_and_seglst_keep_speakers_confidences_and_words(folder: Path) -> None:
    (full,) = formats.read(folder / "out/talk.json")
    (segments,) = formats.read(folder / "out/talk.seglst.json")
    assert {w.speaker for w in full.words} == {"Ann", "Ben"}
    assert all(w.speaker_confidence is not None for w in full.words)
    assert list(segments.words) == list(full.words)


@pytest.mark.parametrize("suffix", [".seglst.json", ".stm", ".rttm"])
def test_meeteval_reads_speakers_and_words(folder: Path, suffix: str) -> None:
    meeteval = pytest.importorskip("meeteval.io")
    rows = meeteval.load(folder / f"out/talk{suffix}").to_seglst()
    assert {row["speaker"] for row in rows} == {"Ann", "Ben"}
    assert {row["session_id"] for row in rows} == {"talk"}
    if suffix != ".rttm":
        (full,) = formats.read(folder / "out/talk.json")
        assert [row["words"] for row in rows] == [s.text for s in full.segments]


def test_meeteval_reads_the_ctm(folder: Path) -> None:
    meeteval = pytest.importorskip("meeteval.io")
    (full,) = formats.read(folder / "out/talk.json")
    lines = meeteval.CTM.load(folder / "out/talk.ctm").lines
    assert [line.word for line in lines] == [w.text for w in full.words]


def test_pyannote_reads_the_rttm(folder: Path) -> None:
    database = pytest.importorskip("pyannote.database.util")
    found = database.load_rttm(folder / "out/talk.rttm")["talk"]
    assert sorted(found.labels()) == ["Ann", "Ben"]
    assert found.get_timeline().extent().end <= END


def test_the_rttm_holds_the_diarizer_s_turns_not_those_of_the_words(folder: Path) -> None:
    (turns,) = formats.read(folder / "out/talk.rttm")
    told = [(s.start, s.end, s.speaker) for s in turns.segments]
    expected = [(0.0, HANDOVER, "Ann"), (HANDOVER, END, "Ben")]
    assert [speaker for *_, speaker in told] == [speaker for *_, speaker in expected]
    assert [x for row in told for x in row[:2]] == pytest.approx(
        [x for row in expected for x in row[:2]], abs=1e-3
    )
    result = run(folder / "talk.wav", "--rttm", folder / "talk.rttm", "--format", "rttm", "--steps", "1")
    assert result.stdout == (folder / "out/talk.rttm").read_text()


def test_txt_has_speakers(folder: Path) -> None:
    (full,), (told,) = (formats.read(folder / f"out/talk{suffix}") for suffix in (".json", ".txt"))
    assert {s.speaker for s in told.segments} == {"Ann", "Ben"}
    assert [(s.speaker, s.text) for s in told.segments] == [(s.speaker, s.text) for s in full.segments]


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_subtitles_have_speakers(folder: Path, suffix: str) -> None:
    (read,) = formats.read(folder / f"out/talk{suffix}")
    assert {s.speaker for s in read.segments} == {"Ann", "Ben"}


def test_stdout_is_the_transcript_alone(folder: Path) -> None:
    write(folder / "call.wav", call(0.05))
    result = run(folder / "call.wav", "--channels-as-speakers", "--steps", "2", "--format", "stm")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert {line.split()[2] for line in lines} == {"CHANNEL_1", "CHANNEL_2"}


def test_no_speech_is_told_and_is_no_error(tmp_path: Path) -> None:
    quiet = np.stack([np.zeros(32_000), 1e-4 * np.random.default_rng(0).normal(size=32_000)], axis=1)
    result = run(write(tmp_path / "quiet.wav", quiet.astype(np.float32)), "--channels-as-speakers")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no speech found" in result.stderr


def test_a_name_that_only_just_fits_is_no_obstacle(tmp_path: Path) -> None:
    path = write(tmp_path / f"{'会' * 82}.wav", np.stack([0 * BOTH[:9000], BOTH[:9000]], axis=1))
    result = run(path, "--channels-as-speakers", "--steps", "1", "--output-dir", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert [made.name for made in (tmp_path / "out").iterdir()] == [f"{'会' * 82}.srt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-speakers", "0"], "at least one person"),
        (["--num-speakers", "2", "--max-speakers", "3"], "it is exact"),
        (["--min-speakers", "3", "--max-speakers", "2"], "3 is more than --max-speakers 2"),
        (["--rttm", "x.rttm", "--channels-as-speakers"], "either the file or the channels"),
        (["--rttm", "x.rttm", "--num-speakers", "2"], "leave it out"),
        (["--language", "xx"], "unknown language 'xx'"),
        (["--order", "sideways"], "decode-first"),
        (["--format", "docx"], "unknown format 'docx'"),
        (["--report", "nowhere/at/all.html"], "nowhere/at/all.html"),
    ],
)
def test_contradictions_are_wrong_command_lines(folder: Path, arguments: list[str], message: str) -> None:
    result = run(folder / "talk.wav", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_bad_files_are_one_line_and_exit_code_1(folder: Path) -> None:
    for name, options, message in (
        ("none.wav", ["--channels-as-speakers"], "no such file"),
        ("talk.wav", ["--channels-as-speakers"], "has one channel"),
        ("talk.wav", ["--rttm", f"{folder}/none.rttm"], "none.rttm: cannot be read"),
    ):
        result = run(folder / name, *options)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_the_orders_of_the_command_are_those_of_the_engine() -> None:
    assert tuple(order.value for order in Order) == ORDERS
    assert inspect.signature(meeting).parameters["order"].default.value == DEFAULT_ORDER


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_a_killed_command_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-c", "from diffusion_asr.cli import main; main()", "meeting", f"{folder}/talk.wav",
        "--rttm", f"{folder}/talk.rttm", "--format", "json", "--order", "cut-first", "--steps", "2",
        "--output-dir",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT / "core")}
    state = tmp_path / ".talk.meeting.jsonl"
    with subprocess.Popen([*command, str(tmp_path)], env=environment, stderr=subprocess.DEVNULL) as first:
        while first.poll() is None and not (state.exists() and b'"piece"' in state.read_bytes()):
            time.sleep(0.01)
        first.send_signal(signal.SIGKILL)
    assert list(tmp_path.iterdir()) == [state]
    pieces = state.read_bytes().count(b'"piece"')
    done = subprocess.run(
        [*command, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    assert pieces == 1
    assert "going on with a run" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]
    result = run(*command[4:-1], "--output-dir", tmp_path / "whole")
    assert result.exit_code == 0, result.stderr
    assert json.loads((tmp_path / "talk.json").read_text()) == json.loads(
        (tmp_path / "whole/talk.json").read_text()
    )
