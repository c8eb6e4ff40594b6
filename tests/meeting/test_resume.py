"""Runs that are killed go on where they were, or say why they cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.meeting import (
    Diarization,
    KnownTurns,
    MeetingOptions,
    MeetingResult,
    ResumeError,
    transcribe_meeting,
)
from diffusion_asr.recognizer import Recognizer
from tests.support import meeting_helpers
from tests.support.meeting_helpers import BOTH, TURNS, known, quick

asr = meeting_helpers.asr
CUT = quick(order="cut-first", trace=True)


class Dying(Recognizer):
    """The embedded model, until it has decoded so many pieces."""

    def __init__(self, whole: Recognizer, lives: int) -> None:
        super().__init__(whole.parts)
        self.lives = lives

    def decode(self, *args: Any, **options: Any) -> Any:
        if not self.lives:
            raise KeyboardInterrupt
        self.lives -= 1
        return super().decode(*args, **options)


@pytest.fixture
def killed(asr: Recognizer, tmp_path: Path) -> Path:
    """The state of a run that was interrupted after its first piece."""
    with pytest.raises(KeyboardInterrupt):
        transcribe_meeting(BOTH, Dying(asr, 1), known(*TURNS), CUT, state=tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture(scope="module")
def untouched(asr: Recognizer) -> MeetingResult:
    return transcribe_meeting(BOTH, asr, known(*TURNS), CUT)


def again(
    asr: Recognizer, state: Path, options: MeetingOptions = CUT, **more: Any
) -> tuple[MeetingResult, int, list[str]]:
    """The run once more, how many pieces it decoded and what it said."""
    notes: list[str] = []
    counting = Dying(asr, 99)
    result = transcribe_meeting(
        BOTH, counting, known(*TURNS), options, state=state, note=notes.append, **more
    )
    return result, 99 - counting.lives, notes


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_been(
    asr: Recognizer, killed: Path, untouched: MeetingResult
) -> None:
    result, decoded, notes = again(asr, killed)
    assert (result, decoded) == (untouched, 1)
    assert "going on" in notes[0]
    assert not killed.exists()


def test_a_line_cut_off_by_the_kill_is_decoded_again(
    asr: Recognizer, killed: Path, untouched: MeetingResult
) -> None:
    killed.write_bytes(killed.read_bytes()[:-10])
    result, decoded, _ = again(asr, killed)
    assert (result, decoded) == (untouched, 2)


def test_what_was_finished_but_not_written_is_not_decoded_again(
    asr: Recognizer, killed: Path, untouched: MeetingResult
) -> None:
    again(asr, killed, keep_state=True)
    assert again(asr, killed)[:2] == (untouched, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"language": "en"}, "another language"),
        ({"decoding": DecodingOptions(steps=3, trace=True)}, "another number of steps"),
        ({"decoding": DecodingOptions(steps=2, trace=True, seed=1)}, "another start of the decoding"),
    ],
)
def test_a_state_of_other_options_is_told_and_not_used(
    asr: Recognizer, killed: Path, change: dict[str, Any], message: str
) -> None:
    _, decoded, notes = again(asr, killed, replace(CUT, **change))
    assert decoded == 2
    assert message in notes[0]
    assert "starting from the beginning" in notes[0]


def test_a_state_of_another_recording_or_diarization_is_not_used(asr: Recognizer, killed: Path) -> None:
    notes: list[str] = []
    other = KnownTurns(Diarization(TURNS), "others")
    transcribe_meeting(0.5 * BOTH, asr, other, CUT, state=killed, note=notes.append)
    assert "another recording, diarization" in notes[0]


def test_a_run_may_start_again_and_a_damaged_state_does(asr: Recognizer, killed: Path) -> None:
    kept = killed.read_bytes()
    assert again(asr, killed, resume=False)[1:] == (2, [])
    killed.write_bytes(kept.replace(b'"turns"', b'"turms"'))
    _, decoded, notes = again(asr, killed)
    assert decoded == 2
    assert "damaged" in notes[0]


def test_a_state_that_another_run_is_writing_or_that_cannot_be_kept_is_told(
    asr: Recognizer, killed: Path
) -> None:
    fcntl = pytest.importorskip("fcntl")
    with killed.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ResumeError, match="another run"):
            again(asr, killed)
    with pytest.raises(ResumeError, match="cannot be kept"):
        again(asr, killed.parent / "none" / "state")
