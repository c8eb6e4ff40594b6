"""Transcripts as NeMo's ``Hypothesis``, and hypotheses as its speaker joiner wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nemo.collections.asr.parts.utils.rnnt_utils import Hypothesis as NeMoHypothesis

from diffusion_asr.transcript import Segment, Transcript, Word

FRAME_RATE = 50  # frames a second: NeMo's start_offset and end_offset count frames


def to_nemo(transcript: Transcript, tokens: Sequence[int], timestamps: bool) -> Any:
    """NeMo's hypothesis of one clip.

    ``word_confidence`` has a probability for each of ``timestamp["word"]``; ``score`` is their mean, 0 for a
    clip without words; ``y_sequence`` are ``tokens``; ``langs`` is the language heard or given.
    """
    words = list(transcript.words)
    sure = [0.0 if w.confidence is None else w.confidence for w in words]
    hypothesis = NeMoHypothesis(
        score=sum(sure) / len(sure) if sure else 0.0,
        y_sequence=list(tokens),
        text=transcript.text,
        timestamp=_timestamps(transcript, words) if timestamps else [],
        word_confidence=sure,
        length=round(transcript.duration * FRAME_RATE),
    )
    hypothesis.langs = transcript.language
    hypothesis.langs_chars = []
    return hypothesis


def _timestamps(transcript: Transcript, words: list[Word]) -> dict[str, list[dict[str, Any]]]:
    return {
        "word": [{"word": w.text, **_span(w)} for w in words],
        "segment": [{"segment": s.text, **_span(s)} for s in transcript.segments],
    }


def _span(part: Word | Segment) -> dict[str, float | int]:
    """Seconds, and the same in frames."""
    first, last = round(part.start * FRAME_RATE), round(part.end * FRAME_RATE)
    return {"start_offset": first, "end_offset": last, "start": part.start, "end": part.end}


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
