"""What the user sees on stderr: notes, a progress bar, and expected errors as one line each."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from diffusion_asr.errors import DiffusionASRError

if TYPE_CHECKING:
    from diffusion_asr.recognizer import Progress

INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 141  # 128 + SIGPIPE: what other programs end with before `| head`
_LABEL = 28  # letters of a file's name beside the bar


def say(message: str) -> None:
    """A line on stderr; a stderr that cannot be written to is no reason to stop."""
    with suppress(OSError):
        typer.echo(message, err=True)


def reason(error: Exception) -> str:
    """An error's message without Python's notation."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def silence(stream: TextIO) -> None:
    """Point a broken stream at nothing, so that Python does not complain about it at exit."""
    with suppress(OSError, ValueError):  # ValueError: not a real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def expected_errors() -> Iterator[None]:
    """Ends the program with a clean line and the right exit code, never with a traceback.

    Raises:
        typer.Exit: In place of what happened.
    """
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        silence(sys.stdout)
        raise typer.Exit(BROKEN_PIPE) from None
    except (DiffusionASRError, OSError) as error:
        say(f"error: {reason(error)}")
        raise typer.Exit(1) from None


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Shows each different ``AudioWarning`` as one line when the work is over; others as Python does."""
    from diffusion_asr.audio.files import AudioWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        try:
            yield
        finally:
            ours = [str(w.message) for w in caught if issubclass(w.category, AudioWarning)]
            others = [w for w in caught if not issubclass(w.category, AudioWarning)]
    for message in dict.fromkeys(ours):
        say(f"warning: {' '.join(message.split())}")
    for other in others:
        warnings.showwarning(other.message, other.category, other.filename, other.lineno)


def is_terminal() -> bool:
    """Whether somebody watches stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def progress_bar(path: Path, number: int, files: int) -> Iterator[Progress]:
    """A bar for one file, gone when it is done; yields what ``Recognizer.transcribe`` calls."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    name = path.name if len(path.name) <= _LABEL else path.name[: _LABEL - 1] + "…"
    label = f"{number}/{files} {name}" if files > 1 else name
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[seconds]}", markup=False),
    )
    # Without redirection: rich would send stdout, the transcripts, to the bar's terminal.
    bars = Bars(
        *columns, console=Console(stderr=True), transient=True, expand=True, refresh_per_second=4,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
    begin = time.monotonic()
    with bars:
        task = bars.add_task(label, total=None, seconds="listening")

        def show(done: float, total: float) -> None:
            speed = done / max(time.monotonic() - begin, 1e-3)
            seconds = f"{done:.0f}/{total:.0f} s  {speed:.1f} x real time"
            bars.update(task, completed=done, total=total, seconds=seconds)

        yield show
