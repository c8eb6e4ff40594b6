"""One rule for everything that a command writes: never an input, never each other, no work before the check.

Two names are one file if a symbolic or hard link says so, or a folder that takes ``A.txt`` for ``a.txt``.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import typer

_SHOWN = 5  # files named in one message
_Mark = tuple[int, int] | str


@dataclass(frozen=True, slots=True)
class Output:
    """A file that will be written.

    Attributes:
        path: Where.
        option: What on the command line asks for it.
        of: What it is made from, as the user calls it.
    """

    path: Path
    option: str
    of: str


def check_outputs(
    inputs: Sequence[Path], outputs: Sequence[Output], overwrite: bool, ours: Collection[Path] = ()
) -> None:
    """Refuse a command line that would destroy something, before anything is done.

    Args:
        inputs: Files that are read.
        outputs: Files that are to be written.
        overwrite: Whether the user lets existing outputs be replaced.
        ours: Outputs that an unfinished run of the same command has written: these (absolute) may exist.

    Raises:
        typer.BadParameter: An output is an input or another output, exists, or is no file.
        OSError: A name that the system does not take.
    """
    read = {mark: path for path in inputs for mark in _marks(path)}
    taken: dict[_Mark, Output] = {}
    for output in outputs:
        marks = _marks(output.path)
        if hit := next((read[mark] for mark in marks if mark in read), None):
            raise wrong(
                f"{output.path} would replace the input {hit}; use another folder or name", output.option
            )
        if other := next((taken[mark] for mark in marks if mark in taken), None):
            raise wrong(_both(other, output), output.option if other.option != output.option else "FILES")
        taken |= dict.fromkeys(marks, output)
    _refuse_existing([one for one in outputs if one.path.absolute() not in ours], overwrite)


def wrong(message: str, what: str) -> typer.BadParameter:
    """The error for one option or argument."""
    return typer.BadParameter(message, param_hint=what)


def _both(first: Output, second: Output) -> str:
    if first.of == second.of:
        return f"{second.path} would hold two outputs of {first.of}; give it another name"
    return f"{first.of} and {second.of} would both become {second.path}; rename one or use two folders"


def _refuse_existing(outputs: Sequence[Output], overwrite: bool) -> None:
    existing = [output for output in outputs if output.path.exists()]
    for output in existing:
        if not output.path.is_file():
            raise wrong(f"{output.path} exists and is not a file; use another name or folder", output.option)
    if existing and not overwrite:
        listed = ", ".join(str(output.path) for output in existing[:_SHOWN])
        more = f" and {len(existing) - _SHOWN} more" if len(existing) > _SHOWN else ""
        verb = "exists" if len(existing) == 1 else "exist"
        raise wrong(f"{listed}{more} {verb} already; give --overwrite to replace", existing[0].option)


def _marks(path: Path) -> set[_Mark]:
    """What all names of one file share: its number on the disk, and its place."""
    real = Path(os.path.realpath(path))
    marks: set[_Mark] = {_folded(str(real)) if _ignores_case(real.parent) else str(real)}
    try:
        status = path.stat()
    except OSError:  # there is none, or a file where a folder should be
        return marks
    return marks | {(status.st_dev, status.st_ino)}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


@lru_cache(maxsize=256)
def _ignores_case(folder: Path) -> bool:
    """Whether a folder takes ``A`` for ``a``, as far as what lies there already can tell."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        with os.scandir(folder) as entries:
            known = next((Path(entry.path) for entry in entries if _swapped(entry.name)), folder)
        return known.with_name(_swapped(known.name) or "").samefile(known)
    except (OSError, ValueError):  # it does not, or nobody may look
        return False


def _swapped(name: str) -> str | None:
    other = name.swapcase()
    return other if other != name and other.swapcase() == name else None
