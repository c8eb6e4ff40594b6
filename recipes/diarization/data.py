"""Recordings with known turns: AMI excerpts, pyannote's sample, and meetings simulated from LibriSpeech.

Which clips tune and which test is fixed here. AMI is split by meeting, so no voice is on both sides:
tune = trn01-03 (one meeting) and trn05, test = trn04, dev00 and dev01. LibriSpeech is split by speaker, in
three: some train the projection of embeddings, some tune thresholds, some test. pyannote's sample is only
ever tested on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_asr.audio import files as audio
from diffusion_asr.audio.spans import VadOptions, find_speech
from diffusion_asr.audio.speech import SpeechDetector
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.meeting.attribution import Turn

RATE = audio.SAMPLE_RATE
SHARED = Path(__file__).parents[3] / "shared/data"
AMI = {"tune": ("trn01", "trn02", "trn03", "trn05"), "test": ("trn04", "dev00", "dev01")}
SPEAKERS = {"train": (0.0, 0.45), "tune": (0.45, 0.67), "test": (0.67, 1.0)}  # of LibriSpeech's, shuffled
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """Samples at 16 kHz, and who speaks when."""

    name: str
    samples: Samples
    turns: tuple[Turn, ...]

    @property
    def speakers(self) -> int:
        """How many different voices speak."""
        return len({t.speaker for t in self.turns})

    def as_file(self) -> dict[str, Any]:
        """What a pyannote pipeline takes."""
        return {"waveform": torch.from_numpy(self.samples)[None], "sample_rate": RATE, "uri": self.name}


def read_rttm(path: Path) -> dict[str, tuple[Turn, ...]]:
    """Turns by recording."""
    turns: dict[str, list[Turn]] = {}
    for line in path.read_text(encoding="utf8").splitlines():
        if line.startswith("SPEAKER"):
            field = line.split()
            start, length = float(field[3]), float(field[4])
            turns.setdefault(field[1], []).append(Turn(start, start + length, field[7]))
    return {name: tuple(sorted(spoken)) for name, spoken in turns.items()}


def ami(half: str, shared: Path = SHARED) -> list[Recording]:
    """The AMI excerpts of one half, 30 s each."""
    folder = shared / "diarization"
    turns = read_rttm(folder / "ami.rttm")
    return [Recording(name, audio.read_audio(folder / f"{name}.flac"), turns[name]) for name in AMI[half]]


def pyannote_sample() -> Recording:
    """The half minute that comes in pyannote.audio's wheel."""
    from pyannote.audio import sample

    folder = Path(sample.__file__).parent
    (turns,) = read_rttm(folder / "sample.rttm").values()
    return Recording("pyannote sample", audio.read_audio(folder / "sample.wav"), turns)


def meetings(folder: Path) -> list[Recording]:
    """What ``recipes.meetings simulate`` wrote: dev voices, of which none tuned anything here.

    Raises:
        DiffusionASRError: No such meetings there.
    """
    paths = sorted(folder.glob("*.rttm"))
    if not paths:
        raise DiffusionASRError(
            f"{folder} holds no simulated meetings: write some by recipes.meetings simulate"
        )
    return [
        Recording(path.stem, audio.read_audio(path.with_suffix(".flac")), read_rttm(path)[path.stem])
        for path in paths
    ]


@cache
def librispeech(part: str, shared: Path = SHARED) -> dict[str, tuple[Samples, ...]]:
    """Stretches of speech by speaker (train-clean-100, about 12 s each speaker), cut at pauses."""
    detector = SpeechDetector()
    voices: dict[str, list[Samples]] = {}
    for row in librispeech_rows(part, shared):
        samples = audio.read_audio(shared / "speech" / row["audio_filepath"])
        voices.setdefault(row["speaker"], []).extend(_stretches(samples, detector))
    return {name: tuple(pieces) for name, pieces in sorted(voices.items())}


def librispeech_rows(part: str, shared: Path = SHARED) -> list[dict[str, Any]]:
    """What the manifest of shared/data tells of a part's clips."""
    lines = (shared / "speech/manifest.jsonl").read_text(encoding="utf8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["source"] == "LibriSpeech train-clean-100"]
    speakers = sorted({row["speaker"] for row in rows})
    np.random.default_rng(0).shuffle(speakers)
    first, last = (round(share * len(speakers)) for share in SPEAKERS[part])
    chosen = set(speakers[first:last])
    return [row for row in rows if row["speaker"] in chosen]


def _stretches(samples: Samples, detector: SpeechDetector) -> list[Samples]:
    options = VadOptions(min_silence=0.15, padding=0.03)
    probabilities = np.concatenate(list(detector.probabilities([samples])))
    spans = find_speech(probabilities, options, len(samples))
    return [samples[a:b] for a, b in spans if b - a > 0.4 * RATE]


def simulated(half: str, count: int, shared: Path = SHARED) -> list[Recording]:
    """Meetings of one to four of LibriSpeech's speakers."""
    voices = librispeech(half, shared)
    rng = np.random.default_rng({"tune": 1, "test": 2}[half])
    sizes = [1 + n % 4 for n in range(count)]
    return [simulate(f"sim {half} {n:03d}", voices, size, rng) for n, size in enumerate(sizes)]


def simulate(
    name: str, voices: dict[str, tuple[Samples, ...]], size: int, rng: np.random.Generator
) -> Recording:
    """One meeting: turns of one to three stretches, some overlap, a room, a level for each, noise."""
    chosen = [str(v) for v in rng.choice(sorted(voices), size, replace=False)]
    left = {v: list(voices[v]) for v in chosen}
    room = {v: 10 ** (rng.uniform(-4, 4) / 20) * echo(rng) for v in chosen}
    track, turns, clock, last = np.zeros(60 * RATE * size, np.float32), list[Turn](), rng.uniform(0, 1), ""
    while any(left.values()):
        who = str(
            rng.choice(
                [v for v in left if left[v] and (v != last or not any(left[o] for o in left if o != v))]
            )
        )
        for _ in range(min(len(left[who]), int(rng.integers(1, 4)))):
            piece = left[who].pop(0)
            sound = np.convolve(piece, room[who]).astype(np.float32)
            begin = round(clock * RATE)
            track[begin : begin + len(sound)] += sound
            turns.append(Turn(round(clock, 3), round(clock + len(piece) / RATE, 3), who))
            clock += len(piece) / RATE + rng.uniform(0.1, 0.5)
        overlaps = rng.random() < 0.2 and size > 1
        clock += -rng.uniform(0.5, 1.3) if overlaps else rng.uniform(0, 0.8)
        last = who
    samples = track[: round((clock + 0.5) * RATE)]
    level = np.sqrt(np.mean(samples**2)) * 10 ** (-rng.uniform(15, 35) / 20)
    noisy = samples + level * rng.standard_normal(len(samples))
    return Recording(name, (0.5 * noisy / np.abs(noisy).max()).astype(np.float32), tuple(sorted(turns)))


def echo(rng: np.random.Generator) -> NDArray[np.float64]:
    """A made-up room: the direct sound and a decaying tail of noise."""
    seconds, wet = rng.uniform(0.1, 0.5), rng.uniform(0.0, 0.5)
    time = np.arange(round(seconds * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail *= wet / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail
