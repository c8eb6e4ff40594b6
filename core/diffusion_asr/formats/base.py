"""What all transcript formats share: the registry's entry, checked times, safe names."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from diffusion_asr.errors import FormatError
from diffusion_asr.formats.cues import CueOptions
from diffusion_asr.transcript import Segment, Transcript, Word, join_lines

UNKNOWN = "unknown"
"""Stands for a missing speaker or recording where a format wants a name."""

_SHORT = reprlib.Repr()  # unlike repr, it stops in deeply nested lists
_SHORT.maxstring = 60
_MAX_SECONDS = 1e9
_ROUNDING = 1e-6  # a product of float32 probabilities may end a little above 1
_CONTROLS = re.compile(r" *[\x00-\x1f\x7f\x85\u2028\u2029\ufeff]+ *")
_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f\ufeff;]+")
# Only these are cut off: the stem of a session such as "2024.05.01" must stay whole.
_MEDIA = re.compile(
    r"\.(aac|aiff?|amr|avi|caf|flac|m4[abv]|mk[av]|mov|mp[234]|mpe?g|og[agv]|opus|sph|w64|wav|webm|wm[av])$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    Attributes:
        name: What users type.
        suffixes: File name endings, in lower case, with the dot.
        summary: One line for help texts: what the format keeps.
        many: Whether one file can hold several recordings.
        render: Turns checked transcripts (exactly one unless ``many``) into text.
        parse: Turns text with plain newlines into transcripts.
        style: For subtitles: ``render`` with wishes of how they are cut.
    """

    name: str
    suffixes: tuple[str, ...]
    summary: str
    many: bool
    render: Callable[[list[Transcript]], str]
    parse: Callable[[str], list[Transcript]]
    style: Callable[[list[Transcript], CueOptions], str] | None = None


def bad(line: int, problem: str) -> FormatError:
    """The error for a line (counted from 1) of a transcript file."""
    return FormatError(f"line {line}: {problem}")


def shown(text: object) -> str:
    """A quotation that is short enough for an error message."""
    return _SHORT.repr(text)


def rows(text: str, comment: str | None = None) -> Iterator[tuple[int, str]]:
    """Numbered lines (from 1) without blank lines and comments.

    ``str.splitlines`` would also split at characters that belong to the text.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not (comment and line.lstrip().startswith(comment)):
            yield number, line


# --- times -------------------------------------------------------------------------------------


def is_time(seconds: float) -> bool:
    """Whether a number can be a place in a recording; false for NaN and infinity."""
    return 0 <= seconds <= _MAX_SECONDS


def is_probability(value: float) -> bool:
    """Whether a number lies in [0, 1], but for rounding; false for NaN."""
    return -_ROUNDING <= value <= 1 + _ROUNDING


def millis(seconds: float) -> int:
    """Whole milliseconds; rounding each time alone keeps their order."""
    return round(float(seconds) * 1000)


def decimal(milliseconds: int) -> str:
    """Milliseconds as seconds with three decimals."""
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"


def time_from(text: str, line: int, per_second: int = 1) -> float:
    """Seconds from a number in a file.

    Raises:
        FormatError: If it is no number, negative, NaN or infinite.
    """
    try:
        seconds = float(text) / per_second
    except ValueError:
        raise bad(line, f"{shown(text)} is not a number; a time is expected here") from None
    if not is_time(seconds):
        raise bad(line, f"{shown(text)} is not a possible time; it must be finite and not negative")
    return seconds


def span(start: float, end: float, line: int) -> tuple[float, float]:
    """The two times, if they are in order."""
    if end < start:
        raise bad(line, f"the end ({end:g} s) is before the start ({start:g} s)")
    return start, end


def checked(transcripts: Iterable[Transcript]) -> list[Transcript]:
    """The transcripts, if their times and confidences can be read back after writing.

    Raises:
        FormatError: With the segment and its fault.
    """
    result = list(transcripts)
    for transcript in result:
        if not is_time(transcript.duration):
            raise FormatError(
                f"{session(transcript)}: the duration {transcript.duration} is not a possible time"
            )
        for number, segment in enumerate(transcript.segments, start=1):
            parts: list[Segment | Word] = [segment, *segment.words]
            for part in parts:
                if fault := _fault(part):
                    raise FormatError(
                        f"segment {number} of {session(transcript)}: {shown(part.text)} {fault}"
                    )
    return result


def _fault(part: Segment | Word) -> str | None:
    if not (is_time(part.start) and is_time(part.end)):
        return f"has impossible times ({part.start} to {part.end}); they must be finite and not negative"
    if part.end < part.start:
        return f"ends ({part.end} s) before it starts ({part.start} s)"
    if isinstance(part, Word):
        for name, value in (("confidence", part.confidence), ("speaker confidence", part.speaker_confidence)):
            if value is not None and not is_probability(value):
                return f"has the {name} {value}; it must lie between 0 and 1"
    return None


# --- text and names ----------------------------------------------------------------------------


def one_line(text: str) -> str:
    """The text with tabs and other control characters as one space, line ends as its script wants."""
    return _CONTROLS.sub(" ", join_lines(text)).strip()


def token(name: str | None) -> str:
    """A name without spaces for a space-separated format; ``UNKNOWN`` if there is none."""
    return _UNSAFE.sub("_", (name or "").strip()) or UNKNOWN


def name_from(name: str) -> str | None:
    """The name that ``token`` wrote."""
    return None if name in ("", UNKNOWN, "<NA>") else name


def session(transcript: Transcript) -> str:
    """The recording's id: its file name without folder and media suffix, spaces made safe."""
    name = re.split(r"[/\\]", transcript.source or "")[-1]
    return token(_MEDIA.sub("", name))


def sessions(transcripts: list[Transcript]) -> list[tuple[str, Transcript]]:
    """Transcripts with their ids.

    Raises:
        FormatError: If two have the same id, for their segments would be mixed.
    """
    found: dict[str, Transcript] = {}
    for transcript in transcripts:
        name = session(transcript)
        if name in found:
            raise FormatError(
                f"two recordings have the id {name!r} ({found[name].source} and {transcript.source}); "
                "give them different file names or write them to different files"
            )
        found[name] = transcript
    return list(found.items())


# --- from parsed pieces to transcripts ---------------------------------------------------------


def assemble(segments: Iterable[Segment], name: str | None = None) -> Transcript:
    """A transcript in order of time that lasts until the last end."""
    ordered = tuple(sorted(segments, key=lambda segment: segment.start))
    return Transcript(ordered, max((segment.end for segment in ordered), default=0.0), name)


def assemble_sessions(pieces: Iterable[tuple[str, Segment]]) -> list[Transcript]:
    """One transcript for each session id, in order of first appearance."""
    found: dict[str, list[Segment]] = {}
    for name, segment in pieces:
        found.setdefault(name, []).append(segment)
    return [assemble(segments, name_from(name)) for name, segments in found.items()]
