"""``diffusion-asr meeting``: who said what in one recording."""

from __future__ import annotations

import hashlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffusion_asr.cli.inputs import Input
from diffusion_asr.cli.plan import (
    DEFAULT_MODEL,
    check_file,
    check_language,
    parse_formats,
    plan_cues,
    plan_output,
)
from diffusion_asr.cli.report import expected_errors
from diffusion_asr.cli.transcribe import (
    FirstCanvas,
    Formats,
    Highlight,
    Language,
    LineCount,
    LineWidth,
    Model,
    Overwrite,
    Seed,
    Start,
    Steps,
    Threads,
    Track,
    Verify,
)
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.languages import AUTO

_SPEAKERS = "Speakers"
_LONGEST_NAME = 200  # bytes of 255 that systems allow; ours has more around it


class Order(StrEnum):
    """What comes first."""

    DECODE_FIRST = "decode-first"
    CUT_FIRST = "cut-first"


def _at_least_one(value: int | None) -> int | None:
    if value is not None and value < 1:
        raise typer.BadParameter(f"{value}: at least one person speaks, or leave it out")
    return value


def _count(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        name, callback=_at_least_one, metavar="N", rich_help_panel=_SPEAKERS, help=text
    )
    return option


File = Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A sound file.")]
Exactly = Annotated[int | None, _count("--num-speakers", "How many people speak, if you know.")]
AtLeast = Annotated[int | None, _count("--min-speakers", "At least so many.")]
AtMost = Annotated[int | None, _count("--max-speakers", "At most so many.")]
Rttm = Annotated[
    Path | None,
    typer.Option(
        "--rttm", metavar="FILE", rich_help_panel=_SPEAKERS, help="Who speaks when, from somebody else."
    ),
]
Channels = Annotated[
    bool,
    typer.Option("--channels-as-speakers", rich_help_panel=_SPEAKERS, help="Each channel is one speaker."),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        "--output-dir", "-o", metavar="DIR",
        help="Write NAME.FORMAT files here, not to stdout; a killed run can then go on.",
    ),
]  # fmt: skip
Report = Annotated[
    Path | None, typer.Option("--report", metavar="HTML", help="Also write a page to look at and listen to.")
]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on with a run that was killed, or start again.")
]
Which = Annotated[
    Order,
    typer.Option("--order", rich_help_panel="Decoding", help="Decode first, or cut at turn changes first."),
]


def meeting(
    file: File,
    num_speakers: Exactly = None,
    min_speakers: AtLeast = None,
    max_speakers: AtMost = None,
    rttm: Rttm = None,
    channels_as_speakers: Channels = False,
    language: Language = AUTO,
    format: Formats = ["srt"],  # noqa: A002, B006 - the option's name; typer copies the default
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
    track: Track = None,
    report: Report = None,
    resume: Resume = True,
    order: Which = Order.DECODE_FIRST,
    steps: Steps = None,
    verify: Verify = None,
    start: Start = FirstCanvas.NULL,
    seed: Seed = 0,
    max_line_width: LineWidth = None,
    max_line_count: LineCount = None,
    highlight_words: Highlight = False,
    model: Model = DEFAULT_MODEL,
    threads: Threads = None,
) -> None:
    r"""Write down who says what, word by word, in a recording of any length.

    Who speaks when is found by the pyannote adapter, offline: pip install 'diffusion-asr\[pyannote]'.
    Without it, give --rttm or --channels-as-speakers.

    [bold]Examples[/bold]
    diffusion-asr meeting talk.wav
    diffusion-asr meeting talk.wav --num-speakers 3 --format seglst,vtt,rttm --output-dir out
    diffusion-asr meeting talk.wav --report talk.html --output-dir out
    diffusion-asr meeting call.wav --channels-as-speakers --language de
    diffusion-asr meeting talk.wav --rttm talk.rttm --format stm
    """
    check_file(file)
    code = check_language(language, model)
    _check_speakers((num_speakers, min_speakers, max_speakers), rttm, channels_as_speakers)
    names = parse_formats(format)
    with expected_errors():
        from diffusion_asr.cli.meeting_run import MeetingRun, Settings

        cues = plan_cues(names, max_line_width, max_line_count, highlight_words)
        others = [] if rttm is None else [rttm]
        sink = plan_output([Input(file)], names, output_dir, overwrite, report, others, cues=cues)
        settings = Settings(
            speakers=(num_speakers, min_speakers, max_speakers), rttm=rttm, channels=channels_as_speakers,
            language=code, order=order.value, model=model, threads=threads, report=report, resume=resume,
            track=track,
            decoding=DecodingOptions(
                steps=steps, verify=verify, start=start.value, seed=seed, trace=report is not None
            ),
            state=None if output_dir is None else output_dir / _state_name(file),
        )  # fmt: skip
        MeetingRun(file, sink, settings).run()


def _state_name(file: Path) -> str:
    """Of the file that keeps what is done; a name that the output only just fits into is shortened."""
    name = os.fsencode(file.stem)
    if len(name) <= _LONGEST_NAME:
        return f".{file.stem}.meeting.jsonl"
    return f".{hashlib.sha256(name).hexdigest()[:32]}.meeting.jsonl"


def _check_speakers(
    counts: tuple[int | None, int | None, int | None], rttm: Path | None, channels: bool
) -> None:
    exactly, least, most = counts
    if exactly and (least or most):
        raise typer.BadParameter(
            "it is exact; leave out --min-speakers and --max-speakers", param_hint="--num-speakers"
        )
    if least and most and least > most:
        raise typer.BadParameter(f"{least} is more than --max-speakers {most}", param_hint="--min-speakers")
    if rttm and channels:
        raise typer.BadParameter("either the file or the channels tell who speaks", param_hint="--rttm")
    if (rttm or channels) and any(counts):
        told = "--rttm" if rttm else "--channels-as-speakers"
        raise typer.BadParameter("the number of speakers is known already; leave it out", param_hint=told)
