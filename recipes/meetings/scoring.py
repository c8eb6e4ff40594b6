"""cpWER where two talk at once, apart from cpWER where one does.

meeteval assigns hypothesis speakers to reference speakers as cpWER does; jiwer aligns each pair's words. An
error counts where its reference word is: among words that somebody else talks over, or among the others. A
word too much counts with the reference word before it; a hypothesis speaker that stands for nobody counts
with the others. The two parts add up to cpWER.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jiwer
from meeteval.io import SegLST
from meeteval.wer.api import cpwer

from diffusion_asr.attribution import Turn
from diffusion_asr.scoring import Rate, Scored, comparable, score
from diffusion_asr.transcript import Segment, Transcript

OVERLAPPED, ALONE = "cpWER overlapped", "cpWER alone"
_NOBODY = "unknown"


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
    rates |= talk.rates or {"DER": Rate(1.0, 1.0)}  # nobody found: all of it is missed
    return Scored(words.recording, words.language, rates | by_overlap(truth, found))


def _named(transcript: Transcript, like: Transcript) -> Transcript:
    return Transcript(transcript.segments, transcript.duration, like.source)


def by_overlap(truth: Transcript, found: Transcript) -> dict[str, Rate]:
    """Errors among overlapped words, by cpWER's assignment, and among the others."""
    said = {name: _marked(segments) for name, segments in _streams(truth).items()}
    heard = {name: [w for w, _ in _marked(segments)] for name, segments in _streams(found).items()}
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


def _streams(transcript: Transcript) -> dict[str, list[Segment]]:
    streams: dict[str, list[Segment]] = {}
    for segment in sorted(transcript.segments, key=lambda s: s.start):
        streams.setdefault(segment.speaker or _NOBODY, []).append(segment)
    return streams


def _marked(segments: Sequence[Segment]) -> list[tuple[str, bool]]:
    """A speaker's words as they are compared, and whether somebody else talks over each."""
    out: list[tuple[str, bool]] = []
    for segment in segments:
        whole = comparable(segment.text, segment.language).split()
        apart = [
            (part, word.overlapped)
            for word in segment.words
            for part in comparable(word.text, segment.language).split()
        ]
        # Brackets that span words, and the like: then the segment is overlapped if any of its words is.
        same = [part for part, _ in apart] == whole
        some = any(word.overlapped for word in segment.words)
        out += apart if same else [(part, some) for part in whole]
    return out


def _assignment(
    said: dict[str, list[tuple[str, bool]]], heard: dict[str, list[str]]
) -> list[tuple[str | None, str | None]]:
    """Pairs of speakers; None stands for nobody."""
    if not any(heard.values()) or not any(said.values()):
        return [*((name, None) for name in said), *((None, name) for name in heard)]
    result = cpwer(
        SegLST(_rows({name: [w for w, _ in stream] for name, stream in said.items()})),
        SegLST(_rows(heard)),
    )
    return list(result["meeting"].assignment)


def _rows(streams: dict[str, list[str]]) -> list[dict[str, Any]]:
    whole = {"session_id": "meeting", "start_time": 0.0, "end_time": 1.0}
    return [whole | {"speaker": name, "words": " ".join(words)} for name, words in streams.items() if words]


def _errors(reference: Sequence[tuple[str, bool]], words: Sequence[str]) -> list[tuple[bool, int]]:
    """Where errors are, and how many."""
    if not reference:
        return [(False, len(words))]
    found = jiwer.process_words(" ".join(word for word, _ in reference), " ".join(words))
    out = []
    for chunk in found.alignments[0]:
        if chunk.type == "insert":
            before = max(chunk.ref_start_idx - 1, 0)
            out.append((reference[before][1], chunk.hyp_end_idx - chunk.hyp_start_idx))
        elif chunk.type != "equal":
            out += [(over, 1) for _, over in reference[chunk.ref_start_idx : chunk.ref_end_idx]]
    return out
