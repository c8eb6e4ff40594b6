"""Subtitles: SubRip (srt) and WebVTT (vtt, https://www.w3.org/TR/webvtt1/).

Both leave out segments without text and cut the others into cues (``formats.cues``); a speaker is written as
each format can: a voice in vtt, ``[Name]: `` before every cue in srt (``formats.marks``).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise

from diffusion_asr.formats.base import Format, assemble, bad, millis, one_line, shown, span, time_from
from diffusion_asr.formats.cues import Cue, CueOptions, build_cues
from diffusion_asr.formats.marks import mark_speakers, read_speakers
from diffusion_asr.formats.units import Unit
from diffusion_asr.transcript import Segment, Transcript, Word

_ARROW = "-->"
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-5]?[0-9]):([0-5]?[0-9])[.,]([0-9]{1,3})")
_ARROWS = re.compile(r"-{2,}>")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TAG = re.compile(r"<[^>]*>")


def _render_srt(transcripts: list[Transcript]) -> str:
    return _style_srt(transcripts, CueOptions())


def _style_srt(transcripts: list[Transcript], options: CueOptions) -> str:
    segments = [
        replace(segment, text=_ARROWS.sub("->", segment.text), words=_unarrowed(segment.words))
        for segment in _with_text(transcripts[0])
    ]
    marks = mark_speakers([s.speaker for s in segments], [_cue_text(s.text) for s in segments])
    mark_of = {id(segment): mark for segment, mark in zip(segments, marks, strict=True)}
    cues = build_cues(segments, options, lambda segment: len(mark_of[id(segment)]))
    blocks: list[str] = []
    for cue in cues:
        for start, end, text in _frames(cue, options, str):
            times = f"{_clock(start, ',')} {_ARROW} {_clock(end, ',')}"
            blocks.append(f"{len(blocks) + 1}\n{times}\n{mark_of[id(cue.segment)]}{text}\n")
    return "\n".join(blocks)


def _unarrowed(words: tuple[Word, ...]) -> tuple[Word, ...]:
    return tuple(replace(word, text=_ARROWS.sub("->", word.text)) for word in words)


def _parse_srt(text: str) -> list[Transcript]:
    segments = [cue for number, block in _blocks(text) if (cue := _parse_cue(block, number))]
    found = read_speakers([segment.text for segment in segments])
    pairs = zip(segments, found, strict=True)
    return [assemble(replace(segment, text=bare, speaker=name) for segment, (name, bare) in pairs)]


def _render_vtt(transcripts: list[Transcript]) -> str:
    return _style_vtt(transcripts, CueOptions())


def _style_vtt(transcripts: list[Transcript], options: CueOptions) -> str:
    blocks = ["WEBVTT\n"]
    for cue in build_cues(_with_text(transcripts[0]), options):
        name = one_line(cue.segment.speaker or "")
        voice = f"<v {html.escape(name, quote=False)}>" if name else ""
        for start, end, text in _frames(cue, options, lambda text: html.escape(text, quote=False)):
            blocks.append(f"{_clock(start, '.')} {_ARROW} {_clock(end, '.')}\n{voice}{text}\n")
    return "\n".join(blocks)


def _with_text(transcript: Transcript) -> list[Segment]:
    """Segments that have text, without what would end a cue."""
    segments = (replace(segment, text=_cue_text(segment.text)) for segment in transcript.segments)
    return [segment for segment in segments if segment.text]


def _frames(cue: Cue, options: CueOptions, escape: Callable[[str], str]) -> Iterator[tuple[int, int, str]]:
    """Start, end (milliseconds) and text: one for the cue, or one for each word, underlined."""
    start, end = millis(cue.start), millis(cue.end)
    words = list(dict.fromkeys(unit.word for unit in cue.units if unit.word is not None))
    if not options.highlight_words or not words:
        yield start, end, cue.render(lambda unit: escape(unit.text))
        return
    first = {word: next(u.start for u in cue.units if u.word == word) for word in words}
    edges = [start, *(min(max(millis(first[word]), start), end) for word in words[1:]), end]
    for word, (begin, until) in zip(words, pairwise(edges), strict=True):
        if until > begin:
            yield begin, until, cue.render(partial(_underline, word=word, escape=escape))


def _underline(unit: Unit, word: int, escape: Callable[[str], str]) -> str:
    return f"<u>{escape(unit.text)}</u>" if unit.word == word else escape(unit.text)


def _parse_vtt(text: str) -> list[Transcript]:
    if not re.match(r"WEBVTT(\s|$)", text):
        raise bad(1, f"a WebVTT file begins with WEBVTT, not {shown(text[:20])}")
    segments: list[Segment] = []
    for number, block in _blocks(text):
        special = block[0].split(maxsplit=1)[0] in ("WEBVTT", "NOTE", "STYLE", "REGION")
        if special and not any(_ARROW in line for line in block[:2]):
            continue
        if cue := _parse_cue(block, number):
            voice = _VOICE.search(cue.text)
            name = html.unescape(voice[1]).strip() if voice else None
            plain = html.unescape(_TAG.sub("", cue.text)).strip()
            segments.append(replace(cue, text=plain, speaker=name or None))
    return [assemble(segments)]


def _cue_text(text: str) -> str:
    """The text's lines without blank ones, which would end the cue."""
    lines = (one_line(line) for line in re.split(r"\r\n|\r|\n", text))
    return "\n".join(line for line in lines if line)


def _clock(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{rest:03d}"


def _blocks(text: str) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines between blank lines, with the number of the first."""
    block: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip():
            block.append(line.strip())
        elif block:
            yield number - len(block), block
            block = []


def _parse_cue(block: list[str], number: int) -> Segment | None:
    """One cue: an optional identifier, a line of times, the text; None if the text is empty."""
    place = 0 if _ARROW in block[0] else 1
    if place == len(block) or _ARROW not in block[place]:
        raise bad(
            number + place,
            f"a line like '00:00:01.000 {_ARROW} 00:00:02.000' is expected near {shown(block[0])}",
        )
    left, _, right = block[place].partition(_ARROW)
    line = number + place
    start, end = span(_parse_clock(left, line), _parse_clock(right, line), line)
    text = "\n".join(block[place + 1 :])
    return Segment(start, end, text) if text else None


def _parse_clock(text: str, line: int) -> float:
    """Seconds from a clock time; what follows it (vtt's cue settings) is ignored."""
    word = (text.split() or [""])[0]
    match = _CLOCK.fullmatch(word)
    if match is None:
        raise bad(line, f"{shown(text.strip())} is not a time like 00:00:01.000")
    hours, minutes, seconds, rest = match.groups()
    time_from(hours or "0", line)  # before int, which refuses thousands of digits with another error
    total = int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)
    return time_from(f"{total}.{rest.ljust(3, '0')}", line)


SRT = Format(
    "srt", (".srt",), "subtitles: times, speaker and text", False, _render_srt, _parse_srt, _style_srt
)
VTT = Format(
    "vtt", (".vtt",), "web subtitles: times, speaker and text", False, _render_vtt, _parse_vtt, _style_vtt
)
