"""Everything that can be wrong with a command line, found before the long work starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import typer

from diffusion_asr import formats
from diffusion_asr.cli.sinks import FolderSink, Sink, StdoutSink
from diffusion_asr.errors import FormatError, LanguageError
from diffusion_asr.languages import find_language
from diffusion_asr.transcript import Transcript

DEFAULT_MODEL = "canvas-base"
_SHOWN = 5  # files named in one message


def check_inputs(files: Sequence[Path]) -> None:
    """Refuse what is not a file's name.

    Raises:
        typer.BadParameter: stdin, or a folder.
    """
    for file in files:
        if str(file) == "-":
            raise _wrong("stdin cannot be read; save the sound to a file and give its name", "FILES")
        if _is_folder(file):
            remedy = f"give the sound files in it, such as {file / '*.wav'}"
            raise _wrong(f"{file} is a folder; {remedy}", "FILES")


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
        raise _wrong(str(error), "--language") from error


def parse_formats(given: Sequence[str]) -> list[str]:
    """Format names from repeated and comma-separated options, each once.

    Raises:
        typer.BadParameter: Unknown or none.
    """
    names = [name.strip().lower() for part in given for name in part.split(",") if name.strip()]
    for name in names:
        if name not in formats.FORMATS:
            raise _wrong(f"unknown format {name!r}; choose from {', '.join(formats.FORMATS)}", "--format")
    if not names:
        raise _wrong(f"no format given; choose from {', '.join(formats.FORMATS)}", "--format")
    return list(dict.fromkeys(names))


def plan_output(files: Sequence[Path], names: list[str], folder: Path | None, overwrite: bool) -> Sink:
    """Where the transcripts will go, sure to be possible as far as one can tell now.

    Raises:
        typer.BadParameter: Formats that do not fit stdout, outputs that exist or fall together.
    """
    if folder is None:
        return _plan_stdout(files, names, overwrite)
    targets = {
        file: {name: folder / (file.stem + formats.FORMATS[name].suffixes[0]) for name in names}
        for file in files
    }
    _refuse_collisions(files, targets)
    _refuse_existing([path for each in targets.values() for path in each.values()], overwrite)
    _make_folder(folder)
    return FolderSink(targets, overwrite)


def _plan_stdout(files: Sequence[Path], names: list[str], overwrite: bool) -> StdoutSink:
    if overwrite:
        raise _wrong("it is for files; give --output-dir too", "--overwrite")
    if len(names) > 1:
        raise _wrong("stdout takes one format; give --output-dir to write several", "--format")
    several = len(files) > 1
    if several and names != ["txt"]:
        try:  # with nothing in them yet: refuses formats for one recording, and equal names
            formats.render([Transcript(source=str(file)) for file in files], names[0])
        except FormatError as error:
            raise _wrong(f"{error}; or give --output-dir to write one file for each", "--format") from error
    return StdoutSink(names[0], several)


def _refuse_collisions(files: Sequence[Path], targets: dict[Path, dict[str, Path]]) -> None:
    first: dict[Path, Path] = {}
    for file in files:
        for target in targets[file].values():
            if target in first:
                both = f"{first[target]} and {file}"
                raise _wrong(f"{both} would both become {target}; rename one or use two folders", "FILES")
            first[target] = file


def _refuse_existing(targets: list[Path], overwrite: bool) -> None:
    for target in targets:
        if target.exists() and not target.is_file():
            raise _wrong(f"{target} exists and is not a file; use another folder", "--output-dir")
    existing = [str(target) for target in targets if target.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - _SHOWN} more" if len(existing) > _SHOWN else ""
        verb = "exists" if len(existing) == 1 else "exist"
        listed = ", ".join(existing[:_SHOWN]) + more
        raise _wrong(f"{listed} {verb} already; give --overwrite to replace", "--output-dir")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise _wrong(f"{folder} is a file; give a folder", "--output-dir") from None
    except OSError as error:
        raise _wrong(f"{folder} cannot be created: {error.strerror}", "--output-dir") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _wrong(f"{folder} cannot be written to; check its permissions", "--output-dir")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, no permission: the audio reader says it, for this file alone
        return False


def _wrong(message: str, what: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=what)
