"""What a command listens to: files, folders, patterns, and ``-`` for what is piped in."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_asr.cli.outputs import wrong

STDIN = "-"
_SOUND = re.compile(
    r"\.(3gp|aac|ac3|aiff?|amr|ape|au|avi|caf|flac|flv|m4[abv]|mk[av]|mov|mp[234]|mpe?g|og[agv]|opus|rf64|sph|tta"
    r"|w64|wave?|webm|wm[av]|wv)$",
    re.IGNORECASE,
)
_PATTERN = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Input:
    """One recording.

    Attributes:
        path: Where the sound is; ``-`` is what is piped in.
        below: The folder, seen from one that was searched, in which it was found; its outputs go there too.
    """

    path: Path
    below: Path = Path()

    @property
    def is_stdin(self) -> bool:
        """Whether it is piped in."""
        return str(self.path) == STDIN

    @property
    def name(self) -> str:
        """What the user is told."""
        return "stdin" if self.is_stdin else str(self.path)

    @property
    def stem(self) -> str:
        """What its outputs are called, without their suffixes."""
        return "stdin" if self.is_stdin else self.path.stem


def find_inputs(given: Sequence[Path], recursive: bool) -> list[Input]:
    """The recordings that are meant, each once, in the order given and by name within a folder.

    A name that does not exist stays: it fails alone, when its turn comes.

    Args:
        given: Files, folders, patterns for which there is no file of that name, or ``-``.
        recursive: Whether folders are searched with all that lie below.

    Raises:
        typer.BadParameter: A folder without sound files, a pattern that fits nothing.
    """
    found: dict[str, Input] = {}
    for path in given:
        for one in _find(path, recursive):
            found.setdefault(STDIN if one.is_stdin else str(one.path.absolute()), one)
    return list(found.values())


def _find(path: Path, recursive: bool) -> Iterator[Input]:
    if str(path) == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise wrong("- is what is piped in, and nothing is; give a file's name", "FILES")
        yield Input(path)
    elif _is_folder(path):
        yield from _search(path, recursive)
    elif _PATTERN & set(str(path)) and not os.path.lexists(path):
        matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute ones
        if not matches:
            raise wrong(f"no file fits {path}", "FILES")
        for match in map(Path, matches):
            if not _is_folder(match):
                yield Input(match)
            elif recursive:
                yield from _search(match, recursive)
    else:
        yield Input(path)


def _search(folder: Path, recursive: bool) -> Iterator[Input]:
    """Sound files in a folder by their suffixes; hidden ones and links to folders are left out."""
    count = 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and _SOUND.search(name):
                count += 1
                yield Input(Path(here, name), Path(here).relative_to(folder))
    if not count:
        hint = "" if recursive else "; give --recursive to search the folders below it too"
        raise wrong(f"{folder} is a folder without sound files{hint}", "FILES")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, no permission: the audio reader says it, for this file alone
        return False
