"""Meetings: who said what, with the embedded model on real clips and turns that are known."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import LanguageError
from diffusion_asr.meeting import (
    ORDERS,
    MeetingOptions,
    MeetingResult,
    Order,
    transcribe_meeting,
)
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.recognizer import Recognizer
from tests.support import meeting_helpers
from tests.support.meeting_helpers import BOTH, END, ENGLISH, HANDOVER, TURNS, known, quick, write

asr = meeting_helpers.asr


def spoken(meeting: MeetingResult) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in meeting.transcript.words]


# --- both orders -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=ORDERS)
def meeting(asr: Recognizer, request: pytest.FixtureRequest) -> MeetingResult:
    return transcribe_meeting(BOTH, asr, known(*TURNS), quick(order=request.param, trace=True))


def test_every_word_has_its_speaker_and_both_confidences(meeting: MeetingResult) -> None:
    words = list(meeting.transcript.words)
    assert {w.speaker for w in words} == {"Ann", "Ben"}
    # a word's time may be off by a slot or two where the floor changes hands
    assert all(w.speaker == "Ann" for w in words if w.end < HANDOVER - 0.3)
    assert all(w.speaker == "Ben" for w in words if w.start > HANDOVER + 0.3)
    assert all(w.confidence is not None and w.speaker_confidence is not None for w in words)
    assert all(0 <= (w.speaker_confidence or 0) <= 1 for w in words)
    assert not any(w.overlapped for w in words)
    assert all(w.speaker == s.speaker for s in meeting.transcript.segments for w in s.words)


def test_the_language_changes_with_the_speaker_in_one_window(meeting: MeetingResult) -> None:
    by_speaker = {(s.speaker, s.language) for s in meeting.transcript.segments}
    assert by_speaker == {("Ann", "en"), ("Ben", "de")}


def test_the_result_holds_both_views_and_a_trace_from_first_canvas_to_text(meeting: MeetingResult) -> None:
    assert meeting.turns == meeting.exclusive == TURNS
    assert meeting.speakers == ("Ann", "Ben")
    assert meeting.duration == pytest.approx(END)
    assert meeting.traces[0].start == pytest.approx(0.0, abs=0.3)
    assert meeting.traces[-1].end == pytest.approx(END, abs=0.3)
    for trace in meeting.traces:
        assert len(trace.steps) > 1
        inside = [w for w in meeting.transcript.words if trace.start <= w.start < trace.end]
        assert "".join("".join(w.text for w in inside).split()) == "".join(trace.steps[-1].split())


def test_a_trace_from_noise_begins_with_noise(asr: Recognizer) -> None:
    options = MeetingOptions("en", decoding=DecodingOptions(steps=3, start="noise", trace=True))
    first = transcribe_meeting(ENGLISH, asr, known(Turn(0, 9, "A")), options).traces[0].steps
    assert len(first[0]) > 2 * len(first[-1])


def test_decode_first_gives_the_words_of_a_plain_transcription(asr: Recognizer, tmp_path: Path) -> None:
    path = write(tmp_path / "both.wav", BOTH)
    ours = transcribe_meeting(path, asr, known(*TURNS), quick("en", order="decode-first"))
    assert spoken(ours) == [(w.text, w.start, w.end) for w in asr.transcribe(path, "en", steps=2).words]
    assert ours.source == str(path)


def test_words_in_overlap_are_marked(asr: Recognizer) -> None:
    turns = (Turn(0.0, 5.0, "Ann"), Turn(0.5, 1.5, "Ben"))
    for order in ORDERS:
        options = quick("en", order=order)
        found = transcribe_meeting(ENGLISH, asr, known(*turns), options)
        words = list(found.transcript.words)
        assert words
        assert {w.speaker for w in words} == {"Ann"}
        assert all(w.overlapped == (w.start < 1.5 and w.end > 0.5) for w in words)


# --- the list of bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_one_speaker_says_everything(asr: Recognizer, order: Order) -> None:
    options = quick("en", order=order)
    found = transcribe_meeting(ENGLISH, asr, known(Turn(0.0, 60.0, "Ann")), options)
    assert {s.speaker for s in found.transcript.segments} == {"Ann"}
    assert spoken(found) == spoken(transcribe_meeting(ENGLISH, asr, known(), options))
    assert found.turns == (Turn(0.0, len(ENGLISH) / SAMPLE_RATE, "Ann"),)  # not beyond the end


@pytest.mark.parametrize("order", ORDERS)
def test_no_speech_gives_no_words_whatever_the_diarizer_says(asr: Recognizer, order: Order) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, 80_000).astype(np.float32)
    for samples in (noise, np.zeros(48_000, np.float32), np.zeros(0, np.float32)):
        options = quick(order=order)
        found = transcribe_meeting(samples, asr, known(Turn(0, 2, "Ann"), Turn(2, 4, "Ben")), options)
        assert found.transcript.segments == ()


@pytest.mark.parametrize("order", ORDERS)
def test_turns_of_30_ms_neither_break_nor_win(asr: Recognizer, order: Order) -> None:
    cuts = np.arange(0.2, 2.0, 0.2)
    short = tuple(Turn(float(t), float(t) + 0.03, "Ben") for t in cuts)
    edges = [0.0, *(edge for turn in short for edge in (turn.start, turn.end)), 4.0]
    single = (*short, *(Turn(a, b, "Ann") for a, b in pairwise(edges) if b - a > 0.05))
    options = quick("en", order=order)
    found = transcribe_meeting(ENGLISH, asr, known(*short, Turn(0.0, 4.0, "Ann"), single=single), options)
    words = list(found.transcript.words)
    assert words
    assert {w.speaker for w in words} == {"Ann"}
    assert spoken(found) == spoken(transcribe_meeting(ENGLISH, asr, known(Turn(0, 4, "Ann")), options))


@pytest.mark.parametrize("order", ORDERS)
def test_a_diarizer_that_returns_nothing_leaves_words_to_nobody(asr: Recognizer, order: Order) -> None:
    found = transcribe_meeting(ENGLISH, asr, known(), quick("en", order=order))
    words = list(found.transcript.words)
    assert words
    assert {(w.speaker, w.speaker_confidence) for w in words} == {(None, 0.0)}
    assert {s.speaker for s in found.transcript.segments} == {None}


# --- impossible wishes -------------------------------------------------------------------------------------


def test_wrong_options_are_refused_before_any_work() -> None:
    for wrong in ({"order": "sideways"}, {"limit": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MeetingOptions(**wrong)
    with pytest.raises(LanguageError, match="unknown language 'xx'"):
        transcribe_meeting(ENGLISH, "canvas-base", known(), MeetingOptions("xx"))
