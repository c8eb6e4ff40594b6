"""How good a transcript is: word, speaker and diarization errors, by jiwer, meeteval and pyannote.metrics.

Words are compared after Whisper's basic normaliser; Mandarin characters count as words. ORC-WER (Sklyar et
al. 2022) lets every reference utterance go to the speaker that suits it, so it holds recognition errors only;
what cpWER (Watanabe et al. 2020) adds to it is attribution. Its search grows with the product of all
speakers' words; long meetings of several are assigned greedily (meeteval's greedy_orcwer): an upper bound.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_asr.errors import FormatError, ToolkitMissingError
from diffusion_asr.languages import is_spaced
from diffusion_asr.text.normalise import normalise_basic
from diffusion_asr.transcript import Segment, Transcript

METRICS = ("WER", "CER", "cpWER", "tcpWER", "ORC-WER", "DER")
_INSTALL = "pip install 'diffusion-asr[score]'"
_NOBODY = "unknown"
_SEARCHED = 1_000_000  # states of ORC-WER's exact search: two speakers with a thousand words each


@dataclass(frozen=True, slots=True)
class Rate:
    """Errors in so many reference units (words, characters or seconds)."""

    errors: float
    units: float

    @property
    def percent(self) -> float:
        """Errors per cent of the units; with nothing to find, 0 or infinite."""
        if self.units:
            return 100 * self.errors / self.units
        return 0.0 if not self.errors else float("inf")


@dataclass(frozen=True, slots=True)
class Scored:
    """One recording's rates by metric; a metric that its files cannot give is missing."""

    recording: str
    language: str | None
    rates: Mapping[str, Rate]


def score(
    references: Iterable[Transcript], hypotheses: Iterable[Transcript], collar: float = 5.0
) -> list[Scored]:
    """Score recording by recording.

    Args:
        references: With words or texts, or speakers only (RTTM: DER alone).
        hypotheses: Of the same recordings, matched by name without folder and suffix.
        collar: Seconds by which tcpWER lets a word's time be off.

    Raises:
        FormatError: Recordings that do not match, or one that occurs twice.
        ToolkitMissingError: The ``score`` extra is not installed.
    """
    truth, found = _by_name(references, "reference"), _by_name(hypotheses, "hypothesis")
    if truth.keys() != found.keys():
        lonely = sorted(truth.keys() ^ found.keys())
        raise FormatError(
            "reference and hypothesis must hold the same recordings; only one of them has: "
            + ", ".join(lonely)
        )
    return [_scored(name, truth[name], found[name], collar) for name in sorted(truth)]


def combine_scores(
    scored: Sequence[Scored], metric: str, draws: int = 1000
) -> tuple[Rate, float, float] | None:
    """All recordings together, with a 95 % bootstrap interval over recordings; None without any."""
    rates = [one.rates[metric] for one in scored if metric in one.rates]
    if not rates:
        return None
    rng = random.Random(0)
    drawn = sorted(_sum(rng.choices(rates, k=len(rates))).percent for _ in range(draws))
    return _sum(rates), drawn[int(0.025 * draws)], drawn[int(0.975 * draws) - 1]


def _sum(rates: Sequence[Rate]) -> Rate:
    return Rate(sum(r.errors for r in rates), sum(r.units for r in rates))


def _by_name(transcripts: Iterable[Transcript], role: str) -> dict[str, Transcript]:
    named: dict[str, Transcript] = {}
    for transcript in transcripts:
        name = Path(transcript.source or "").stem
        if name in named:
            raise FormatError(f"recording {name!r} occurs twice in the {role}; give each once")
        named[name] = transcript
    return named


def _scored(name: str, truth: Transcript, found: Transcript, collar: float) -> Scored:
    language = truth.language or found.language
    rates: dict[str, Rate] = {}
    if any(segment.text for segment in truth.segments):
        rates |= _word_rates(truth, found, language)
        if all(s.speaker for s in truth.segments):
            rates |= _speaker_rates(name, truth, found, language, collar)
    if all(s.speaker for t in (truth, found) for s in t.segments) and truth.segments:
        rates["DER"] = _diarization(truth, found)
    return Scored(name, language, rates)


def normalise_text(text: str, language: str | None) -> str:
    """Normalised; Mandarin with a space after every character, so that these count as words."""
    clean = normalise_basic(text, language)
    return clean if is_spaced(language) else " ".join(clean)


def _word_rates(truth: Transcript, found: Transcript, language: str | None) -> dict[str, Rate]:
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise ToolkitMissingError(f"scoring needs jiwer: {_INSTALL}") from error
    a, b = (normalise_text(_in_order(t), language) for t in (truth, found))
    if not a:  # jiwer takes no empty reference
        return {"WER": Rate(len(b.split()), 0), "CER": Rate(len(b.replace(" ", "")), 0)}
    words, letters = jiwer.process_words(a, b), jiwer.process_characters(a, b)
    return {"WER": _jiwer_rate(words), "CER": _jiwer_rate(letters)}


def _jiwer_rate(found: Any) -> Rate:
    errors = found.substitutions + found.deletions + found.insertions
    return Rate(errors, found.hits + found.substitutions + found.deletions)


def _in_order(transcript: Transcript) -> str:
    return " ".join(s.text for s in sorted(transcript.segments, key=lambda s: (s.start, s.end)))


def _speaker_rates(
    name: str, truth: Transcript, found: Transcript, language: str | None, collar: float
) -> dict[str, Rate]:
    try:
        from meeteval.io import SegLST
        from meeteval.wer.api import cpwer, greedy_orcwer, orcwer, tcpwer
    except ModuleNotFoundError as error:
        raise ToolkitMissingError(f"scoring speakers needs meeteval: {_INSTALL}") from error
    reference, hypothesis = (SegLST(_rows(name, t, language)) for t in (truth, found))
    if not len(hypothesis):
        units = sum(len(row["words"].split()) for row in reference)
        return {metric: Rate(units, units) for metric in ("cpWER", "tcpWER", "ORC-WER")}
    results = {
        "cpWER": cpwer(reference, hypothesis),
        "tcpWER": tcpwer(reference, hypothesis, collar=collar),
        "ORC-WER": (orcwer if _states(hypothesis) <= _SEARCHED else greedy_orcwer)(reference, hypothesis),
    }
    rates = {metric: Rate(r[name].errors, r[name].length) for metric, r in results.items()}
    # cpWER's own assignment is one that ORC-WER may choose, so the greedy one need not be worse.
    rates["ORC-WER"] = min(rates["ORC-WER"], rates["cpWER"], key=lambda rate: rate.errors)
    return rates


def _states(hypothesis: Iterable[Mapping[str, Any]]) -> int:
    words: dict[str, int] = {}
    for row in hypothesis:
        words[row["speaker"]] = words.get(row["speaker"], 1) + len(row["words"].split())
    return math.prod(words.values())


def _rows(name: str, transcript: Transcript, language: str | None) -> list[dict[str, Any]]:
    return [
        {
            "session_id": name,
            "speaker": segment.speaker or _NOBODY,
            "start_time": segment.start,
            "end_time": segment.end,
            "words": words,
        }
        for segment in transcript.segments
        if (words := normalise_text(segment.text, segment.language or language))
    ]


def _diarization(truth: Transcript, found: Transcript) -> Rate:
    """DER without collar, overlap counted."""
    try:
        from pyannote.core import Annotation, Timeline
        from pyannote.core import Segment as Span
        from pyannote.metrics.diarization import DiarizationErrorRate
    except ModuleNotFoundError as error:
        raise ToolkitMissingError(f"diarization errors need pyannote.metrics: {_INSTALL}") from error

    def annotation(segments: Iterable[Segment]) -> Any:
        out = Annotation()
        for n, segment in enumerate(segments):
            if segment.end > segment.start:
                out[Span(segment.start, segment.end), n] = segment.speaker
        return out

    whole = Span(0.0, max(s.end for t in (truth, found) for s in t.segments))
    parts = DiarizationErrorRate(collar=0.0, skip_overlap=False)(
        annotation(truth.segments), annotation(found.segments), uem=Timeline([whole]), detailed=True
    )
    wrong = parts["false alarm"] + parts["missed detection"] + parts["confusion"]
    return Rate(float(wrong), float(parts["total"]))
