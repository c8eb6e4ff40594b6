"""Everything that can be wrong with a command line, found before the long work starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusion_asr import formats
from diffusion_asr.cli.inputs import STDIN, Input
from diffusion_asr.cli.outputs import Output, check_outputs, wrong
from diffusion_asr.cli.sinks import FolderSink, OutputError, Sink, StdoutSink
from diffusion_asr.cli.state import FileState
from diffusion_asr.errors import FormatError, LanguageError
from diffusion_asr.formats import CueOptions
from diffusion_asr.languages import find_language
from diffusion_asr.transcript import Transcript

DEFAULT_MODEL = "canvas-base"


def check_file(file: Path) -> None:
    """Refuse what is not one file's name.

    Raises:
        typer.BadParameter: stdin, or a folder.
    """
    if str(file) == STDIN:
        raise wrong("stdin cannot be read; save the sound to a file and give its name", "FILE")
    if file.is_dir():
        raise wrong(f"{file} is a folder; give one of the sound files in it", "FILE")


def check_language(given: str, model: str) -> str | None:
    """The language's code, None for auto; a model of the user's own is asked later.

    Raises:
        typer.BadParameter: A language that the embedded model does not know.
    """
    if model != DEFAULT_MODEL:
        return given
    try:
        return find_language(given)
    except LanguageError as error:
        raise wrong(str(error), "--language") from error


def parse_formats(given: Sequence[str]) -> list[str]:
    """Format names from repeated and comma-separated options, each once.

    Raises:
        typer.BadParameter: Unknown or none.
    """
    names = [name.strip().lower() for part in given for name in part.split(",") if name.strip()]
    for name in names:
        if name not in formats.FORMATS:
            raise wrong(f"unknown format {name!r}; choose from {', '.join(formats.FORMATS)}", "--format")
    if not names:
        raise wrong(f"no format given; choose from {', '.join(formats.FORMATS)}", "--format")
    return list(dict.fromkeys(names))


def plan_cues(
    names: Sequence[str], width: int | None, count: int | None, highlight: bool
) -> CueOptions | None:
    """How subtitles are to be cut; None if nobody has wishes.

    Raises:
        typer.BadParameter: Wishes, but no subtitles.
    """
    wishes = {"--max-line-width": width, "--max-line-count": count, "--highlight-words": highlight or None}
    given = [name for name, value in wishes.items() if value is not None]
    if given and not any(formats.FORMATS[name].style for name in names):
        styled = " and ".join(form.name for form in formats.FORMATS.values() if form.style)
        raise wrong(f"it is for {styled}; give --format too", given[0])
    usual = CueOptions()
    made = CueOptions(width or usual.max_line_width, count or usual.max_line_count, highlight)
    return made if given else None


def plan_output(
    inputs: Sequence[Input],
    names: list[str],
    folder: Path | None,
    overwrite: bool,
    report: Path | None = None,
    others: Sequence[Path] = (),
    about: Mapping[str, Any] | None = None,
    cues: CueOptions | None = None,
) -> Sink:
    """Where the transcripts will go, sure to be possible as far as one can tell now.

    Args:
        inputs: What is listened to.
        names: Formats.
        folder: For one file a format; None is stdout.
        overwrite: Whether existing outputs may be replaced.
        report: The page, if one is wanted.
        others: More files that are read.
        about: What the outputs depend on, if a run that was killed may go on.
        cues: How subtitles are cut.

    Raises:
        typer.BadParameter: Formats that do not fit stdout, outputs that exist, fall together or are inputs.
        OutputError: stdout is closed.
        OSError: The system does not take the names of the only input's outputs.
    """
    targets = {one: _targets(one, names, folder) for one in inputs} if folder is not None else {}
    outputs = [Output(path, "--output-dir", one.name) for one in targets for path in targets[one].values()]
    if report is not None:
        _check_report(report, inputs, folder)
        outputs.append(Output(report, "--report", inputs[0].name))
    elif folder is None and overwrite:
        raise wrong("it is for files; give --output-dir too", "--overwrite")
    read = [path for path in (*others, *(one.path for one in inputs if not one.is_stdin)) if _fits_disk(path)]
    states = (
        {}
        if folder is None or about is None
        else {
            one: FileState.of(one, folder, {**about, "formats": names, "cues": repr(cues)}) for one in inputs
        }
    )
    ours = {path for one, state in states.items() if not one.is_stdin for path in state.written(one.path)}
    check_outputs(read, [output for output in outputs if _fits_disk(output.path)], overwrite, ours)
    if folder is None:
        return _plan_stdout(inputs, names, [*read, *(output.path for output in outputs)], cues)
    _make_folder(folder)
    sink = FolderSink(targets, overwrite, states, report, cues)
    if len(inputs) == 1:
        sink.make_folder(inputs[0])  # of several, each fails alone
    return sink


def _check_report(report: Path, inputs: Sequence[Input], folder: Path | None) -> None:
    """Refuse a page that could not be written at the end."""
    if len(inputs) > 1:
        raise wrong("a page shows one recording; give one file", "--report")
    made = folder is not None and report.parent.absolute() == folder.absolute()
    if report.is_dir() or not (made or report.parent.is_dir()):
        raise wrong(f"{report} is a folder, or in none; give a file's name", "--report")


def _fits_disk(path: Path) -> bool:
    """Whether the system takes a name; one that is too long is a failure of its file alone, later."""
    try:
        path.exists()
    except (OSError, ValueError):
        return False
    return True


def _targets(one: Input, names: list[str], folder: Path) -> dict[str, Path]:
    return {name: folder / one.below / (one.stem + formats.FORMATS[name].suffixes[0]) for name in names}


def _plan_stdout(
    inputs: Sequence[Input], names: list[str], files: Sequence[Path], cues: CueOptions | None
) -> StdoutSink:
    if len(names) > 1:
        raise wrong("stdout takes one format; give --output-dir to write several", "--format")
    if sys.stdout is None:
        raise OutputError("stdout is closed, so the text would be lost; give --output-dir")
    if taken := next((path for path in files if _is_stdout(path)), None):
        raise wrong(f"stdout goes to {taken} itself; send it elsewhere", "FILES")
    several = len(inputs) > 1
    if several and names != ["txt"]:
        try:  # with nothing in them yet: refuses formats for one recording, and equal names
            formats.render([Transcript(source=one.name) for one in inputs], names[0])
        except FormatError as error:
            raise wrong(f"{error}; or give --output-dir to write one file for each", "--format") from error
    return StdoutSink(names[0], several, cues)


def _is_stdout(path: Path) -> bool:
    """Whether stdout was sent to a file that is read or written."""
    try:
        return path.is_file() and os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # no such file, or stdout is none
        return False


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise wrong(f"{folder} is a file; give a folder", "--output-dir") from None
    except OSError as error:
        raise wrong(f"{folder} cannot be created: {error.strerror}", "--output-dir") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise wrong(f"{folder} cannot be written to; check its permissions", "--output-dir")
