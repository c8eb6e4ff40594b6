"""What diarizers may return, what is known of speakers, and what to do where there is no diarizer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diffusion_asr.audio.files import SAMPLE_RATE, Samples
from diffusion_asr.errors import DiffusionASRError, ToolkitMissingError
from diffusion_asr.meeting import (
    Diarization,
    DiarizationError,
    SpeakerCount,
    Stage,
    make_offline_diarizer,
    transcribe_meeting,
)
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import find_doubt, merge_turns, tidy_diarization
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import list_adapters
from tests.support import meeting_helpers
from tests.support.meeting_helpers import BOTH, known, quick

asr = meeting_helpers.asr


def test_speakers_of_one_name_are_one_and_names_that_look_alike_stay_two() -> None:
    same = tidy_diarization(Diarization((Turn(0, 3, "A"), Turn(2, 5, "A"), Turn(4, 6, "B"))), 10.0)
    assert same.turns == (Turn(0, 5, "A"), Turn(4, 6, "B"))
    assert same.exclusive == (Turn(0, 5, "A"), Turn(5, 6, "B"))
    alike = tidy_diarization(
        Diarization((Turn(0, 1, "Ann Lee"), Turn(1, 2, "Ann_Lee"), Turn(2, 3, "unknown"))), 10.0
    )
    assert [t.speaker for t in alike.turns] == ["Ann Lee", "Ann_Lee_2", "unknown_2"]


def test_turns_that_touch_are_joined_even_with_others_between() -> None:
    assert merge_turns([Turn(0, 4, "A"), Turn(1, 2, "B"), Turn(3, 6, "A")]) == [
        Turn(0, 6, "A"),
        Turn(1, 2, "B"),
    ]


@pytest.mark.parametrize("moment", [float("nan"), float("inf")])
def test_impossible_times_are_told(moment: float) -> None:
    with pytest.raises(DiarizationError, match="Ann"):
        tidy_diarization(Diarization((Turn(0.0, moment, "Ann"),)), 10.0)


@pytest.mark.parametrize(
    ("counts", "message"),
    [((0,), "num_speakers=0"), ((None, 3, 2), "min_speakers is above"), ((2, 1, 3), "exact")],
)
def test_impossible_numbers_of_speakers_are_told(counts: tuple[int | None, ...], message: str) -> None:
    with pytest.raises(DiffusionASRError, match=message):
        SpeakerCount(*counts)


LONG = tuple(Turn(5.0 * n, 5.0 * n + 4, "AB"[n % 2]) for n in range(4))


@pytest.mark.parametrize(
    ("turns", "count", "doubt"),
    [
        (LONG, SpeakerCount(), None),
        (LONG[::2], SpeakerCount(), "only one speaker"),
        (LONG[::2], SpeakerCount(None, None, 3), "only one speaker"),
        (LONG[::2], SpeakerCount(1), None),
        (LONG[::2], SpeakerCount(None, 1, 1), None),
        (LONG[:1], SpeakerCount(), None),  # too little to say anything
        ((*LONG, Turn(30, 30.2, "C")), SpeakerCount(), "C talks for only 0.2 s"),
        ((*LONG, *(Turn(9.0 * n, 9.0 * n + 5, str(n)) for n in range(3))), SpeakerCount(), "5 speakers"),
        ((), SpeakerCount(), None),
    ],
)
def test_a_doubtful_number_of_speakers_is_known_by_its_turns(
    turns: tuple[Turn, ...], count: SpeakerCount, doubt: str | None
) -> None:
    found = find_doubt(turns, count)
    assert found == doubt or (found is not None and doubt is not None and doubt in found)


class Guess:
    """A diarizer that hears one voice."""

    name = "guess"

    def diarize(self, samples: Samples, count: SpeakerCount, stage: Stage) -> Diarization:
        return Diarization((Turn(0.0, len(samples) / SAMPLE_RATE, "A"),))


def test_doubt_is_said_with_the_option_unless_the_turns_were_given(asr: Recognizer) -> None:
    told = "only one speaker was found; if you know how many there are, give --num-speakers"
    for diarizer, options, said in (
        (Guess(), quick("en"), [told]),
        (Guess(), quick("en", speakers=SpeakerCount(1)), []),
        (known(Turn(0.0, 30.0, "A")), quick("en"), []),
    ):
        notes: list[str] = []
        transcribe_meeting(BOTH, asr, diarizer, options, note=notes.append)
        assert [note.removesuffix(" (SpeakerCount)") for note in notes] == said


@pytest.fixture
def no_pyannote(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [replace(a, version=None) for a in list_adapters()]
    monkeypatch.setattr("diffusion_asr.meeting.offline.list_adapters", lambda: found)


@pytest.mark.usefixtures("no_pyannote")
def test_without_pyannote_the_remedies_are_told() -> None:
    with pytest.raises(ToolkitMissingError, match=r"pip install 'diffusion-asr\[pyannote\]'.*--rttm"):
        make_offline_diarizer()
