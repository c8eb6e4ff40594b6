"""Plain lines: txt (one segment on a line, after its speaker) and tsv (Whisper's columns, and two more)."""

from __future__ import annotations

from diffusion_asr.formats.base import (
    Format,
    assemble,
    bad,
    millis,
    one_line,
    rows,
    shown,
    span,
    time_from,
)
from diffusion_asr.formats.marks import mark_speakers, read_speakers
from diffusion_asr.transcript import Segment, Transcript

_COLUMNS = ("start", "end", "speaker", "language", "text")
_NEEDED = ("start", "end", "text")  # these Whisper writes


def _render_txt(transcripts: list[Transcript]) -> str:
    lines = [(segment.speaker, one_line(segment.text)) for segment in transcripts[0].segments]
    lines = [(speaker, line) for speaker, line in lines if line]
    texts = [line for _, line in lines]
    marks = mark_speakers([speaker for speaker, _ in lines], texts)
    return "".join(f"{mark}{line}\n" for mark, line in zip(marks, texts, strict=True))


def _parse_txt(text: str) -> list[Transcript]:
    lines = read_speakers([line.strip() for _, line in rows(text)])
    return [assemble(Segment(0.0, 0.0, line, speaker=speaker) for speaker, line in lines)]


def _render_tsv(transcripts: list[Transcript]) -> str:
    lines = ["\t".join(_COLUMNS)]
    for segment in transcripts[0].segments:
        cells = (segment.speaker or "", segment.language or "", segment.text)
        times = (str(millis(segment.start)), str(millis(segment.end)))
        lines.append("\t".join((*times, *(one_line(cell) for cell in cells))))
    return "".join(f"{line}\n" for line in lines)


def _parse_tsv(text: str) -> list[Transcript]:
    lines = rows(text)
    number, header = next(lines, (1, ""))
    columns = [cell.strip() for cell in header.split("\t")]
    if missing := [name for name in _NEEDED if name not in columns]:
        raise bad(
            number, f"the header has no column {missing[0]!r}; it should be {' '.join(_COLUMNS)} with tabs"
        )
    return [assemble(_parse_row(line, number, columns) for number, line in lines)]


def _parse_row(line: str, number: int, columns: list[str]) -> Segment:
    cells = line.split("\t")
    if len(cells) != len(columns):
        raise bad(number, f"{len(columns)} columns are expected, not {len(cells)}, in {shown(line)}")
    row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    start = time_from(row["start"], number, per_second=1000)
    start, end = span(start, time_from(row["end"], number, per_second=1000), number)
    return Segment(
        start, end, row["text"], language=row.get("language") or None, speaker=row.get("speaker") or None
    )


TXT = Format("txt", (".txt",), "a line for each segment: speaker and text", False, _render_txt, _parse_txt)
TSV = Format(
    "tsv", (".tsv",), "a table: milliseconds, speaker, language and text", False, _render_tsv, _parse_tsv
)
