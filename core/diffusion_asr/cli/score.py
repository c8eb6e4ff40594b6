"""``diffusion-asr score``: error rates of transcripts against references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffusion_asr.cli.report import expected_errors
from diffusion_asr.cli.sinks import emit

if TYPE_CHECKING:
    from diffusion_asr.scoring import Scored
    from diffusion_asr.transcript import Transcript

_References = Annotated[list[Path], typer.Option("--reference", help="Files with what is right.")]
_Hypotheses = Annotated[list[Path], typer.Option("--hypothesis", help="Files to score.")]
_Collar = Annotated[float, typer.Option("--collar", min=0.0, help="Seconds that tcpWER lets words be off.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def score(
    reference: _References, hypothesis: _Hypotheses, collar: _Collar = 5.0, as_json: _Json = False
) -> None:
    r"""Error rates per recording, per language and overall, with 95 % bootstrap intervals.

    Any transcript format will do (seglst, stm, ctm, json, srt, …); rttm gives DER alone. Recordings are
    matched by name; one that has no hypothesis counts as missing, and a call's channels (stm, ctm) apart.
    Needs the extra: pip install 'diffusion-asr\[score]'.

    [bold]Examples[/bold]
    diffusion-asr score --reference meeting.stm --hypothesis out/meeting.seglst.json
    diffusion-asr score --reference all.stm --hypothesis a.json --hypothesis b.json --json
    """
    from diffusion_asr import formats, scoring

    with expected_errors():
        truth = [t for path in reference for t in formats.read(path)]
        if _hold_words(reference, truth):
            _refuse_turns(hypothesis)
        found = [t for path in hypothesis for t in formats.read(path)]
        scored = scoring.score(truth, found, collar, _hold_words(reference, truth))
        emit(_as_json(scored) if as_json else _table(scored))


def _hold_words(references: Sequence[Path], truth: Sequence[Transcript]) -> bool:
    """Whether references are transcripts, be it of silence, and not a diarization."""
    from diffusion_asr.formats import format_of

    turns = {"rttm", "seglst", "json"}  # the latter two may be a diarization's as well
    written = any(segment.text for transcript in truth for segment in transcript.segments)
    return written or any(format_of(path) not in turns for path in references)


def _refuse_turns(hypotheses: Sequence[Path]) -> None:
    from diffusion_asr.errors import FormatError
    from diffusion_asr.formats import format_of

    for path in hypotheses:
        if format_of(path) == "rttm":
            raise FormatError(
                f"{path}: an RTTM holds turns and no words, but the reference holds words. Give a transcript "
                "(for words and DER), or an RTTM as reference (for DER alone)"
            )


def _groups(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Each recording, each language if there are several, and all."""
    groups = {one.recording: [one] for one in scored}
    languages = sorted({one.language for one in scored if one.language})
    if len(languages) > 1:
        groups |= {f"[{name}]": [one for one in scored if one.language == name] for name in languages}
    return groups | {"overall": list(scored)}


def _table(scored: Sequence[Scored]) -> str:
    from diffusion_asr.scoring import METRICS, combine_scores

    head = ["recording", *METRICS, "attribution"]
    rows = [head]
    for name, group in _groups(scored).items():
        cells = [name]
        for metric in METRICS:
            found = combine_scores(group, metric)
            if found is None:
                cells.append("-")
            else:
                rate, low, high = found
                spread = f" [{low:.1f}, {high:.1f}]" if len(group) > 1 else ""
                cells.append(f"{rate.percent:.2f}{spread}" if rate.units else f"{rate.errors:g} of 0")
        cells.append(_attribution(group))
        rows.append(cells)
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    note = (
        "per cent; Whisper's basic normaliser (combining marks kept, asides in brackets left out), Hanzi "
        "count as words; DER without collar; attribution = cpWER - ORC-WER"
    )
    notes = [note, *(f"{one.recording}: {told}" for one in scored for told in one.notes)]
    return "\n".join([*lines, *notes]) + "\n"


def _attribution(group: Sequence[Scored]) -> str:
    from diffusion_asr.scoring import combine_scores

    together, apart = combine_scores(group, "cpWER"), combine_scores(group, "ORC-WER")
    if together is None or apart is None or not together[0].units:
        return "-"
    return f"{together[0].percent - apart[0].percent:.2f}"


def _as_json(scored: Sequence[Scored]) -> str:
    from diffusion_asr.scoring import METRICS, combine_scores

    out: dict[str, dict[str, Any]] = {}
    for name, group in _groups(scored).items():
        out[name] = {}
        for metric in METRICS:
            if (found := combine_scores(group, metric)) is not None:
                rate, low, high = found
                out[name][metric] = {
                    "percent": _finite(rate.percent), "errors": rate.errors, "units": rate.units,
                    "low": _finite(low), "high": _finite(high),
                }  # fmt: skip
    for one in scored:
        if one.notes:
            out[one.recording]["notes"] = list(one.notes)
    return json.dumps(out, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(percent: float) -> float | None:
    """JSON has no infinity, which errors in no reference words would be."""
    return round(percent, 3) if isfinite(percent) else None
