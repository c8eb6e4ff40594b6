"""What the user sees on stderr: notes, a progress bar, and expected errors as one line each."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import typer

from diffusion_asr.cli.interrupts import INTERRUPTED
from diffusion_asr.errors import DiffusionASRError

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
def warnings_as_notes(note: Callable[[str], None] = say) -> Iterator[None]:
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
        note(f"warning: {' '.join(message.split())}")
    for other in others:
        warnings.showwarning(other.message, other.category, other.filename, other.lineno)


def is_terminal() -> bool:
    """Whether somebody watches stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


class Bar:
    """A bar for one file or for many, gone when it is closed; called with seconds done and in all."""

    def __init__(self, label: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[seconds]}", markup=False),
        )
        # Without redirection: rich would send stdout, the transcripts, to the bar's terminal.
        self._bars = Progress(
            *columns, console=Console(stderr=True), transient=True, expand=True, refresh_per_second=4,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._begin = time.monotonic()
        self._task = self._bars.add_task(_shortened(label), total=None, seconds="listening")

    def __enter__(self) -> Bar:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, done: float, total: float) -> None:
        """Show how far the work is, how fast it goes, and how long it will take."""
        elapsed = max(time.monotonic() - self._begin, 1e-3)
        left = elapsed * (total - done) / done if done > 0 else 0.0
        told = f"{done:.0f}/{total:.0f} s  {done / elapsed:.1f} x real time  {_clock(left)} left"
        self._bars.update(self._task, completed=done, total=total, seconds=told)

    def tell(self, label: str, told: str, done: float, total: float) -> None:
        """Show anything else."""
        self._bars.update(
            self._task, description=_shortened(label), completed=done, total=total, seconds=told
        )

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Out of the way while text is written to the same terminal."""
        shared = sys.stdout is not None and sys.stdout.isatty()
        if shared:
            self._bars.stop()
        yield
        if shared:
            self._bars.start()


def _shortened(label: str) -> str:
    return label if len(label) <= _LABEL else label[: _LABEL - 1] + "…"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
