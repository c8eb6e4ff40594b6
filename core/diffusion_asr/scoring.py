"""How good a transcript is: word, speaker and diarization errors, by jiwer, meeteval and pyannote.metrics.

Words are compared after Whisper's basic normaliser, segment by segment; Hanzi and kana count as words, as in
sclite's ``-c NOASCII``. ORC-WER (Sklyar et al. 2022) lets every reference utterance go to the speaker that
suits it, so it holds recognition errors only; what cpWER (Watanabe et al. 2020) adds to it is attribution.
Its search grows with the product of all speakers' words; long meetings of several are assigned greedily
(meeteval's greedy_orcwer): an upper bound.

Where other tools differ: a recording without hypothesis is all deletions (meeteval refuses more than 10 % of
such); the channels of a call are scored each for itself, as in sclite (meeteval joins them); asides in
brackets are left out, as Whisper's normaliser does (jiwer, meeteval and sclite count them).
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusion_asr.errors import FormatError, ToolkitMissingError
from diffusion_asr.formats.base import session
from diffusion_asr.formats.nist import CHANNEL
from diffusion_asr.text.normalise import normalise_basic
from diffusion_asr.text.spacing import is_han
from diffusion_asr.transcript import Segment, Transcript, Word

METRICS = ("WER", "CER", "cpWER", "tcpWER", "ORC-WER", "DER")
_INSTALL = "pip install 'diffusion-asr[score]'"
_NOBODY = "unknown"
_IGNORED = "ignore_time_segment_in_scoring"  # the text of such a stretch in stm
_MOST_SPEAKERS = 20
_LETTER = "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # kana, Hanzi
_WIDE = re.compile(_LETTER)
_GAP = re.compile(f" (?={_LETTER})|(?<={_LETTER}) ")
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
    """One recording's rates by metric; a metric that its files cannot give is missing.

    Attributes:
        recording: Its name, and its channel if it has several.
        language: Of most of it, if that is known.
        rates: By metric.
        notes: What a reader of the rates must know.
    """

    recording: str
    language: str | None
    rates: Mapping[str, Rate]
    notes: tuple[str, ...] = ()


def score(
    references: Iterable[Transcript],
    hypotheses: Iterable[Transcript],
    collar: float = 5.0,
    words: bool | None = None,
) -> list[Scored]:
    """Score recording by recording; one without hypothesis is all deletions.

    Args:
        references: With words or texts, or speakers only (RTTM: DER alone).
        hypotheses: Of the same recordings, matched by name without folder and media suffix.
        collar: Seconds by which tcpWER lets a word's time be off.
        words: Whether the references say all that was spoken, so that one without a word is silence; without
            it they are turns, for DER alone. None: if any of them holds a word.

    Raises:
        FormatError: A hypothesis without reference, a recording that occurs twice, a collar that is no time,
            or nothing that can be compared.
        ToolkitMissingError: The ``score`` extra is not installed.
    """
    if not 0 <= collar < math.inf:
        raise FormatError(f"a collar of {collar} s: give a number of seconds, 0 or more")
    truth, found = _by_name(references, "reference"), _by_name(hypotheses, "hypothesis")
    if lonely := sorted(found.keys() - truth.keys()):
        known = ", ".join(sorted(truth)) or "nothing"
        raise FormatError(
            f"no reference for: {', '.join(lonely)}; the references hold {known}. Recordings are matched by "
            "name: rename one, or leave the hypothesis out"
        )
    if not truth:
        raise FormatError("the references hold no recording: nothing to compare")
    if words is None:
        words = any(s.text for channels in truth.values() for t in channels.values() for s in t.segments)
    return [
        _scored(label, right, heard, collar, words)
        for name in sorted(truth)
        for label, right, heard in _by_channel(name, truth[name], found.get(name))
    ]


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


_Channels = dict[str, Transcript]  # of one recording, by channel; "" where none is stated


def _by_name(transcripts: Iterable[Transcript], role: str) -> dict[str, _Channels]:
    named: dict[str, _Channels] = {}
    for transcript in transcripts:
        name = unicodedata.normalize("NFC", session(transcript))
        channels = named.setdefault(name, {})
        channel = transcript.metadata.get(CHANNEL, "").upper()
        if channel in channels or "" in channels:
            raise FormatError(f"recording {name!r} occurs twice in the {role}; give each once")
        channels[channel] = transcript
    return named


def _by_channel(
    name: str, truth: _Channels, found: _Channels | None
) -> Iterator[tuple[str, Transcript, Transcript | None]]:
    """Each channel for itself, if the hypothesis states no others than the reference; else all together."""
    if len(truth) > 1 and found is not None and found.keys() <= truth.keys():
        for channel, transcript in truth.items():
            yield f"{name} {channel}", transcript, found.get(channel)
    else:
        yield name, _joined(truth), None if found is None else _joined(found)


def _joined(channels: _Channels) -> Transcript:
    """All channels in order of time; where nobody is named, each channel is a speaker."""
    if len(channels) == 1:
        return next(iter(channels.values()))
    segments = [
        replace(segment, speaker=segment.speaker or channel)
        for channel, transcript in channels.items()
        for segment in transcript.segments
    ]
    first = next(iter(channels.values()))
    return replace(first, segments=tuple(sorted(segments, key=lambda s: s.start)), metadata={})


def _scored(name: str, truth: Transcript, found: Transcript | None, collar: float, written: bool) -> Scored:
    notes = ["no hypothesis: everything in the reference is missing"] if found is None else []
    truth, found = _without_ignored(truth, found or Transcript())
    named = all(s.speaker for s in truth.segments)
    rates = _word_rates(truth, found) if written else {}
    if "WER" in rates and not rates["WER"].units:
        notes.append(f"no reference words; what was found, {rates['WER'].errors:g}, is inserted")
    if written and named:
        if most := _crowd(truth, found):
            notes.append(f"{most} speakers: meeteval assigns {_MOST_SPEAKERS} at most, so only WER and CER")
        else:
            rates |= _speaker_rates(name, truth, found, collar)
    if named and all(s.speaker for s in found.segments) and truth.segments:
        rates["DER"] = _diarization(truth, found)
    if not rates and truth.segments:
        raise FormatError(
            f"{name}: the reference holds turns without words, the hypothesis no speakers: nothing to compare"
        )
    return Scored(name, _language(truth, found), rates, tuple(notes))


def _without_ignored(truth: Transcript, found: Transcript) -> tuple[Transcript, Transcript]:
    """Without the stretches that a reference in NIST's stm marks as not to be scored."""
    marked = [s for s in truth.segments if s.text.strip().lower() == _IGNORED]
    if not marked:
        return truth, found

    def outside(part: Segment | Word) -> bool:
        middle = (part.start + part.end) / 2
        return not any(s.start <= middle <= s.end for s in marked)

    kept: list[Segment] = []
    for segment in found.segments:
        if not segment.words:
            kept += [segment] if outside(segment) else []
        elif words := tuple(word for word in segment.words if outside(word)):
            text = segment.text if len(words) == len(segment.words) else " ".join(w.text for w in words)
            kept.append(replace(segment, words=words, text=text))
    spoken = tuple(s for s in truth.segments if s not in marked)
    return replace(truth, segments=spoken), replace(found, segments=tuple(kept))


def _language(truth: Transcript, found: Transcript) -> str | None:
    """What the reference says, else how it is written, else what the hypothesis says."""
    if truth.language:
        return truth.language
    letters = [c for segment in truth.segments for c in segment.text if c.isalpha()]
    if letters and sum(map(is_han, letters)) > len(letters) / 2:
        return "zh"
    return found.language


def normalise_text(text: str) -> str:
    """Normalised words, with a space between each; every Hanzi and kana is one."""
    return " ".join(_WIDE.sub(r" \g<0> ", normalise_basic(text)).split())


def _words_of(segment: Segment) -> str:
    """A segment's normalised words. Brackets in a list of words (a ctm file) span no others."""
    parts = [word.text for word in segment.words]
    if "".join("".join(parts).split()) != "".join(segment.text.split()):
        parts = [segment.text]
    return " ".join(words for part in parts if (words := normalise_text(part)))


def _word_rates(truth: Transcript, found: Transcript) -> dict[str, Rate]:
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise ToolkitMissingError(f"scoring needs jiwer: {_INSTALL}") from error
    a, b = (_in_order(t) for t in (truth, found))
    if not a:  # no more than insertions, whatever jiwer takes for a word of an empty text
        return {"WER": Rate(len(b.split()), 0), "CER": Rate(len(b.replace(" ", "")), 0)}
    words = jiwer.process_words(a, b)
    letters = jiwer.process_characters(_GAP.sub("", a), _GAP.sub("", b))
    return {"WER": _jiwer_rate(words), "CER": _jiwer_rate(letters)}


def _jiwer_rate(found: Any) -> Rate:
    errors = found.substitutions + found.deletions + found.insertions
    return Rate(errors, found.hits + found.substitutions + found.deletions)


def _in_order(transcript: Transcript) -> str:
    ordered = sorted(transcript.segments, key=lambda s: (s.start, s.end))
    return " ".join(words for segment in ordered if (words := _words_of(segment)))


def _crowd(truth: Transcript, found: Transcript) -> int:
    """How many speakers there are on one side, if they are too many to be assigned; else 0."""
    most = max(len({s.speaker for s in t.segments}) for t in (truth, found))
    return most if most > _MOST_SPEAKERS else 0


def _speaker_rates(name: str, truth: Transcript, found: Transcript, collar: float) -> dict[str, Rate]:
    try:
        from meeteval.io import SegLST
        from meeteval.wer.api import cpwer, greedy_orcwer, orcwer, tcpwer
    except ModuleNotFoundError as error:
        raise ToolkitMissingError(f"scoring speakers needs meeteval: {_INSTALL}") from error
    reference, hypothesis = (SegLST(_rows(name, t)) for t in (truth, found))
    if not len(hypothesis) or not len(reference):  # meeteval takes neither
        units, inserted = (sum(len(row["words"].split()) for row in rows) for rows in (reference, hypothesis))
        return {metric: Rate(units + inserted, units) for metric in ("cpWER", "tcpWER", "ORC-WER")}
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


def _rows(name: str, transcript: Transcript) -> list[dict[str, Any]]:
    return [
        {
            "session_id": name,
            "speaker": segment.speaker or _NOBODY,
            "start_time": segment.start,
            "end_time": segment.end,
            "words": words,
        }
        for segment in transcript.segments
        if (words := _words_of(segment))
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
