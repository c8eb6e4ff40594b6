"""Transcript files: write, read, render and parse in every supported format.

>>> from diffusion_asr.formats import render
>>> from diffusion_asr.transcript import Segment, Transcript
>>> print(render(Transcript((Segment(0.0, 1.5, "Hello."),)), "srt"), end="")
1
00:00:00,000 --> 00:00:01,500
Hello.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from diffusion_asr.errors import FormatError
from diffusion_asr.formats import files, jsonfile, nist, seglst, subtitles, tables
from diffusion_asr.formats.base import Format, checked
from diffusion_asr.formats.cues import CueOptions
from diffusion_asr.transcript import Transcript

__all__ = ["FORMATS", "CueOptions", "Format", "format_of", "parse", "read", "render", "write"]

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        tables.TXT,
        jsonfile.JSON,
        subtitles.SRT,
        subtitles.VTT,
        tables.TSV,
        nist.RTTM,
        nist.STM,
        nist.CTM,
        seglst.SEGLST,
    )
}
"""Every format by its name: the only list of formats in the project."""


def format_of(path: str | Path) -> str:
    """The name of the format that a file's suffix stands for.

    Raises:
        FormatError: If no format has this suffix.
    """
    name = Path(path).name.lower()
    matches = [
        (len(end), form.name) for form in FORMATS.values() for end in form.suffixes if name.endswith(end)
    ]
    if not matches:
        raise FormatError(f"{path}: the suffix names no transcript format; {_choices()}")
    return max(matches)[1]  # the longest suffix: .seglst.json before .json


def render(
    transcripts: Transcript | Iterable[Transcript],
    format: str,  # noqa: A002 - the natural word
    cues: CueOptions | None = None,
) -> str:
    """Write transcripts as text.

    Args:
        transcripts: One transcript, or several for a format that can hold them.
        format: A name from ``FORMATS``.
        cues: How subtitles are cut; other formats take no notice.

    Raises:
        FormatError: If the format does not exist or cannot hold this content.
    """
    form = _lookup(format)
    many = checked([transcripts] if isinstance(transcripts, Transcript) else transcripts)
    if len(many) != 1 and not form.many:
        able = ", ".join(other.name for other in FORMATS.values() if other.many)
        raise FormatError(
            f"a {form.name} file holds exactly one recording, not {len(many)}; "
            f"write one file per recording or choose one of: {able}"
        )
    # A file name that is not UTF-8 reaches us as lone surrogates, which no UTF-8 file can hold.
    text = form.render(many) if cues is None or form.style is None else form.style(many, cues)
    return text.encode("utf-8", errors="replace").decode("utf-8")


def parse(text: str, format: str) -> list[Transcript]:  # noqa: A002
    """Read transcripts from text; a byte-order mark and any line ends are accepted.

    Raises:
        FormatError: With the line (in JSON: the place) and what is wrong with it.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return _lookup(format).parse(text)


def write(
    transcripts: Transcript | Iterable[Transcript],
    path: str | Path,
    format: str | None = None,  # noqa: A002
    overwrite: bool = False,
    cues: CueOptions | None = None,
) -> None:
    """Write transcripts to a file, whole or not at all.

    Args:
        transcripts: One transcript, or several for a format that can hold them.
        path: The file; its suffix chooses the format.
        format: A name from ``FORMATS`` that wins over the suffix.
        overwrite: Whether an existing file may be replaced.
        cues: How subtitles are cut.

    Raises:
        FormatError: If the file exists, cannot be written or the format cannot hold this content.
    """
    name = format_of(path) if format is None else format
    _lookup(name)  # a misspelt format is not a problem of the file
    try:
        text = render(transcripts, name, cues)
    except FormatError as error:
        raise FormatError(f"cannot write {path}: {error}") from error
    files.write_text(Path(path), text, overwrite)


def read(path: str | Path, format: str | None = None) -> list[Transcript]:  # noqa: A002
    """Read every transcript in a file.

    A format that does not name its recording (txt, srt, vtt, tsv) gets the file's stem as ``source``.

    Args:
        path: The file; its suffix chooses the format.
        format: A name from ``FORMATS`` that wins over the suffix.

    Raises:
        FormatError: With the file, the line and what is wrong.
    """
    form = _lookup(format_of(path) if format is None else format)
    text = files.read_text(Path(path))
    try:
        transcripts = parse(text, form.name)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    if form.many:
        return transcripts
    return [replace(transcript, source=Path(path).stem) for transcript in transcripts]


def _lookup(name: str) -> Format:
    if name not in FORMATS:
        raise FormatError(f"unknown transcript format {name!r}; {_choices()}")
    return FORMATS[name]


def _choices() -> str:
    return f"choose one of: {', '.join(FORMATS)}"
