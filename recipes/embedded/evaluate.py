"""Word (hi, zh: character) error rates on real dev speech, beside Whisper base greedy on the same clips.

Language forced, Whisper's basic normaliser (marks kept), Traditional Chinese made Simplified for both.
Intervals are 95 % bootstrap intervals over clips. Ratios are to faster-whisper base, greedy.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from diffusion_asr.audio import files as audio
from diffusion_asr.decoding.options import DecodingOptions, Start
from diffusion_asr.text.normalise import convert_to_simplified, normalise_basic

CHARACTER = ("hi", "zh")
SETTINGS: tuple[tuple[Start, int | None], ...] = (
    *(("noise", steps) for steps in (1, 8, None)),
    *(("null", steps) for steps in (1, 2, 4, 8, 16, None)),
)


@dataclass(frozen=True)
class Clip:
    """A dev recording with its text."""

    samples: np.ndarray
    text: str
    lang: str
    source: str


@dataclass(frozen=True)
class Score:
    """Errors and reference units of each clip."""

    errors: tuple[int, ...]
    units: tuple[int, ...]

    @property
    def rate(self) -> float:
        """Errors per cent of the reference."""
        return 100 * sum(self.errors) / max(1, sum(self.units))

    def interval(self, draws: int = 1000) -> tuple[float, float]:
        """95 % bootstrap interval over clips."""
        rng = random.Random(0)
        pairs = list(zip(self.errors, self.units, strict=True))
        rates = []
        for _ in range(draws):
            drawn = rng.choices(pairs, k=len(pairs))
            rates.append(100 * sum(e for e, _ in drawn) / max(1, sum(u for _, u in drawn)))
        rates.sort()
        return rates[int(0.025 * draws)], rates[int(0.975 * draws) - 1]


def dev_clips(shared: Path, most: int | None = None) -> list[Clip]:
    """Real dev clips; at most ``most`` of each set, spread evenly."""
    folder = shared / "data/speech"
    rows = [json.loads(x) for x in (folder / "manifest.jsonl").read_text(encoding="utf8").splitlines()]
    rows = [r for r in rows if r["split"] == "dev" and r["text"]]
    sets: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        sets.setdefault((row["lang"], row["source"]), []).append(row)
    chosen = [r for group in sets.values() for r in (group[:: max(1, len(group) // most)] if most else group)]
    return [
        Clip(audio.read_audio(folder / r["audio_filepath"]), r["text"], r["lang"], r["source"])
        for r in chosen
    ]


def normalised(text: str, lang: str) -> str:
    """What is compared: the basic normaliser's text, in Simplified characters for zh."""
    return normalise_basic(convert_to_simplified(text) if lang == "zh" else text, lang)


def score(references: Sequence[str], hypotheses: Sequence[str], lang: str) -> Score:
    """Errors by clip after normalisation."""
    errors, units = [], []
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        r, h = normalised(reference, lang), normalised(hypothesis, lang)
        found = (jiwer.process_characters if lang in CHARACTER else jiwer.process_words)(r, h)
        errors.append(found.substitutions + found.deletions + found.insertions)
        units.append(found.hits + found.substitutions + found.deletions)
    return Score(tuple(errors), tuple(units))


def run(clips: Sequence[Clip], recognise: Callable[[Clip], str]) -> tuple[dict[str, Score], float]:
    """Scores by set and by language ("en", "en FLEURS", …), and seconds spent."""
    began = time.perf_counter()
    texts = [recognise(clip) for clip in clips]
    spent = time.perf_counter() - began
    groups: dict[str, list[int]] = {}
    for n, clip in enumerate(clips):
        groups.setdefault(clip.lang, []).append(n)
        groups.setdefault(f"{clip.lang} {clip.source}", []).append(n)
    return {
        name: score([clips[n].text for n in ns], [texts[n] for n in ns], name[:2])
        for name, ns in sorted(groups.items())
    }, spent


def whisper(work: Path, threads: int) -> Callable[[Clip], str]:
    """faster-whisper base, int8, greedy, language forced, no fallback."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(work / "weights/whisper"), compute_type="int8", cpu_threads=threads)

    def recognise(clip: Clip) -> str:
        found, _ = model.transcribe(
            clip.samples, language=clip.lang, beam_size=1, temperature=0.0, without_timestamps=True,
            condition_on_previous_text=False,
        )  # fmt: skip
        return " ".join(segment.text.strip() for segment in found)

    return recognise


@dataclass(frozen=True)
class Passes:
    """What clips of up to 30 s cost until they settle, by kind of pass.

    Attributes:
        clips: So many.
        parallel: Mean passes a clip over the whole canvas.
        causal: Mean passes a clip of the causal decoder.
        timing: Mean passes a clip that only place words in time.
        per_token: Parallel and causal passes a token of all clips.
        most: Parallel and causal passes within which 95 % of the clips settle.
        soon: Share of the clips, per cent, that settle within 4 of these.
    """

    clips: int
    parallel: float
    causal: float
    timing: float
    per_token: float
    most: float
    soon: float

    def __str__(self) -> str:
        return (
            f"{self.clips} clips of up to 30 s settle after {self.parallel:.1f} parallel, {self.causal:.1f}"
            f" causal, {self.timing:.1f} timing passes on average ({self.per_token:.2f} parallel and causal"
            f" ones a token), 95 % of them after {self.most:.0f} of these; {self.soon:.0f} % after 4."
        )


def passes(recognizer: Any, clips: Sequence[Clip], verify: bool | None = None) -> Passes:
    """Measure them."""
    import torch

    from diffusion_asr.decoding.canvas import read_tokens

    found, tokens = [], 0
    for clip in clips:
        if len(clip.samples) <= 30 * audio.SAMPLE_RATE:
            memory = recognizer.encode(torch.from_numpy(clip.samples)[None])
            (one,) = recognizer.decode(memory, clip.lang, DecodingOptions(verify=verify))
            found.append(one.decoded)
            tokens += len(read_tokens(one.decoded.canvas))
    total = [one.passes for one in found]
    return Passes(
        len(total),
        float(np.mean([one.parallel_passes for one in found])),
        float(np.mean([one.causal_passes for one in found])),
        float(np.mean([one.timing_passes for one in found])),
        sum(total) / max(1, tokens),
        float(np.quantile(total, 0.95)),
        100 * sum(n <= 4 for n in total) / len(total),
    )


def as_json(results: dict[str, dict[str, Score]], cost: Passes) -> str:
    """``{"rates": {system: {set: per cent}}, "passes": {"parallel": mean a clip, …}}``."""
    rates = {
        name: {group: round(found.rate, 2) for group, found in groups.items()}
        for name, groups in results.items()
    }
    means = {name: round(value, 3) for name, value in asdict(cost).items()}
    return json.dumps({"rates": rates, "passes": means}, indent=1)


def table(results: dict[str, dict[str, Score]], baseline: str) -> str:
    """Markdown: a row a set, a column a system."""
    names = list(results)
    lines = ["| set | clips | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for group in results[names[0]]:
        cells = []
        for name in names:
            found = results[name][group]
            low, high = found.interval()
            ratio = (
                "" if name == baseline else f" ×{found.rate / max(0.1, results[baseline][group].rate):.2f}"
            )
            cells.append(f"{found.rate:.1f} [{low:.0f}, {high:.0f}]{ratio}")
        count = len(results[names[0]][group].errors)
        lines.append(f"| {group} | {count} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def evaluate(
    work: Path, shared: Path, model: str, most: int | None = None, threads: int = 2,
    settings: Sequence[tuple[Start, int | None]] = SETTINGS, json_file: Path | None = None,
    verify: bool | None = None,
) -> str:  # fmt: skip
    """The comparison as Markdown, in ``json_file`` as JSON too; ``verify`` as in ``DecodingOptions``."""
    import torch

    from diffusion_asr import Recognizer

    torch.set_num_threads(threads)
    clips = dev_clips(shared, most)
    baseline = "whisper base greedy"
    results = {baseline: run(clips, whisper(work, threads))[0]}
    recognizer = Recognizer.from_pretrained(model)
    for start, steps in settings:
        options = DecodingOptions(steps=steps, start=start, verify=verify)

        def recognise(clip: Clip, options: DecodingOptions = options) -> str:
            return recognizer.transcribe(clip.samples, clip.lang, options).text

        results[f"{start} {steps or 'auto'}"], _ = run(clips, recognise)
    cost = passes(recognizer, clips, verify)
    if json_file is not None:
        json_file.write_text(as_json(results, cost) + "\n", encoding="utf8")
    return f"{table(results, baseline)}\n\n{cost}"
