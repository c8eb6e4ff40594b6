"""Turns that come with the recording: a channel for each speaker, or an RTTM file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.errors import AudioError, FormatError
from diffusion_asr.meeting import DiarizationError, SpeakerCount, transcribe_meeting
from diffusion_asr.recognizer import Recognizer
from tests.support import meeting_helpers
from tests.support.meeting_helpers import ENGLISH, GERMAN, HANDOVER, call, known, quick, rttm, write

asr = meeting_helpers.asr


# --- a channel for each speaker ----------------------------------------------------------------------------


def test_channels_are_speakers_and_crosstalk_is_not_written_twice(asr: Recognizer, tmp_path: Path) -> None:
    path = write(tmp_path / "call.wav", call(0.1))
    found = transcribe_meeting(path, asr, options=quick(channels_as_speakers=True))
    heard = {(s.speaker, s.language) for s in found.transcript.segments}
    assert heard == {("CHANNEL_1", "en"), ("CHANNEL_2", "de")}
    assert all((w.end < HANDOVER) == (w.speaker == "CHANNEL_1") for w in found.transcript.words)
    assert [s.start for s in found.transcript.segments] == sorted(s.start for s in found.transcript.segments)
    in_memory = transcribe_meeting(call(0.1).T, asr, options=quick(channels_as_speakers=True))
    assert in_memory.speakers == ("CHANNEL_1", "CHANNEL_2")


def test_channels_that_are_no_speakers_are_told(asr: Recognizer, tmp_path: Path) -> None:
    options = quick(channels_as_speakers=True)
    mono = write(tmp_path / "mono.wav", ENGLISH)
    with pytest.raises(AudioError, match=r"mono\.wav: has one channel.*channels-as-speakers"):
        transcribe_meeting(mono, asr, options=options)
    twice = write(tmp_path / "twice.wav", np.stack([ENGLISH, 0.5 * ENGLISH], axis=1))
    with pytest.raises(AudioError, match="channels 1 and 2 carry the same sound"):
        transcribe_meeting(twice, asr, options=options)
    with pytest.raises(DiarizationError, match="neither"):
        transcribe_meeting(twice, asr, known(), options)


def test_two_channels_at_once_are_both_written_and_marked(asr: Recognizer) -> None:
    size = max(len(ENGLISH), len(GERMAN))
    pair = np.stack([np.pad(x, (0, size - len(x))) for x in (ENGLISH, GERMAN)])
    found = transcribe_meeting(pair, asr, options=quick(channels_as_speakers=True))
    words = list(found.transcript.words)
    assert {w.speaker for w in words} == {"CHANNEL_1", "CHANNEL_2"}
    assert any(w.overlapped for w in words)


# --- turns from an RTTM file -------------------------------------------------------------------------------


def test_an_rttm_of_several_recordings_gives_the_turns_of_this_one(asr: Recognizer, tmp_path: Path) -> None:
    path = write(tmp_path / "talk.wav", ENGLISH)
    file = rttm(tmp_path / "all.rttm", ("other", 0, 99, "Eve"), ("talk", 0, 3, "Ann"))
    found = transcribe_meeting(path, asr, file, quick("en"))
    assert {w.speaker for w in found.transcript.words} <= {"Ann", None}
    assert found.speakers == ("Ann",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("other", 0.0, 1.0, "A"), ("third", 0.0, 1.0, "A")], r"turns of other, third, not of talk"),
        ([("talk", 0.0, 1.0, "A"), ("talk", 40.0, 47.5, "B")], r"a turn of B ends at 47\.50 s.*lasts 4\."),
        ([], "no SPEAKER lines"),
        ([("talk", 1.0, 1.0, "A")], "no turn of talk with a length"),
    ],
)
def test_a_mismatched_rttm_is_told(
    asr: Recognizer, tmp_path: Path, rows: list[tuple[str, float, float, str]], message: str
) -> None:
    path = write(tmp_path / "talk.wav", np.resize(ENGLISH, 4 * SAMPLE_RATE + 1600))
    with pytest.raises(DiarizationError, match=message):
        transcribe_meeting(path, asr, rttm(tmp_path / "turns.rttm", *rows))


def test_a_file_that_is_no_rttm_is_told(asr: Recognizer, tmp_path: Path) -> None:
    (tmp_path / "turns.rttm").write_text("who knows\n")
    with pytest.raises(FormatError, match=r"turns\.rttm: line 1"):
        transcribe_meeting(write(tmp_path / "a.wav", ENGLISH), asr, tmp_path / "turns.rttm")
    options = quick(speakers=SpeakerCount(2))
    with pytest.raises(DiarizationError, match="leave out the number"):
        transcribe_meeting(write(tmp_path / "a.wav", ENGLISH), asr, tmp_path / "turns.rttm", options)
