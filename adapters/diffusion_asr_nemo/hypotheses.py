"""Transcripts as NeMo's ``Hypothesis``, and hypotheses as its speaker joiner wants them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nemo.collections.asr.parts.utils.rnnt_utils import Hypothesis as NeMoHypothesis

from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Transcript, Word

FRAME_RATE = 50  # frames a second: NeMo's start_offset and end_offset count frames


@dataclass
class CanvasHypothesis(NeMoHypothesis):  # type: ignore[misc]
    """NeMo's hypothesis, whose ``words`` are the recogniser's: a text in Hanzi has no spaces to split at."""

    spoken: list[str] | None = None

    @property
    def words(self) -> list[str]:
        """As many as ``word_confidence`` has."""
        return (self.text or "").split() if self.spoken is None else self.spoken


def to_nemo(transcript: Transcript, tokens: Sequence[int], timestamps: bool) -> Any:
    """NeMo's hypothesis of one clip.

    ``word_confidence`` has a probability for each of ``words`` and of ``timestamp["word"]``; ``score`` is
    their mean, 0 for a clip without words; ``y_sequence`` are ``tokens``; ``langs`` is the language heard or
    given.
    """
    words = list(transcript.words)
    sure = [0.0 if w.confidence is None else w.confidence for w in words]
    hypothesis = CanvasHypothesis(
        score=sum(sure) / len(sure) if sure else 0.0,
        y_sequence=list(tokens),
        text=transcript.text,
        timestamp=_timestamps(transcript, words) if timestamps else [],
        word_confidence=sure,
        length=round(transcript.duration * FRAME_RATE),
        spoken=[w.text for w in words],
    )
    hypothesis.langs = transcript.language
    hypothesis.langs_chars = []
    return hypothesis


def without_marks(transcript: Transcript) -> Transcript:
    """A transcript as Canary's ``pnc=no`` writes: small letters, no punctuation but within words."""
    segments = []
    for segment in transcript.segments:
        bare = (replace(w, text=_bare(w.text)) for w in segment.words)
        words = tuple(w for w in bare if w.text)
        if words:
            segments.append(replace(segment, words=words, text=join_words(words)))
    return replace(transcript, segments=tuple(segments))


def _bare(word: str) -> str:
    """A word without the marks around it."""
    letters = [n for n, c in enumerate(word) if unicodedata.category(c)[0] not in "PZS"]
    return word[letters[0] : letters[-1] + 1].lower() if letters else ""


def _timestamps(transcript: Transcript, words: list[Word]) -> dict[str, list[dict[str, Any]]]:
    return {
        "word": [{"word": w.text, **_span(w.start, w.end)} for w in words],
        "segment": [{"segment": s.text, **_span(s.start, s.end)} for s in transcript.segments],
        "char": [part for w in words for part in _characters(w)],
    }


def _characters(word: Word) -> list[dict[str, Any]]:
    """A word's characters, letters with their marks: they share its time evenly, core tells words' times."""
    letters: list[str] = []
    for c in word.text:
        if letters and unicodedata.category(c)[0] == "M":
            letters[-1] += c
        else:
            letters.append(c)
    edges = [word.start + (word.end - word.start) * n / len(letters) for n in range(len(letters) + 1)]
    spans = zip(letters, edges, edges[1:], strict=False)
    return [{"char": c, **_span(round(start, 3), round(end, 3))} for c, start, end in spans]


def _span(start: float, end: float) -> dict[str, float | int]:
    """Seconds, and the same in frames."""
    first, last = round(start * FRAME_RATE), round(end * FRAME_RATE)
    return {"start_offset": first, "end_offset": last, "start": start, "end": end}


def words_and_times(
    hypotheses: Mapping[str, Any],
) -> tuple[dict[str, list[str]], dict[str, list[list[float]]]]:
    """``word_hyp`` and ``word_ts_hyp`` of ``OfflineDiarWithASR.get_transcript_with_speaker_labels``.

    Args:
        hypotheses: Unique id of a recording (its file's stem) to what ``transcribe(timestamps=True)`` gave.
    """
    spans = {name: h.timestamp["word"] for name, h in hypotheses.items()}
    words = {name: [w["word"] for w in found] for name, found in spans.items()}
    return words, {name: [[w["start"], w["end"]] for w in found] for name, found in spans.items()}
