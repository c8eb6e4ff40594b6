"""Transcript files on disk: choice of format, names, bad input, atomic writing, meeteval's view of them."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import pytest

from diffusion_asr.errors import FormatError
from diffusion_asr.formats import FORMATS, format_of, parse, read, render, write
from diffusion_asr.transcript import Segment, Transcript, Word

TALK = Transcript(
    segments=(
        Segment(
            0.0,
            1.5,
            "Hello there.",
            (Word("Hello", 0.0, 0.75, 0.9), Word("there.", 0.8, 1.5)),
            "en",
            "Ann Lee",
        ),
        Segment(1.5, 2.25, "नमस्ते दुनिया", (Word("नमस्ते", 1.5, 2.0), Word("दुनिया", 2.0, 2.25)), "hi"),
        Segment(3.0, 4.0, "你好，", (Word("你", 3.0, 3.5), Word("好，", 3.5, 4.0)), "zh", "B"),
    ),
    duration=5.0,
    source="/data/my talk.wav",
)


def test_session_ids_and_several_recordings(tmp_path: Path) -> None:
    many = [replace(TALK, source=source) for source in ("a/b c.WAV", "2024.05.01", None, "C:\\x\\y;z.mp3")]
    for form in ("rttm", "stm", "ctm", "seglst"):
        path = tmp_path / f"all.{form}"
        write(many, path)
        assert [found.source for found in read(path)] == ["b_c", "2024.05.01", None, "y_z"]
    with pytest.raises(FormatError, match=r"two recordings have the id 'a' \(x/a.wav and y/a.flac\)"):
        render([replace(TALK, source="x/a.wav"), replace(TALK, source="y/a.flac")], "stm")
    with pytest.raises(FormatError, match=r"exactly one recording, not 4; .*json, rttm, stm, ctm, seglst"):
        render(many, "srt")


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.seglst.json", "seglst"), ("a.SEGLST", "seglst"), ("a.b.json", "json"), ("x/y.Srt", "srt")],
)
def test_suffix_chooses_the_format(name: str, form: str) -> None:
    assert format_of(name) == form


def test_explicit_format_wins_and_unknown_ones_list_the_choices(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    write(TALK, path, format="srt")
    assert path.read_text(encoding="utf-8") == render(TALK, "srt")
    assert read(path, format="srt")[0].source == "talk"
    for call in (
        lambda: write(TALK, tmp_path / "a.docx"),
        lambda: read(path, "docx"),
        lambda: render(TALK, ""),
    ):
        with pytest.raises(
            FormatError, match="choose one of: txt, json, srt, vtt, tsv, rttm, stm, ctm, seglst"
        ):
            call()


@pytest.mark.parametrize("form", FORMATS)
def test_every_suffix_can_be_written_and_read(form: str, tmp_path: Path) -> None:
    for suffix in FORMATS[form].suffixes:
        path = tmp_path / f"talk{suffix}"
        write(TALK, path)
        text = path.read_text(encoding="utf-8")
        path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        (found,) = read(path)
        assert found.source == {"json": TALK.source}.get(form, "my_talk" if FORMATS[form].many else "talk")
        assert replace(found, source=None) == replace(parse(text, form)[0], source=None)


def test_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old")
    with pytest.raises(FormatError, match=r"talk\.txt: exists already; .*overwrite=True"):
        write(TALK, path)
    assert path.read_text() == "old"
    write(TALK, path, overwrite=True)
    assert path.read_text(encoding="utf-8") == render(TALK, "txt")
    (tmp_path / "folder.txt").mkdir()
    for name, problem in (("folder.txt", "not a regular file"), ("no/talk.txt", "folder does not exist")):
        with pytest.raises(FormatError, match=problem):
            write(TALK, tmp_path / name, overwrite=True)


@pytest.mark.parametrize("step", ["open", "replace"])
@pytest.mark.parametrize(
    ("failure", "seen"), [(OSError(28, "disk full"), FormatError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_failure_in_the_middle_leaves_the_old_file(
    step: str,
    failure: BaseException,
    seen: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old")

    def fail(self: Path, *_: object) -> None:
        self.touch()
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(Path, step, fail)
        with pytest.raises(
            seen, match="talk.txt: cannot be written: disk full" if seen is FormatError else None
        ):
            write(TALK, path, overwrite=True)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("talk.txt", "old")]


def test_link_stays_a_link_and_permissions_are_the_usual_ones(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "target.txt")
    write(TALK, link)
    write(TALK, link, overwrite=True)
    assert link.is_symlink()
    assert link.stat().st_mode == usual.stat().st_mode


# --- bad input --------------------------------------------------------------------------------------

HEAD = "start\tend\ttext\n"
CUE = "1\n00:00:0{},000 --> 00:00:0{},000\nx\n"
SEGMENT = '{{"schema_version": 1, "transcripts": [{{"segments": [{{"text": "x", "words": {}, {}}}]}}]}}'


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.srt", CUE.format(1, 2) + "\n" + CUE.format(3, 2), r"line 6: the end \(2 s\) is before"),
        ("a.srt", "hello\n", "line 2: a line like"),
        ("a.srt", "1\n-00:00:01,000 --> 00:00:02,000\nx", "line 2: '-00:00:01,000' is not a time like"),
        ("a.srt", "1\n00:00:01,000 -->", "line 2: '' is not a time"),
        ("a.srt", f"1\n{'9' * 5000}:00:01,000 --> 1:00:02,000", "line 2: .* is not a possible time"),
        ("a.vtt", "", "line 1: a WebVTT file begins with WEBVTT"),
        ("a.vtt", "WEBVTT\n\nx\n00:01.000 -> 00:02.000\nhi", "line 4: a line like"),
        ("a.tsv", "", "line 1: the header has no column 'start'"),
        ("a.tsv", "begin\tend\ttext\n", "line 1: the header has no column 'start'"),
        ("a.tsv", HEAD + "0\t1\n", "line 2: 3 columns are expected, not 2"),
        ("a.tsv", HEAD + "\n0\t-1\tx\n", "line 3: '-1' is not a possible time"),
        ("a.tsv", HEAD + "nan\t1\tx\n", "line 2: 'nan' is not a possible time"),
        ("a.rttm", "TURN a 1 0 1\n", "line 1: 'SPEAKER file .* is expected, not 'TURN"),
        ("a.rttm", "SPEAKER a 1 0 -1 <NA> <NA> x <NA>\n", "line 1: '-1' is not a possible time"),
        ("a.rttm", "SPEAKER a 1 1e9 1e9 <NA> <NA> x <NA>\n", "line 1: .* is not a possible time"),
        ("a.stm", ";; ok\na 1 x 0\n", "line 2: 'file channel speaker start end"),
        ("a.stm", "a 1 x 0 inf hm\n", "line 1: 'inf' is not a possible time"),
        ("a.stm", "a 1 x 2 1 hm\n", "line 1: the end"),
        ("a.ctm", "a 1 0 1\n", "line 1: 'file channel start duration word"),
        ("a.ctm", "a 1 zero 1 x\n", "line 1: 'zero' is not a number"),
        ("a.ctm", "a 1 0 1 x high\n", "line 1: the confidence 'high' is not a number"),
        ("a.ctm", "a 1 0 1 x 1.5\n", "line 1: the confidence '1.5' does not lie between 0 and 1"),
        ("a.json", '{"schema_version": 1,\n "transcripts": [', "line 2: not valid JSON .*complete"),
        ("a.json", "", "line 1: not valid JSON"),
        ("a.json", "[" * 100_000, "not a sensible JSON file"),
        ("a.json", "[]", "give the format seglst"),
        ("a.json", '{"schema_version": 2}', "schema_version: 1, .* is expected, not 2"),
        ("a.json", '{"schema_version": 1}', "transcripts: a list is expected, not None"),
        ("a.json", "7", "the file: an object is expected, not 7"),
        ("a.json", SEGMENT.format("[]", '"start": 2, "end": 1'), r"transcripts\[0\].segments\[0\]: the end"),
        ("a.json", SEGMENT.format("[]", '"start": NaN, "end": 1'), r"segments\[0\].start: a time"),
        ("a.json", SEGMENT.format("[]", '"start": -1, "end": 1'), r"segments\[0\].start: a time"),
        ("a.json", SEGMENT.format("[]", '"start": true, "end": 1'), "start: a number is expected, not True"),
        ("a.json", SEGMENT.format("[3]", '"start": 0, "end": 1'), r"words\[0\]: an object is expected"),
        ("a.json", SEGMENT.format("[]", f'"start": {"9" * 400}, "end": 1'), "start: a number is expected"),
        ("a.json", f"[{'9' * 5000}]", "not a sensible JSON file"),
        ("a.seglst", '{"a": 1}', "give the format json"),
        ("a.seglst", '[{"session_id": "a", "start_time": 0, "end_time": 1, "words": []}]', r"\[0\].words: a"),
        ("a.seglst", '[{"start_time": 0, "end_time": 1}]', r"\[0\].session_id: a string is expected"),
    ],
)  # fmt: skip
def test_bad_files_are_explained(name: str, text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=problem) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_that_are_no_text(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        read(path)
    for data, problem in (
        (b"ok\n\xff\xfeRIFF", "line 2: not UTF-8 text .byte 0xff."),
        (b"a\nb\n\0\0", "line 3: .* binary"),
    ):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=problem):
            read(path)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("segment", "problem"),
    [
        (Segment(2.0, 1.0, "x"), "segment 1 of talk: 'x' ends"),
        (Segment(math.nan, 1.0, "x"), "impossible times"),
        (Segment(0.0, math.inf, "x"), "impossible times"),
        (Segment(-1.0, 1.0, "x"), "impossible times"),
        (Segment(0.0, 1.0, "x", (Word("x", 0.0, 1.0, math.nan),)), "confidence nan"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    form: str, segment: Segment, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    with pytest.raises(FormatError, match=problem):
        write(Transcript((segment,), source="talk.wav"), path, form)
    assert not path.exists()


def test_ctm_refuses_text_without_word_times() -> None:
    with pytest.raises(FormatError, match=r"segment 1 of unknown has no word times, .* choose stm"):
        render(Transcript((Segment(0.0, 1.0, "x"),)), "ctm")


@pytest.mark.parametrize("form", FORMATS)
def test_file_names_that_are_not_utf8(form: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(replace(TALK, source="caf\udce9.wav"), path, form)
    (found,) = read(path, form)
    if form == "json":
        assert found.source == "caf\udce9.wav"


# --- meeteval, where it is installed ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "loader"), [("seglst", "SegLST"), ("stm", "STM"), ("rttm", "RTTM"), ("ctm", "CTM")]
)
def test_meeteval_loads_our_files(form: str, loader: str, tmp_path: Path) -> None:
    pytest.importorskip("meeteval")
    pytest.importorskip("simplejson")  # of meeteval's extra "cli", but its SegLST needs it
    io = importlib.import_module("meeteval.io")
    path = tmp_path / f"talk.{form}"
    write([TALK, replace(TALK, source="b.wav")], path)
    rows = [row for row in getattr(io, loader).load(path).to_seglst() if row["session_id"] == "my_talk"]
    assert float(rows[0]["start_time"]) == 0.0
    assert float(rows[-1]["end_time"]) == 4.0
    if form != "ctm":
        ours = "Ann Lee" if form == "seglst" else "Ann_Lee"
        assert [row["speaker"] for row in rows] == [ours, "unknown", "B"]
    if form != "rttm":
        assert (
            " ".join(row["words"] for row in rows).replace("你 好", "你好")
            == "Hello there. नमस्ते दुनिया 你好，"
        )


def test_meeteval_scores_our_files(tmp_path: Path) -> None:
    wer = pytest.importorskip("meeteval.wer")
    pytest.importorskip("simplejson")
    write(TALK, tmp_path / "a.stm")
    write(TALK, tmp_path / "a.seglst.json")
    scores = wer.cpwer(reference=tmp_path / "a.stm", hypothesis=tmp_path / "a.seglst.json")
    assert scores["my_talk"].errors == 0
    assert scores["my_talk"].length == 5
