"""Where sound comes from: a path, a file's bytes, or an open file."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from diffusion_asr.errors import AudioError

StrPath = str | os.PathLike[str]
Readable = StrPath | bytes | bytearray | memoryview | BinaryIO
_BYTES, _OPEN = "the bytes", "the open file"  # names of what has none
_HELD = 1 << 24  # bytes of a stream that are kept in memory; more go to the disk


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes of a sound file, sure to be there.

    Attributes:
        name: What messages call it.
        path: The file, None if there is none.
        data: The bytes, or an open file that can be sought, where there is no path.
    """

    name: str
    path: Path | None = None
    data: bytes | BinaryIO = b""

    @property
    def title(self) -> str | None:
        """The name, if it is one of a file."""
        return None if self.name in (_BYTES, _OPEN) else self.name

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The bytes as a file at its start; somebody else's open file stays open."""
        if self.path is not None:
            with self.path.open("rb") as file:
                yield file
        elif isinstance(self.data, bytes):
            yield io.BytesIO(self.data)
        else:
            self.data.seek(0)
            yield self.data


def is_readable(value: Any) -> bool:
    """Whether this is a path, a file's bytes or an open file, rather than samples."""
    kinds = (str, os.PathLike, bytes, bytearray, memoryview)
    return isinstance(value, kinds) or callable(getattr(value, "read", None))


def open_source(given: Readable | Source) -> Source:
    """Check that there is something to read.

    Args:
        given: A path; or the bytes of a sound file; or a file opened in binary, which is read from its
            start. A pipe is copied first.

    Raises:
        AudioError: No such file, a folder, nothing in it, not binary.
    """
    if isinstance(given, Source):
        return given
    if isinstance(given, str | os.PathLike):
        return Source(os.fsdecode(given), _checked(given))
    if isinstance(given, bytes | bytearray | memoryview):
        if not len(given):
            raise AudioError("the bytes of a sound file: there are none (0 bytes)")
        return Source(_BYTES, data=bytes(given))
    return _open_file(given)


def _open_file(file: Any) -> Source:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else _OPEN
    if getattr(file, "closed", False):
        raise AudioError(f"{name}: is closed: open it again")
    if isinstance(file, io.TextIOBase):
        raise AudioError(f"{name}: is open as text: open it in binary, open(name, 'rb')")
    try:
        if not (hasattr(file, "seekable") and file.seekable()):
            file = _copied(file)
        if not file.seek(0, os.SEEK_END):
            raise AudioError(f"{name}: is empty (0 bytes): copy or record it again")
    except (OSError, ValueError, TypeError) as error:
        raise AudioError(f"{name}: cannot be read ({error}): give a file opened in binary") from error
    return Source(name, data=cast("BinaryIO", file))


def _copied(file: Any) -> Any:
    """What comes through a pipe, where it can be sought."""
    copy = tempfile.SpooledTemporaryFile(_HELD, prefix="diffusion-asr-")  # noqa: SIM115 - goes with its owner
    shutil.copyfileobj(file, copy)
    return copy


def _checked(path: StrPath) -> Path:
    """The absolute path (so a leading '-' is no option), once it is sure to be a file with bytes."""
    name = os.fsdecode(path)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):
        raise AudioError(f"{name}: this program does not use the network: download the file first")
    try:
        file = Path(name).absolute()
        status = file.stat()
        if file.is_dir():
            raise AudioError(f"{name}: is a folder: give the sound files in it")
        if not file.is_file():
            raise AudioError(f"{name}: is not a regular file: save the sound to a file first")
        if status.st_size == 0:
            raise AudioError(f"{name}: is empty (0 bytes): copy or record it again")
        with file.open("rb"):
            return file
    except FileNotFoundError:
        raise AudioError(f"{name}: there is no such file: check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name}: cannot be opened ({reason}): check its name and permissions") from error
