"""What a meeting needs of a diarization, checked and tidied."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from diffusion_asr.audio.files import Samples
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.formats.base import one_line, token
from diffusion_asr.meeting.attribution import Turn, make_exclusive

_TELLING = 5.0  # seconds of talk below which a number is no use anyway
_BRIEF, _BRIEF_SHARE = 1.0, 0.02  # seconds, and share of all talk, below which a speaker may be a mistake
_CROWD = 5


class DiarizationError(DiffusionASRError):
    """Speaker turns that cannot be used, or an impossible number of speakers."""


class Stage(Protocol):
    """Called as work goes on."""

    def __call__(self, stage: str, done: float, total: float, /) -> None:
        """``stage`` has come as far as ``done`` of ``total``, in the stage's own unit."""
        ...


@dataclass(frozen=True, slots=True)
class SpeakerCount:
    """How many people speak, as far as it is known.

    Raises:
        DiarizationError: Impossible numbers.
    """

    exactly: int | None = None
    at_least: int | None = None
    at_most: int | None = None

    def __post_init__(self) -> None:
        names = ("num_speakers", "min_speakers", "max_speakers")
        for name, count in zip(names, (self.exactly, self.at_least, self.at_most), strict=True):
            if count is not None and count < 1:
                raise DiarizationError(f"{name}={count}: at least one person speaks, or leave it out")
        if self.at_least and self.at_most and self.at_least > self.at_most:
            raise DiarizationError(f"min_speakers is above max_speakers: {self.at_least}, {self.at_most}")
        if self.exactly and (self.at_least or self.at_most):
            raise DiarizationError("num_speakers is exact: give it alone, or min_speakers and max_speakers")


@dataclass(frozen=True, slots=True)
class Diarization:
    """Who speaks when.

    Attributes:
        turns: People may speak at the same time.
        exclusive: One at a time; None lets whoever spoke first keep the floor.
    """

    turns: tuple[Turn, ...] = ()
    exclusive: tuple[Turn, ...] | None = None


class Diarizer(Protocol):
    """Finds out who speaks when."""

    @property
    def name(self) -> str:
        """Tells this diarizer and its settings from others, for runs that are resumed."""
        ...

    def diarize(self, samples: Samples, count: SpeakerCount, stage: Stage) -> Diarization:
        """Listen to a recording.

        Args:
            samples: (samples,) float32 mono at 16 kHz; may be a file mapped into memory.
            count: What is known about the number of speakers.
            stage: To be told how far it is.
        """
        ...


@dataclass(frozen=True, slots=True)
class KnownTurns:
    """A diarization that somebody else made."""

    diarization: Diarization
    name: str

    def diarize(self, samples: Samples, count: SpeakerCount, stage: Stage) -> Diarization:
        """See ``Diarizer.diarize``."""
        return self.diarization


def tidy_diarization(found: Diarization, duration: float) -> Diarization:
    """Turns inside the recording, in order, with names that every format tells apart; both views.

    Raises:
        DiarizationError: A turn whose times are no times.
    """
    both = (*found.turns, *(found.exclusive or ()))
    for turn in both:
        if not (math.isfinite(turn.start) and math.isfinite(turn.end)):
            raise DiarizationError(
                f"the diarization has a turn of {turn.speaker} from {turn.start} to {turn.end}"
            )
    names = distinct_names(turn.speaker for turn in both)
    turns, single = (
        [
            Turn(max(0.0, turn.start), min(turn.end, duration), names[turn.speaker])
            for turn in sorted(view)
            if min(turn.end, duration) > max(0.0, turn.start)
        ]
        for view in (found.turns, found.turns if found.exclusive is None else found.exclusive)
    )
    return Diarization(tuple(merge_turns(turns)), tuple(merge_turns(make_exclusive(merge_turns(single)))))


def find_doubt(turns: Sequence[Turn], count: SpeakerCount) -> str | None:
    """Why the number of speakers that was found may be wrong, in words; None if nothing speaks for it.

    Where it was wrong on recordings with known turns (recipes/diarization/RESULTS.md), mostly one voice was
    found in place of several; of five and more, half the numbers were wrong. How far apart the voices are
    told nothing.
    """
    if count.exactly or (count.at_least and count.at_least == count.at_most):
        return None
    talk: dict[str, float] = {}
    for turn in turns:
        talk[turn.speaker] = talk.get(turn.speaker, 0.0) + turn.end - turn.start
    total = sum(talk.values())
    if total < _TELLING:
        return None
    brief = [name for name, seconds in talk.items() if seconds < max(_BRIEF, _BRIEF_SHARE * total)]
    if len(talk) == 1:
        return "only one speaker was found"
    if len(talk) >= _CROWD:
        return f"{len(talk)} speakers were found, and so many are hard to tell apart"
    if brief:
        return f"{len(talk)} speakers were found, but {brief[0]} talks for only {talk[brief[0]]:.1f} s"
    return None


def merge_turns(turns: Iterable[Turn]) -> list[Turn]:
    """Turns of one name that touch or overlap are one turn: nobody talks over himself."""
    last: dict[str, int] = {}
    out: list[Turn] = []
    for turn in sorted(turns):
        n = last.get(turn.speaker)
        if n is not None and turn.start <= out[n].end:
            out[n] = replace(out[n], end=max(out[n].end, turn.end))
        else:
            last[turn.speaker] = len(out)
            out.append(turn)
    return out


def distinct_names(speakers: Iterable[str]) -> dict[str, str]:
    """A name for each speaker that stays another's after RTTM, STM and CTM took the spaces out."""
    names: dict[str, str] = {}
    taken = {token(None)}  # what those formats write for nobody
    for speaker in dict.fromkeys(speakers):
        plain = one_line(speaker)
        name, number = plain, 1
        while token(name) in taken:
            number += 1
            name = f"{plain or 'speaker'}_{number}"
        taken.add(token(name))
        names[speaker] = name
    return names
