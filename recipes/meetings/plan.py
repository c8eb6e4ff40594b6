"""Who says what when in a simulated meeting: turns, pauses, and overlap of exactly the share asked for.

The share of overlap is the time in which two talk over the time in which anybody talks, as the reference's
own turns have it. All boundaries between turns are drawn towards each other by different amounts until the
share is right; nobody talks over himself, and never three at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.meeting.attribution import Turn
from recipes.meetings.voices import Clip, Cutter, Utterance

Rng = np.random.Generator
_EXACT = 0.00005  # of the share
_MUCH = 0.15  # overlap above which a turn is one utterance, alike in length to the one before
_LONG = 12.0  # seconds of a turn of several utterances
_ATTEMPTS = 20
_AT_HAND = 4  # utterances that a speaker has to choose from


class SimulationError(DiffusionASRError):
    """A meeting that cannot be made of these clips."""


@dataclass(frozen=True)
class Settings:
    """What a meeting is like.

    Attributes:
        speakers: How many talk, 2 to 6 (1 for a monologue).
        overlap: Share of the time with speech in which two talk, 0 to 0.3.
        minutes: About so long.
        languages: That are spoken; each by at least one, if there are enough speakers.
        snr: Decibels of speech over noise.
        echo: Seconds that the room rings (RT60).
        seed: Of everything random.
    """

    speakers: int = 3
    overlap: float = 0.1
    minutes: float = 2.0
    languages: tuple[str, ...] = ("en",)
    snr: float = 20.0
    echo: float = 0.35
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.speakers <= 6:
            raise SimulationError(f"{self.speakers} speakers: 1 to 6 can be simulated")
        if not 0 <= self.overlap <= 0.3 or (self.overlap and self.speakers == 1):
            raise SimulationError(f"an overlap of {self.overlap}: 0 to 0.3, and 0 for one speaker")


@dataclass(frozen=True)
class Placed:
    """An utterance at its time in the meeting, in seconds."""

    start: float
    speaker: str
    utterance: Utterance

    @property
    def end(self) -> float:
        """When it ends."""
        return self.start + self.utterance.seconds

    @property
    def turns(self) -> list[Turn]:
        """Its stretches of speech."""
        return [
            Turn(round(self.start + a, 4), round(self.start + b, 4), self.speaker)
            for a, b in self.utterance.speech
        ]


@dataclass(frozen=True)
class Plan:
    """A whole meeting, in order of time."""

    settings: Settings
    placed: tuple[Placed, ...]

    @property
    def repeats(self) -> int:
        """How often something is said again because its speaker had nothing else left."""
        said = [(each.utterance.clip.path, each.utterance.first) for each in self.placed]
        return len(said) - len(set(said))

    @property
    def turns(self) -> list[Turn]:
        """Who speaks when."""
        return sorted(turn for each in self.placed for turn in each.turns)

    @property
    def duration(self) -> float:
        """Seconds, with a little silence at the end."""
        return max(each.end for each in self.placed) + 0.5


@dataclass
class _Deck:
    """A speaker's clips, shuffled; all of them before one comes again."""

    clips: Sequence[Clip]
    rng: Rng
    left: list[Clip] = field(default_factory=list)
    fresh: bool = True  # nothing was drawn twice

    def draw(self) -> Clip:
        if not self.left:
            self.left = [self.clips[n] for n in self.rng.permutation(len(self.clips))]
        clip = self.left.pop()
        self.fresh = self.fresh and bool(self.left)
        return clip


@dataclass(frozen=True)
class _Talk:
    """A turn before it has its time: utterances with the pauses before them."""

    speaker: str
    utterances: tuple[Utterance, ...]
    pauses: tuple[float, ...]

    @property
    def seconds(self) -> float:
        return sum(u.seconds for u in self.utterances) + sum(self.pauses[1:])

    def placed(self, start: float) -> list[Placed]:
        out = []
        for n, (utterance, pause) in enumerate(zip(self.utterances, self.pauses, strict=True)):
            start += pause if n else 0.0
            out.append(Placed(round(start, 4), self.speaker, utterance))
            start += utterance.seconds
        return out


def plan(voices: Mapping[str, Sequence[Clip]], cutter: Cutter, settings: Settings) -> Plan:
    """Who says what when.

    Raises:
        SimulationError: Too few speakers, or an overlap that these turns cannot have.
    """
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng([settings.seed, attempt])
        decks = {name: _Deck(voices[name], rng) for name in _cast(voices, settings, rng)}
        placed = _timed(_talks(decks, cutter, settings, rng), settings, rng)
        if placed is not None:
            return Plan(settings, tuple(placed))
    raise SimulationError(
        f"an overlap of {settings.overlap:.2f} cannot be had with turns of these clips: give more minutes"
    )


def _cast(voices: Mapping[str, Sequence[Clip]], settings: Settings, rng: Rng) -> list[str]:
    """Speakers, taking the languages by turns."""
    spoken = {name: clips[0].language for name, clips in voices.items()}
    queues = {
        language: [str(n) for n in rng.permutation([n for n in sorted(spoken) if spoken[n] == language])]
        for language in settings.languages
    }
    if sum(map(len, queues.values())) < settings.speakers:
        have = ", ".join(f"{len(names)} {language}" for language, names in queues.items())
        raise SimulationError(
            f"{settings.speakers} speakers are asked for, but there are only: {have}; add languages"
        )
    cast = list[str]()
    while len(cast) < settings.speakers:
        for names in queues.values():
            if names and len(cast) < settings.speakers:
                cast.append(names.pop())
    return cast


def _talks(decks: Mapping[str, _Deck], cutter: Cutter, settings: Settings, rng: Rng) -> list[_Talk]:
    """Turns until the time is filled: whoever has said little is likelier to go on."""
    said, talks = dict.fromkeys(decks, 0.0), list[_Talk]()
    waiting = {name: list[Utterance]() for name in decks}
    while sum(said.values()) < 60 * settings.minutes * (1 - settings.overlap / 2):
        others = [name for name in decks if not talks or name != talks[-1].speaker] or list(decks)
        chance = np.exp(-np.array([said[name] for name in others]) / 15)
        who = str(rng.choice(others, p=chance / chance.sum()))
        while not waiting[who] or (len(waiting[who]) < _AT_HAND and decks[who].fresh):
            waiting[who] += cutter.utterances(decks[who].draw())
        if settings.overlap > _MUCH:  # needs turns alike in length
            like = talks[-1].seconds if talks else 5.0
            nearest = min(waiting[who], key=lambda u: abs(u.seconds - like))
            spoken = [waiting[who].pop(waiting[who].index(nearest))]
        else:
            spoken = [waiting[who].pop(0)]
            for _ in range(int(rng.integers(0, 3))):
                if waiting[who] and sum(u.seconds for u in (*spoken, waiting[who][0])) < _LONG:
                    spoken.append(waiting[who].pop(0))
        talks.append(_Talk(who, tuple(spoken), tuple(rng.uniform(0.15, 0.6, len(spoken)))))
        said[who] += talks[-1].seconds
    return talks


def _timed(talks: Sequence[_Talk], settings: Settings, rng: Rng) -> list[Placed] | None:
    """With times; None if the overlap cannot be had."""
    lengths = np.array([talk.seconds for talk in talks])
    room = 0.48 * np.minimum(
        lengths[:-1], lengths[1:]
    )  # each turn is overlapped by half at most on each side
    pauses = np.minimum(rng.lognormal(-1.0, 0.7, len(talks) - 1), 3.0)
    eager = 10 ** rng.uniform(-2, 0, len(talks) - 1)

    def at(strength: float) -> list[Placed]:
        gaps = pauses - (pauses + room) * np.minimum(1.0, strength * eager)
        starts = 0.5 + np.concatenate([[0.0], np.cumsum(lengths[:-1] + gaps)])
        return [each for talk, start in zip(talks, starts, strict=True) for each in talk.placed(float(start))]

    def share(strength: float) -> float:
        return overlap([turn for each in at(strength) for turn in each.turns])

    low, high = 0.0, 100.0
    if share(high) < settings.overlap:
        return None
    while settings.overlap and high - low > 1e-6 and abs(share(high) - settings.overlap) > _EXACT:
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < settings.overlap else (low, middle)
    return sorted(at(high if settings.overlap else 0.0), key=lambda each: each.start)


def overlap(turns: Sequence[Turn]) -> float:
    """Time in which two or more talk over the time in which anybody talks."""
    steps = sorted([(t.start, 1) for t in turns] + [(t.end, -1) for t in turns])
    talking, before, one, two = 0, 0.0, 0.0, 0.0
    for time, change in steps:
        one += (time - before) * (talking > 0)
        two += (time - before) * (talking > 1)
        talking, before = talking + change, time
    return two / one if one else 0.0


def grid(base: Settings, speakers: Sequence[int], overlaps: Sequence[float], each: int) -> list[Settings]:
    """Settings for ``each`` meetings of every number of speakers and share of overlap."""
    cells = [(s, o) for s in speakers for o in overlaps for _ in range(each)]
    return [replace(base, speakers=s, overlap=o, seed=base.seed + n) for n, (s, o) in enumerate(cells)]
