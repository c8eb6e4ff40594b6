"""``diffusion-asr transcribe``: options and their meaning; the work is in ``plan`` and ``batch``."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffusion_asr.cli.batch import Batch
from diffusion_asr.cli.inputs import find_inputs
from diffusion_asr.cli.listening import Settings
from diffusion_asr.cli.plan import (
    DEFAULT_MODEL,
    check_language,
    parse_formats,
    plan_cues,
    plan_output,
)
from diffusion_asr.cli.report import expected_errors
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.formats import FORMATS
from diffusion_asr.languages import AUTO, LANGUAGES

_DECODING = "Decoding"
_SUBTITLES = "Subtitles"
_MACHINE = "Machine"


class FirstCanvas(StrEnum):
    """What the first canvas holds."""

    NULL = "null"
    NOISE = "noise"


def _between(low: int, high: int) -> Callable[[int | None], int | None]:
    """Checks an option's number; typer's own ``min`` and ``max`` would widen the help by their range."""

    def check(value: int | None) -> int | None:
        if value is not None and not low <= value <= high:
            raise typer.BadParameter(f"{value} is not between {low} and {high}")
        return value

    return check


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILES", show_default=False, help="Sound files, folders, patterns; - is what is piped in."
    ),
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Search folders with all folders below them.")
]
Language = Annotated[
    str,
    typer.Option(
        "--language",
        "-l",
        metavar="NAME",
        help=f"{AUTO}, or one of {', '.join(LANGUAGES)} by code, name or tag: de, German, de-DE.",
    ),
]
Formats = Annotated[
    list[str],
    typer.Option(
        "--format", "-f", metavar="NAME", help=f"{', '.join(FORMATS)}; several with commas or repeated."
    ),
]
LineWidth = Annotated[
    int | None,
    typer.Option(
        "--max-line-width", callback=_between(4, 1000), metavar="N", rich_help_panel=_SUBTITLES,
        help="Columns of a line, 42 by default; a Hanzi takes two.",
    ),
]  # fmt: skip
LineCount = Annotated[
    int | None,
    typer.Option(
        "--max-line-count", callback=_between(1, 100), metavar="N", rich_help_panel=_SUBTITLES,
        help="Lines on the screen at a time, 2 by default.",
    ),
]  # fmt: skip
Highlight = Annotated[
    bool,
    typer.Option(
        "--highlight-words", rich_help_panel=_SUBTITLES, help="Underline each word while it is said."
    ),
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
Track = Annotated[
    int | None,
    typer.Option(
        callback=_between(1, 1000), metavar="N",
        help="Of a file's audio tracks this one, from 1; by default the one that the file calls default.",
    ),
]  # fmt: skip
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
Steps = Annotated[
    int | None,
    typer.Option(
        callback=_between(1, 1000), metavar="N", rich_help_panel=_DECODING,
        help="Write the text in at most so many parallel passes: 8 are about as good as the default in most"
        " languages. By default each window goes on until its text has settled.",
    ),
]  # fmt: skip
Verify = Annotated[
    bool | None,
    typer.Option(
        "--verify/--no-verify", rich_help_panel=_DECODING,
        help="Verify the draft from left to right (the default without --steps), or never.",
    ),
]  # fmt: skip
Start = Annotated[
    FirstCanvas,
    typer.Option("--start", rich_help_panel=_DECODING, help="Begin with an empty canvas or with noise."),
]
Seed = Annotated[
    int,
    typer.Option(
        callback=_between(0, 2**63 - 1), metavar="N", rich_help_panel=_DECODING, help="Seed of the noise."
    ),
]
Trace = Annotated[
    bool,
    typer.Option(
        "--trace",
        rich_help_panel=_DECODING,
        help="Show every pass on stderr: its kind, and the text after it.",
    ),
]
Model = Annotated[
    str,
    typer.Option("--model", metavar="NAME|DIR", rich_help_panel=_MACHINE, help="A model's name or folder."),
]
Threads = Annotated[
    int | None,
    typer.Option(
        callback=_between(1, 1024),
        metavar="N",
        rich_help_panel=_MACHINE,
        help="CPU threads; by default torch decides.",
    ),
]

Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", callback=_between(1, 256), metavar="N", rich_help_panel=_MACHINE,
        help="Files at a time, each in a process with a model of its own.",
    ),
]  # fmt: skip


def transcribe(
    files: Files,
    recursive: Recursive = False,
    language: Language = AUTO,
    format: Formats = ["txt"],  # noqa: A002, B006 - the option's name; typer copies the default
    output_dir: OutputDir = None,
    overwrite: Overwrite = False,
    track: Track = None,
    report: Report = None,
    resume: Resume = True,
    steps: Steps = None,
    verify: Verify = None,
    start: Start = FirstCanvas.NULL,
    seed: Seed = 0,
    max_line_width: LineWidth = None,
    max_line_count: LineCount = None,
    highlight_words: Highlight = False,
    trace: Trace = False,
    model: Model = DEFAULT_MODEL,
    threads: Threads = None,
    jobs: Jobs = 1,
) -> None:
    """Write down what is said in sound files.

    The text goes to stdout as it comes. Of several files, txt comes under a heading for
    each, and json, rttm, stm, ctm and seglst become one document at the end.

    [bold]Examples[/bold]
    diffusion-asr transcribe talk.flac
    diffusion-asr transcribe talk.flac --language de --format srt > talk.srt
    diffusion-asr transcribe *.wav --format txt,json --output-dir out
    diffusion-asr transcribe talks/ --recursive --output-dir out --jobs 2
    ffmpeg -i talk.mp4 -f wav - | diffusion-asr transcribe -
    diffusion-asr transcribe talk.flac --steps 8 --start noise --trace
    diffusion-asr transcribe -- -name-with-a-dash.wav
    """
    with expected_errors():
        inputs = find_inputs(files, recursive)
        settings = Settings(
            model=model, language=check_language(language, model), threads=threads, track=track,
            resume=resume, replay=report is not None,
            decoding=DecodingOptions(steps=steps, verify=verify, start=start.value, seed=seed, trace=trace),
        )  # fmt: skip
        names = parse_formats(format)
        cues = plan_cues(names, max_line_width, max_line_count, highlight_words)
        sink = plan_output(inputs, names, output_dir, overwrite, report, about=settings.about(), cues=cues)
        Batch(inputs, sink, settings, report, jobs).run()
