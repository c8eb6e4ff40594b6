"""Subtitles: SubRip (srt) and WebVTT (vtt, https://www.w3.org/TR/webvtt1/).

Both leave out segments without text and keep line ends inside a text, but no blank lines.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace

from diffusion_asr.formats.base import Format, assemble, bad, millis, one_line, shown, span, time_from
from diffusion_asr.transcript import Segment, Transcript

_ARROW = "-->"
_CLOCK = re.compile(r"(?:([0-9]+):)?([0-5]?[0-9]):([0-5]?[0-9])[.,]([0-9]{1,3})")
_NAME = re.compile(r"(\S.{0,63}?):\s+(?=\S)")
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]*)>")
_TAG = re.compile(r"<[^>]*>")


def _render_srt(transcripts: list[Transcript]) -> str:
    cues: list[str] = []
    for segment in transcripts[0].segments:
        if text := _cue_text(re.sub(r"-{2,}>", "->", segment.text)):
            # A colon and a space inside a name would end it.
            name = one_line(segment.speaker or "").replace(": ", " - ")
            cues.append(f"{len(cues) + 1}\n{_times(segment, ',')}\n{name + ': ' if name else ''}{text}\n")
    return "\n".join(cues)


def _parse_srt(text: str) -> list[Transcript]:
    segments = [cue for number, block in _blocks(text) if (cue := _parse_cue(block, number))]
    return [assemble(_named(segments))]


def _named(segments: list[Segment]) -> list[Segment]:
    """Take speakers off the texts, but only if every cue has one: "Note: ..." is an ordinary sentence."""
    found = [_NAME.match(segment.text) for segment in segments]
    if not all(found):
        return segments
    return [
        replace(segment, text=segment.text[name.end() :], speaker=name[1])
        for segment, name in zip(segments, found, strict=True)
        if name
    ]


def _render_vtt(transcripts: list[Transcript]) -> str:
    cues = ["WEBVTT\n"]
    for segment in transcripts[0].segments:
        if text := _cue_text(segment.text):
            name = one_line(segment.speaker or "")
            voice = f"<v {html.escape(name, quote=False)}>" if name else ""
            cues.append(f"{_times(segment, '.')}\n{voice}{html.escape(text, quote=False)}\n")
    return "\n".join(cues)


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


def _times(segment: Segment, point: str) -> str:
    return f"{_clock(millis(segment.start), point)} {_ARROW} {_clock(millis(segment.end), point)}"


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


SRT = Format("srt", (".srt",), "subtitles: times, speaker and text", False, _render_srt, _parse_srt)
VTT = Format("vtt", (".vtt",), "web subtitles: times, speaker and text", False, _render_vtt, _parse_vtt)
