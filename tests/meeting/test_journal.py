"""The state file of a run: what is in it is checked, what is no state is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diffusion_asr.meeting import Diarization, ResumeError
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.journal import DecodedPiece, Journal
from diffusion_asr.meeting.result import SegmentTrace
from diffusion_asr.transcript import Segment, Word

ABOUT = {"recording": "1234", "number of speakers": [None, None, 2]}
TURNS = Diarization((Turn(0.0, 2.0, "Ann"),), (Turn(0.0, 2.0, "Ann"),))
WORDS = (Word("Hello,", 0.1, 0.4, 0.9), Word("Ben.", 0.5, 0.8, 0.7))
PIECE = DecodedPiece(
    (Segment(0.1, 0.8, "Hello, Ben.", WORDS, "en"),), SegmentTrace(0.0, 1.0, ("zq", "Hello, Ben."))
)
LATER = DecodedPiece((Segment(1.1, 1.8, "Good morning.", (), "en"),))
DEEP = b"[" * 900 + b"]" * 900


def keep(path: Path, resume: bool = True) -> tuple[Journal, list[str]]:
    notes: list[str] = []
    return Journal(path, ABOUT, resume, notes.append), notes


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Of a run that was killed after two pieces."""
    journal, _ = keep(tmp_path / "state")
    journal.record_turns(TURNS)
    journal.record((0, 0.0, 1.0), PIECE)
    journal.record((0, 1.0, 2.0), LATER)
    journal.close(forget=False)
    return tmp_path / "state"


def test_what_was_recorded_comes_back(state: Path) -> None:
    journal, notes = keep(state)
    assert journal.diarization == TURNS
    assert journal.pieces == {(0, 0.0, 1.0): PIECE, (0, 1.0, 2.0): LATER}
    assert "going on" in notes[0]
    journal.close(forget=True)
    assert list(state.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        # no JSON: everything from there on is dropped
        (b"[" * 200_000, 1),
        (b'{"turns": [[0, ' + b"9" * 9000 + b', "A"]], "exclusive": []}', 1),
        (b"\xff\xfe", 1),
        (b"\x00" * 5000, 1),
        # another JSON: nothing in the file is believed
        (b"null", 0),
        (b"[]", 0),
        (b"3", 0),
        (b"{}", 0),
        (b'{"turns": 3, "exclusive": []}', 0),
        (b'{"turns": [[0, 1, "A"]]}', 0),
        (b'{"turns": [[0, 1]], "exclusive": []}', 0),
        (b'{"turns": [[0, 1, 5]], "exclusive": []}', 0),
        (b'{"turns": [[5, 1, "A"]], "exclusive": []}', 0),
        (b'{"turns": [[NaN, 1, "A"]], "exclusive": []}', 0),
        (b'{"turns": [["x", 1, "A"]], "exclusive": []}', 0),
        (b'{"turns": [[0, 1e999, "A"]], "exclusive": []}', 0),
        (b'{"turns": [[0, ' + b"9" * 4000 + b', "A"]], "exclusive": []}', 0),
        (b'{"turns": ' + DEEP + b', "exclusive": []}', 0),
        (b'{"piece": [0, 0], "decoded": {}}', 0),
        (b'{"piece": [[], 0, 1], "decoded": {}}', 0),
        (b'{"piece": {}, "decoded": 1}', 0),
        (b'{"piece": [0, 0, 1], "decoded": ' + DEEP + b"}", 0),
        (b'{"piece": [true, 0, 1], "decoded": {"schema_version": 1, "transcripts": []}}', 0),
        (b'{"piece": [0, 0, 1], "decoded": {"schema_version": 1, "transcripts": []}}', 0),
        (b'{"piece": [0, 0, 1], "decoded": {"schema_version": 1, "transcripts": [{"segments": 1}]}}', 0),
    ],
    ids=lambda value: str(value[:60]) if isinstance(value, bytes) else "",
)
def test_lines_of_any_other_shape_are_dropped_with_a_note(state: Path, line: bytes, kept: int) -> None:
    lines = state.read_bytes().splitlines(keepends=True)
    state.write_bytes(b"".join([*lines[:3], line + b"\n", *lines[3:]]))
    journal, notes = keep(state)
    assert len(journal.pieces) == kept
    assert (journal.diarization is not None) == bool(kept)
    assert [("going on" if kept else "damaged") in note for note in notes] == [True]
    assert len(notes[0]) < 500
    journal.record((0, 1.0, 2.0), LATER)
    journal.close(forget=False)
    assert (0, 1.0, 2.0) in keep(state)[0].pieces


@pytest.mark.parametrize("about", [b"null", b"3", b"[[]]", b'{"recording": ' + DEEP + b"}"])
def test_a_header_of_any_other_shape_is_another_run_s(tmp_path: Path, about: bytes) -> None:
    (tmp_path / "state").write_bytes(b'{"version": 1, "about": ' + about + b"}\n")
    journal, notes = keep(tmp_path / "state")
    assert (journal.diarization, journal.pieces) == (None, {})
    assert "another recording" in notes[0]


# --- what is no state --------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="makes links and pipes")
@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("kind", ["link", "link to nowhere", "link to a state", "pipe", "folder"])
def test_only_a_file_is_taken_and_no_link_is_followed(state: Path, kind: str, resume: bool) -> None:
    """What a link points to is not written to, a pipe is not waited for."""
    place, work = state.with_name("place"), state.with_name("work")
    work.write_text("somebody's work")
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        targets = {"link": work, "link to nowhere": state.with_name("nowhere"), "link to a state": state}
        place.symlink_to(targets[kind])
    before = state.read_bytes()
    with pytest.raises(ResumeError, match="place"):
        keep(place, resume)
    assert work.read_text() == "somebody's work"
    assert state.read_bytes() == before
    assert sorted(path.name for path in state.parent.iterdir()) == ["place", "state", "work"]


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "content",
    [b"notes of mine\n", b"RIFF\x00\x00", b"{}\n", b"[1]\n", b"[" * 200_000 + b"\n", b"9" * 9999 + b"\n"],
    ids=lambda content: str(content[:9]),
)
def test_a_file_that_is_no_state_is_not_replaced(tmp_path: Path, content: bytes, resume: bool) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(ResumeError, match="not the state of a run"):
        keep(tmp_path / "notes", resume)
    assert (tmp_path / "notes").read_bytes() == content


def test_a_file_too_large_to_be_read_is_not(tmp_path: Path) -> None:
    with (tmp_path / "state").open("wb") as file:
        file.truncate(1 << 33)  # of holes; where that cannot be, the test has nothing to say
    with pytest.raises(ResumeError, match="not the state of a run"):
        keep(tmp_path / "state")


def test_an_empty_file_is_begun(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    journal, notes = keep(tmp_path / "state")
    journal.record_turns(TURNS)
    journal.close(forget=False)
    assert notes == []
    assert keep(tmp_path / "state")[0].diarization == TURNS
