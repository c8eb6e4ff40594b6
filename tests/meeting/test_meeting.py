"""Meetings: who said what, with the embedded model on real clips and turns that are known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.errors import DiffusionASRError, LanguageError, ToolkitMissingError
from diffusion_asr.meeting import (
    ORDERS,
    Diarization,
    DiarizationError,
    MeetingOptions,
    MeetingResult,
    Order,
    SpeakerCount,
    offline_diarizer,
    transcribe_meeting,
)
from diffusion_asr.meeting.attribution import Turn, TurnIndex
from diffusion_asr.meeting.diarizer import merged, tidied
from diffusion_asr.meeting.stretches import stretches
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import adapters
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
    options = MeetingOptions("en", trace=True, init="noise", steps=3)
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


def test_speakers_of_one_name_are_one_and_names_that_look_alike_stay_two() -> None:
    same = tidied(Diarization((Turn(0, 3, "A"), Turn(2, 5, "A"), Turn(4, 6, "B"))), 10.0)
    assert same.turns == (Turn(0, 5, "A"), Turn(4, 6, "B"))
    assert same.exclusive == (Turn(0, 5, "A"), Turn(5, 6, "B"))
    alike = tidied(Diarization((Turn(0, 1, "Ann Lee"), Turn(1, 2, "Ann_Lee"), Turn(2, 3, "unknown"))), 10.0)
    assert [t.speaker for t in alike.turns] == ["Ann Lee", "Ann_Lee_2", "unknown_2"]


def test_turns_that_touch_are_joined_even_with_others_between() -> None:
    assert merged([Turn(0, 4, "A"), Turn(1, 2, "B"), Turn(3, 6, "A")]) == [Turn(0, 6, "A"), Turn(1, 2, "B")]


@pytest.mark.parametrize("moment", [float("nan"), float("inf")])
def test_impossible_times_are_told(moment: float) -> None:
    with pytest.raises(DiarizationError, match="Ann"):
        tidied(Diarization((Turn(0.0, moment, "Ann"),)), 10.0)


# --- cutting -----------------------------------------------------------------------------------------------


@st.composite
def floors(draw: st.DrawFn) -> list[Turn]:
    gaps = draw(st.lists(st.tuples(st.floats(0, 2), st.floats(0.01, 3), st.sampled_from("AB")), max_size=8))
    turns, clock = [], 0.0
    for gap, length, who in gaps:
        turns.append(Turn(clock + gap, clock + gap + length, who))
        clock += gap + length
    return turns


@given(floors(), st.floats(0, 5), st.floats(0.1, 10))
def test_a_window_is_cut_without_gaps_or_crumbs(turns: list[Turn], start: float, length: float) -> None:
    found = stretches(TurnIndex(turns), turns, start, start + length, 0.5)
    assert (found[0].start, found[-1].end) == (start, start + length)
    for a, b in pairwise(found):
        assert a.end == b.start
        assert a.speaker != b.speaker
    if len(found) > 1:
        assert all(s.end - s.start >= (1.0 if s.speaker is None else 0.3) - 1e-9 for s in found)


def test_between_turns_the_nearer_one_has_the_floor_within_the_limit() -> None:
    turns = [Turn(0, 2, "A"), Turn(2.6, 4, "B"), Turn(8, 9, "C")]
    found = [(s.start, s.end, s.speaker) for s in stretches(TurnIndex(turns), turns, 0, 9, 0.5)]
    assert found == [(0, 2.3, "A"), (2.3, 4.5, "B"), (4.5, 7.5, None), (7.5, 9, "C")]


# --- impossible wishes -------------------------------------------------------------------------------------


@pytest.fixture
def no_pyannote(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [replace(a, version=None) for a in adapters()]
    monkeypatch.setattr("diffusion_asr.meeting.offline.adapters", lambda: found)


@pytest.mark.usefixtures("no_pyannote")
def test_without_pyannote_the_remedies_are_told() -> None:
    with pytest.raises(ToolkitMissingError, match=r"pip install 'diffusion-asr\[pyannote\]'.*--rttm"):
        offline_diarizer()


@pytest.mark.parametrize(
    ("counts", "message"),
    [((0,), "num_speakers=0"), ((None, 3, 2), "min_speakers is above"), ((2, 1, 3), "exact")],
)
def test_impossible_numbers_of_speakers_are_told(counts: tuple[int | None, ...], message: str) -> None:
    with pytest.raises(DiffusionASRError, match=message):
        SpeakerCount(*counts)


def test_wrong_options_are_refused_before_any_work() -> None:
    for wrong in ({"order": "sideways"}, {"limit": -1.0}, {"steps": 0}, {"init": "silence"}):
        with pytest.raises(ValueError, match=r"order|limit|step|init"):
            MeetingOptions(**wrong)
    with pytest.raises(LanguageError, match="unknown language 'xx'"):
        transcribe_meeting(ENGLISH, "canvas-base", known(), MeetingOptions("xx"))
