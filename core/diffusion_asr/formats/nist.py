"""NIST's scoring formats: rttm (who spoke when), stm (segments with text) and ctm (words).

Fields are separated by spaces, so names have underscores instead; ``;;`` begins a comment.
Formats: https://github.com/usnistgov/SCTK/blob/master/doc/infmts.htm
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from diffusion_asr.errors import FormatError
from diffusion_asr.formats.base import (
    Format,
    assemble,
    assemble_sessions,
    bad,
    decimal,
    is_probability,
    millis,
    name_from,
    one_line,
    rows,
    sessions,
    shown,
    span,
    time_from,
    token,
)
from diffusion_asr.transcript import Segment, Transcript, Word

_RTTM_OTHERS = re.compile(
    r"A/P|CB|EDIT|FILLER|IP|LEXEME|NO-RT-METADATA|NOSCORE|NON-LEX|NON-SPEECH|SEGMENT|SPKR-INFO|SU"
)
_RTTM_LINE = "'SPEAKER file 1 start duration <NA> <NA> name <NA> <NA>'"
_TIME = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")
CHANNEL = "channel"
"""The key in a transcript's metadata for the channel that stm and ctm state, unless 1 is the only one."""

_LABEL = re.compile(r"<[^<>\s]*>(?:\s+|$)")
_NO_SPACE = re.compile(r"(?<=[\u2e80-\u9fff\uff00-\uffef]) (?=[\u2e80-\u9fff\uff00-\uffef])")


def _render_rttm(transcripts: list[Transcript]) -> str:
    lines: list[str] = []
    for name, transcript in sessions(transcripts):
        for segment in transcript.segments:
            start, end = millis(segment.start), millis(segment.end)
            times = f"{decimal(start)} {decimal(end - start)}"
            lines.append(f"SPEAKER {name} 1 {times} <NA> <NA> {token(segment.speaker)} <NA> <NA>\n")
    return "".join(lines)


def _parse_rttm(text: str) -> list[Transcript]:
    return assemble_sessions(_rttm_segments(text))


def _rttm_segments(text: str) -> Iterator[tuple[str, Segment]]:
    for number, line in rows(text, comment=";"):
        fields = line.split()
        if _RTTM_OTHERS.fullmatch(fields[0]):
            continue
        if fields[0] != "SPEAKER" or len(fields) < 8:
            raise bad(number, f"{_RTTM_LINE} is expected, not {shown(line)}")
        place = _find_times(fields, number, line)
        start, end = _extent(fields[place], fields[place + 1], number)
        speaker = " ".join(_without_scores(fields[place + 4 :], standard=len(fields) <= 10 and place == 3))
        yield " ".join(fields[1 : place - 1]), Segment(start, end, "", speaker=name_from(speaker))


def _find_times(fields: list[str], number: int, line: str) -> int:
    """The place of the start: where two times and two <NA> follow each other, for names may hold spaces.

    Raises:
        FormatError: There is no such place, or there are several, and the line is not of ten fields.
    """
    found = [
        n
        for n in range(3, len(fields) - 4)
        if fields[n + 2] == fields[n + 3] == "<NA>"
        and _TIME.fullmatch(fields[n])
        and _TIME.fullmatch(fields[n + 1])
    ]
    if len(found) == 1:
        return found[0]
    if len(fields) > 10:
        raise bad(number, f"{_RTTM_LINE} is expected, names without spaces, not {shown(line)}")
    return 3


def _without_scores(fields: list[str], standard: bool) -> list[str]:
    """The fields of a name, without the confidence and the look-ahead time that may follow it."""
    if standard:
        return fields[:1]
    for _ in range(2):
        if len(fields) > 1 and fields[-1] == "<NA>":
            fields = fields[:-1]
    return fields


def _render_stm(transcripts: list[Transcript]) -> str:
    lines: list[str] = []
    for name, channel, transcript in _channels(transcripts):
        for segment in transcript.segments:
            text = one_line(segment.text)
            # The label is optional, and meeteval counts it as a word: only write it to protect a text
            # that looks as if it began with one.
            label = "<NA> " if _LABEL.match(text) else ""
            times = f"{decimal(millis(segment.start))} {decimal(millis(segment.end))}"
            lines.append(f"{name} {channel} {token(segment.speaker)} {times} {label}{text}".rstrip() + "\n")
    return "".join(lines)


def _parse_stm(text: str) -> list[Transcript]:
    return _assemble_channels(_stm_segments(text))


def _channels(transcripts: list[Transcript]) -> Iterator[tuple[str, str, Transcript]]:
    """Transcripts with their ids and channels; a recording may be there once for each of its channels."""
    found: dict[str, list[Transcript]] = {}
    for transcript in transcripts:
        found.setdefault(transcript.metadata.get(CHANNEL, "1"), []).append(transcript)
    for channel, group in found.items():
        yield from ((name, token(channel), transcript) for name, transcript in sessions(group))


def _assemble_channels(pieces: Iterable[tuple[str, str, Segment]]) -> list[Transcript]:
    """One transcript for each channel of each recording, in order of first appearance."""
    found: dict[tuple[str, str], list[Segment]] = {}
    for name, channel, segment in pieces:
        found.setdefault((name, channel), []).append(segment)
    several = {name for name, channel in found if channel != "1"}
    return [
        replace(assemble(segments, name_from(name)), metadata={CHANNEL: channel} if name in several else {})
        for (name, channel), segments in found.items()
    ]


def _stm_segments(text: str) -> Iterator[tuple[str, str, Segment]]:
    for number, line in rows(text, comment=";"):
        fields = line.strip().split(maxsplit=5)
        if len(fields) < 5:
            raise bad(number, f"'file channel speaker start end <label> text' is expected, not {shown(line)}")
        start, end = span(time_from(fields[3], number), time_from(fields[4], number), number)
        words = _LABEL.sub("", fields[5], count=1) if _labelled(fields) else "".join(fields[5:])
        yield fields[0], fields[1], Segment(start, end, words, speaker=name_from(fields[2]))


def _labelled(fields: list[str]) -> bool:
    return len(fields) == 6 and _LABEL.match(fields[5]) is not None


def _render_ctm(transcripts: list[Transcript]) -> str:
    lines: list[str] = []
    for name, channel, transcript in _channels(transcripts):
        for number, segment in enumerate(transcript.segments, start=1):
            if segment.text.strip() and not segment.words:
                raise FormatError(
                    f"segment {number} of {name} has no word times, which ctm needs; "
                    "transcribe with word times or choose stm"
                )
            lines += (f"{name} {channel} {line}\n" for word in segment.words for line in _ctm_word(word))
    return "".join(lines)


def _ctm_word(word: Word) -> Iterator[str]:
    """The word's line; a word with spaces inside shares its time among its parts."""
    parts = one_line(word.text).split()
    start, end = millis(word.start), millis(word.end)
    confidence = "" if word.confidence is None else f" {min(max(word.confidence, 0.0), 1.0):.4f}"
    for index, part in enumerate(parts):
        left = start + (end - start) * index // len(parts)
        right = start + (end - start) * (index + 1) // len(parts)
        yield f"{decimal(left)} {decimal(right - left)} {part}{confidence}"


def _parse_ctm(text: str) -> list[Transcript]:
    found: dict[tuple[str, str], list[Word]] = {}
    for number, line in rows(text, comment=";;"):
        fields = line.split()
        if len(fields) < 5:
            raise bad(number, f"'file channel start duration word confidence' is expected, not {shown(line)}")
        start, end = _extent(fields[2], fields[3], number)
        word = Word(fields[4], start, end, _confidence(fields[5:6], number))
        found.setdefault((fields[0], fields[1]), []).append(word)
    return _assemble_channels((*where, _joined(words)) for where, words in found.items())


def _joined(words: Iterable[Word]) -> Segment:
    """One segment for a recording's words, which in a ctm file have no other order than time."""
    ordered = sorted(words, key=lambda word: word.start)
    text = _NO_SPACE.sub("", " ".join(word.text for word in ordered))
    return Segment(ordered[0].start, max(word.end for word in ordered), text, tuple(ordered))


def _confidence(fields: list[str], number: int) -> float | None:
    if not fields or fields[0] in ("NA", "<NA>"):
        return None
    try:
        value = float(fields[0])
    except ValueError:
        raise bad(number, f"the confidence {shown(fields[0])} is not a number") from None
    if not is_probability(value):
        raise bad(number, f"the confidence {shown(fields[0])} does not lie between 0 and 1")
    return value


def _extent(start: str, duration: str, number: int) -> tuple[float, float]:
    begin = time_from(start, number)
    # 1.1 + 2.2 is not 3.3: rounding makes the end what was written before
    end = round(begin + time_from(duration, number), 6)
    return begin, max(begin, time_from(str(end), number))


RTTM = Format("rttm", (".rttm",), "who spoke when, for diarisation tools", True, _render_rttm, _parse_rttm)
STM = Format("stm", (".stm",), "NIST segments: times, speaker and text", True, _render_stm, _parse_stm)
CTM = Format("ctm", (".ctm",), "NIST words: times and confidence", True, _render_ctm, _parse_ctm)
