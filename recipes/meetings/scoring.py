"""cpWER where two talk at once, apart from cpWER where one does.

meeteval assigns hypothesis speakers to reference speakers as cpWER does; jiwer aligns each pair's words. An
error counts where its reference word is: among words that somebody else talks over, or among the others. A
word too much counts where it was heard: at the time of an overlapped reference word, or elsewhere. The two
parts add up to cpWER.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jiwer
from meeteval.io import SegLST
from meeteval.wer.api import cpwer

from diffusion_asr.meeting.attribution import Turn, TurnIndex
from diffusion_asr.scoring import Rate, Scored, normalise_text, score
from diffusion_asr.transcript import Segment, Transcript, Word

OVERLAPPED, ALONE = "cpWER overlapped", "cpWER alone"
_NOBODY = "unknown"
_INSTANT = 0.005  # seconds

Marked = tuple[str, bool]  # a word as it is compared, and whether somebody else talks over it


def scored(truth: Transcript, speech: Transcript, found: Transcript, turns: Sequence[Turn]) -> Scored:
    """All rates of one meeting.

    Args:
        truth: Words with ``overlapped`` set, segments with speakers.
        speech: The reference's turns, as read from RTTM.
        found: What was recognised.
        turns: What was diarized, overlapping.
    """
    (words,) = score([truth], [found])
    heard = Transcript(tuple(Segment(t.start, t.end, "", speaker=t.speaker) for t in turns), found.duration)
    rates = {name: rate for name, rate in words.rates.items() if name != "DER"}
    (talk,) = score([_named(speech, truth)], [_named(heard, truth)])
    rates["DER"] = talk.rates["DER"]
    return Scored(words.recording, words.language, rates | by_overlap(truth, found))


def _named(transcript: Transcript, like: Transcript) -> Transcript:
    return Transcript(transcript.segments, transcript.duration, like.source)


def by_overlap(truth: Transcript, found: Transcript) -> dict[str, Rate]:
    """Errors among overlapped words, by cpWER's assignment, and among the others."""
    said = {name: _marked(segments) for name, segments in _streams(truth).items()}
    crowded = TurnIndex(Turn(w.start, w.end, "") for w in truth.words if w.overlapped)
    there = _at_time(found, crowded)
    heard = {name: _marked(segments) for name, segments in _streams(there).items()}
    wrong = {True: 0, False: 0}
    for ours, theirs in _assignment(said, heard):
        reference, words = said.get(ours or "", []), heard.get(theirs or "", [])
        for overlapped, errors in _errors(reference, words):
            wrong[overlapped] += errors
    units = [over for stream in said.values() for _, over in stream]
    return {
        OVERLAPPED: Rate(wrong[True], sum(units)),
        ALONE: Rate(wrong[False], len(units) - sum(units)),
    }


def _at_time(found: Transcript, crowded: TurnIndex) -> Transcript:
    """What was heard, each word marked as overlapped if its middle is when the reference's words are."""

    def marked(word: Word) -> Word:
        middle = (word.start + word.end) / 2
        return replace(word, overlapped=bool(crowded.during(middle - _INSTANT, middle + _INSTANT)))

    segments = [replace(s, words=tuple(map(marked, s.words))) for s in found.segments]
    return replace(found, segments=tuple(segments))


def _streams(transcript: Transcript) -> dict[str, list[Segment]]:
    streams: dict[str, list[Segment]] = {}
    for segment in sorted(transcript.segments, key=lambda s: s.start):
        streams.setdefault(segment.speaker or _NOBODY, []).append(segment)
    return streams


def _marked(segments: Sequence[Segment]) -> list[Marked]:
    """A speaker's words, in order."""
    out: list[Marked] = []
    for segment in segments:
        whole = normalise_text(segment.text).split()
        apart = [
            (part, word.overlapped) for word in segment.words for part in normalise_text(word.text).split()
        ]
        # Brackets that span words, and the like: then the segment is overlapped if any of its words is.
        same = [part for part, _ in apart] == whole
        some = any(word.overlapped for word in segment.words)
        out += apart if same else [(part, some) for part in whole]
    return out


def _assignment(
    said: Mapping[str, Sequence[Marked]], heard: Mapping[str, Sequence[Marked]]
) -> list[tuple[str | None, str | None]]:
    """Pairs of speakers; None stands for nobody."""
    if not any(heard.values()) or not any(said.values()):
        return [*((name, None) for name in said), *((None, name) for name in heard)]
    result = cpwer(SegLST(_rows(said)), SegLST(_rows(heard)))
    return list(result["meeting"].assignment)


def _rows(streams: Mapping[str, Sequence[Marked]]) -> list[dict[str, Any]]:
    whole = {"session_id": "meeting", "start_time": 0.0, "end_time": 1.0}
    texts = {name: " ".join(word for word, _ in stream) for name, stream in streams.items()}
    return [whole | {"speaker": name, "words": text} for name, text in texts.items() if text]


def _errors(reference: Sequence[Marked], words: Sequence[Marked]) -> list[tuple[bool, int]]:
    """Where errors are, and how many."""
    if not reference:
        return [(overlapped, 1) for _, overlapped in words]
    said, heard = (" ".join(word for word, _ in stream) for stream in (reference, words))
    out = []
    for chunk in jiwer.process_words(said, heard).alignments[0]:
        if chunk.type == "insert":
            out += [(overlapped, 1) for _, overlapped in words[chunk.hyp_start_idx : chunk.hyp_end_idx]]
        elif chunk.type != "equal":
            out += [(overlapped, 1) for _, overlapped in reference[chunk.ref_start_idx : chunk.ref_end_idx]]
    return out
