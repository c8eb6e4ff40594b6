"""What people say in simulated meetings: real clips cut at their pauses, speech and words placed in time.

Where a clip speaks is told by Silero VAD; its words are placed by forced alignment of its text with
canvas-base's first pass (slots of 80 ms, so a word's start is some 50 ms off). A clip without a text gives
speech without words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion_asr.audio import files as audio
from diffusion_asr.audio.spans import VadOptions, find_speech
from diffusion_asr.audio.speech import SpeechDetector
from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.decoder import Decoded
from diffusion_asr.decoding.words import build_words
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Word

RATE = audio.SAMPLE_RATE
SHARED = Path(__file__).parents[3] / "shared/data/speech"
_SPEECH = VadOptions(min_silence=0.25, padding=0.05)
_CHUNK = 29.0  # seconds that the encoder takes at a time
_LEAST = -15.0  # log-probability of a token that the first pass did not think of
_UNKNOWN = "?"  # speaker of clips that may be anybody's: two of them could be one voice


@dataclass(frozen=True)
class Clip:
    """A recording of one speaker, from a manifest."""

    path: Path
    text: str | None
    language: str
    speaker: str
    source: str
    license: str

    @property
    def real(self) -> bool:
        """Whether a human being speaks."""
        return not self.source.startswith("synthetic")


@dataclass(frozen=True)
class Utterance:
    """A stretch of a clip, between two pauses.

    Attributes:
        clip: Where it is from.
        first: Sample of the clip at which it begins.
        last: Sample of the clip before which it ends.
        speech: Seconds from its beginning, start and end of each stretch of speech.
        words: With times in seconds from its beginning.
    """

    clip: Clip
    first: int
    last: int
    speech: tuple[tuple[float, float], ...]
    words: tuple[Word, ...]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.last - self.first) / RATE

    @property
    def text(self) -> str:
        """What is said."""
        return join_words(self.words)

    def samples(self) -> audio.Samples:
        """Read again, so that nobody holds all clips at once."""
        return audio.read_audio(self.clip.path)[self.first : self.last]


def clips(
    split: str, languages: Iterable[str], folder: Path = SHARED, synthetic: bool = False
) -> dict[str, list[Clip]]:
    """Clips with text of known speakers, by speaker.

    Args:
        split: "dev" or "train", as the manifest has it.
        languages: Codes.
        folder: Holds ``manifest.jsonl`` (NeMo's keys, and ``speaker``, ``source``, ``license``, ``split``).
        synthetic: Whether synthetic voices may speak too.
    """
    chosen = set(languages)
    found: dict[str, list[Clip]] = {}
    for line in (folder / "manifest.jsonl").read_text(encoding="utf8").splitlines():
        row = json.loads(line)
        path, speaker = folder / row["audio_filepath"], row["speaker"]
        clip = Clip(path, row["text"], row["lang"], speaker, row["source"], row["license"])
        fits = row["split"] == split and row["text"] and row["lang"] in chosen and row["speaker"] != _UNKNOWN
        # Single words, as from a dictionary, are not what people say in meetings.
        if fits and row["duration"] > 1.5 and (clip.real or synthetic):
            found.setdefault(clip.speaker, []).append(clip)
    return found


@dataclass
class Cutter:
    """Clips to utterances; a clip is worked on once.

    Attributes:
        recognizer: Places the words; None spreads them evenly over the speech.
        longest: Seconds above which a clip is cut at its longest pauses.
    """

    recognizer: Recognizer | None
    longest: float = 10.0
    _detector: SpeechDetector = field(default_factory=SpeechDetector)
    _done: dict[Path, list[Utterance]] = field(default_factory=dict)

    def utterances(self, clip: Clip) -> list[Utterance]:
        """In order; none if the detector hears nobody."""
        if clip.path not in self._done:
            self._done[clip.path] = list(self._cut(clip))
        return self._done[clip.path]

    def _cut(self, clip: Clip) -> Iterator[Utterance]:
        samples = audio.read_audio(clip.path)
        heard = np.concatenate([np.zeros(0, np.float32), *self._detector.probabilities([samples])])
        spans = [(a / RATE, b / RATE) for a, b in find_speech(heard, _SPEECH, len(samples))]
        if not spans:
            return
        words = self._words(clip, samples, spans)
        for part in _with_words(_grouped(spans, self.longest), [_nearest(spans, w) for w in words]):
            start, end = part[0][0], part[-1][1]
            inside = [w for w in words if _nearest(spans, w) in part]
            placed = tuple(
                Word(w.text, _within(w.start, start, end), _within(w.end, start, end)) for w in inside
            )
            speech = tuple((round(a - start, 4), round(b - start, 4)) for a, b in part)
            yield Utterance(clip, round(start * RATE), round(end * RATE), speech, placed)

    def _words(
        self, clip: Clip, samples: audio.Samples, spans: Sequence[tuple[float, float]]
    ) -> tuple[Word, ...]:
        if not clip.text:
            return ()
        found = (
            aligned(self.recognizer, samples, clip.text, clip.language, spans) if self.recognizer else None
        )
        return found if found is not None else spread(clip.text, clip.language, spans)


def _within(time: float, start: float, end: float) -> float:
    """Seconds from the utterance's beginning, not outside it."""
    return round(min(max(time, start), end) - start, 3)


def _nearest(spans: Sequence[tuple[float, float]], word: Word) -> tuple[float, float]:
    middle = (word.start + word.end) / 2
    return min(spans, key=lambda span: max(span[0] - middle, middle - span[1]))


def _grouped(spans: Sequence[tuple[float, float]], longest: float) -> list[list[tuple[float, float]]]:
    """Spans in groups of at most ``longest`` seconds, parted at the longest pauses."""
    if len(spans) == 1 or spans[-1][1] - spans[0][0] <= longest:
        return [list(spans)]
    at = max(range(1, len(spans)), key=lambda n: spans[n][0] - spans[n - 1][1])
    return _grouped(spans[:at], longest) + _grouped(spans[at:], longest)


def _with_words(
    groups: Sequence[list[tuple[float, float]]], spoken: Sequence[tuple[float, float]]
) -> list[list[tuple[float, float]]]:
    """Groups of which each has a word, if there are words: one that got none goes with the one before."""
    out: list[list[tuple[float, float]]] = []
    for group in groups:
        if out and spoken and not (set(spoken) & set(group) and set(spoken) & set(out[-1])):
            out[-1] = out[-1] + group
        else:
            out.append(group)
    return out


def spread(text: str, language: str, spans: Sequence[tuple[float, float]]) -> tuple[Word, ...]:
    """Words evenly over the speech."""
    units = [c for c in text if c.strip()] if language == "zh" else text.split()
    lengths = np.cumsum([0.0, *(b - a for a, b in spans)])

    def at(share: float) -> float:
        passed = share * lengths[-1]
        n = min(int(np.searchsorted(lengths, passed, "right")) - 1, len(spans) - 1)
        return float(round(spans[n][0] + passed - lengths[n], 3))

    count = len(units)
    return tuple(Word(unit, at(n / count), at((n + 1) / count)) for n, unit in enumerate(units))


@torch.inference_mode()
def aligned(
    recognizer: Recognizer,
    samples: audio.Samples,
    text: str,
    language: str,
    spans: Sequence[tuple[float, float]],
) -> tuple[Word, ...] | None:
    """Words where the model's first pass hears them; None if the text does not fit."""
    parts = recognizer.parts
    denoiser = find_denoiser(parts)
    pieces = torch.tensor(parts.vocabulary.pieces_for(language))
    logs, times = list[Tensor](), list[Tensor]()
    for group in _grouped(spans, _CHUNK):
        first = 0 if not logs else round(group[0][0] * RATE)
        last = len(samples) if group[-1] == spans[-1] else round(group[-1][1] * RATE)
        if last - first > 30 * RATE:
            return None
        memory = recognizer.encode(torch.from_numpy(samples[first:last])[None])
        state = denoiser.prepare(memory, [language])
        hidden = denoiser.hidden(denoiser.null_canvas(state), state)
        logs.append(denoiser.logits(hidden, pieces)[0].float().log_softmax(-1))
        times.append(state.slots.times[0] / memory.frame_rate + first / RATE)
    ids = parts.vocabulary.encode(text, language)
    known = [token for token in ids if token in set(pieces.tolist())]
    log_probs = torch.cat(logs)[None].clamp(min=_LEAST)
    if not ids or len(known) < len(ids):
        return None
    targets = torch.searchsorted(pieces, torch.tensor([ids]))
    slots, count = torch.tensor([log_probs.shape[1]]), torch.tensor([len(ids)])
    placed = pieces[align_canvas(log_probs, slots, targets, count)[0]]
    if not placed.any():
        return None
    slot = denoiser.config.slot_frames / memory.frame_rate
    settled = Decoded(placed, torch.ones(len(placed)), torch.cat(times), slot, parallel_passes=1)
    found = build_words(settled, len(samples) / RATE, parts.vocabulary, parts.calibration)
    return tuple(Word(w.text, w.start, w.end) for w in found) if _same(join_words(found), text) else None


def _same(found: str, text: str) -> bool:
    return "".join(found.split()) == "".join(text.split())


def about(clip: Clip) -> dict[str, Any]:
    """What a manifest tells of a clip."""
    return {
        "file": clip.path.name, "speaker": clip.speaker, "language": clip.language, "source": clip.source,
        "license": clip.license, "real": clip.real,
    }  # fmt: skip
