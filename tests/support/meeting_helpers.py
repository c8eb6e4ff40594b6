"""A meeting of two real clips whose turns are known, and the embedded model to hear it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray

from diffusion_asr.audio import files as audio
from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.meeting import Diarization, KnownTurns, MeetingOptions
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.recognizer import Recognizer
from tests.support.tiny import DATA

ENGLISH = audio.read_audio(DATA / "en-arctic_a0239_1592711579.flac")
GERMAN = audio.read_audio(DATA / "de-de_rhasspy-0208.flac")
PAUSE = np.zeros(round(0.6 * SAMPLE_RATE), np.float32)
BOTH = np.concatenate([ENGLISH, PAUSE, GERMAN])
HANDOVER = (len(ENGLISH) + len(PAUSE) / 2) / SAMPLE_RATE
END = len(BOTH) / SAMPLE_RATE
TURNS = (Turn(0.0, HANDOVER - 0.3, "Ann"), Turn(HANDOVER + 0.3, END, "Ben"))


@pytest.fixture(scope="module")
def asr() -> Recognizer:
    return Recognizer.from_pretrained()


def known(*turns: Turn, single: tuple[Turn, ...] | None = None) -> KnownTurns:
    return KnownTurns(Diarization(turns, single), "known")


def write(path: Path, samples: NDArray[np.float32]) -> Path:
    sf.write(path, samples, SAMPLE_RATE)
    return path


def quick(language: str | None = None, trace: bool = False, **more: Any) -> MeetingOptions:
    """Two steps: what is tested here is whose the words are, not the words."""
    return MeetingOptions(language, decoding=DecodingOptions(steps=2, trace=trace), **more)


def call(crosstalk: float) -> NDArray[np.float32]:
    """(samples, 2): English left, then German right; each is heard a little on the other side."""
    left = np.concatenate([ENGLISH, PAUSE, crosstalk * GERMAN])
    right = np.concatenate([crosstalk * ENGLISH, PAUSE, GERMAN])
    return np.stack([left, right], axis=1).astype(np.float32)


def rttm(path: Path, *rows: tuple[str, float, float, str]) -> Path:
    lines = (f"SPEAKER {name} 1 {a} {b - a} <NA> <NA> {who} <NA> <NA>\n" for name, a, b, who in rows)
    path.write_text("".join(lines))
    return path
