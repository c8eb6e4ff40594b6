"""Meetings through a DiffusionGemma adapter. Its weights are random, so nothing is asked of the words."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from diffusion_asr.audio import files as audio
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import LanguageError
from diffusion_asr.meeting import ORDERS, Diarization, KnownTurns, MeetingOptions, Order, transcribe_meeting
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.lazy_recognizer import LazyRecognizer
from tests.support.gemma_published import Published, published_system

SAMPLES = audio.read_audio(Path(__file__).parents[1] / "data/en-arctic_a0239_1592711579.flac")
HALF = len(SAMPLES) / audio.SAMPLE_RATE / 2
TURNS = KnownTurns(Diarization((Turn(0.0, HALF, "Ann"), Turn(HALF, 2 * HALF, "Ben"))), "known")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published_system(tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("order", ORDERS)
def test_a_meeting_needs_no_language_detection(system: Published, order: Order) -> None:
    options = MeetingOptions(order=order, decoding=DecodingOptions(steps=1))
    meeting = transcribe_meeting(SAMPLES, str(system.adapter), TURNS, options)
    assert meeting.turns == TURNS.diarize(SAMPLES, options.speakers, lambda *_: None).turns
    assert {segment.language for segment in meeting.transcript.segments} <= {"und"}


def test_an_unknown_language_is_refused(system: Published) -> None:
    with pytest.raises(LanguageError, match="unknown language 'xx'"):
        transcribe_meeting(SAMPLES, str(system.adapter), TURNS, MeetingOptions(language="xx"))


def test_adapters_are_told_apart(system: Published, tmp_path: Path) -> None:
    """A run that was killed must not go on with another adapter's words."""
    other = published_system(tmp_path, rank=2)
    assert LazyRecognizer(str(system.adapter)).digest == LazyRecognizer(str(system.adapter)).digest
    assert LazyRecognizer(str(system.adapter)).digest != LazyRecognizer(str(other.adapter)).digest
