"""What a run has done so far, on disk, so that a killed run goes on where it was.

One JSON object a line: the header (which recording, model and options), the diarization, then every decoded
piece. The header is written whole or not at all; lines are added one by one and flushed to the disk. A line
that was cut off is dropped when the file is read, and its piece decoded again: nothing is lost or doubled.

Only a state is ever replaced or added to: a link, a pipe, or a file of anything else under its name is an
error, for what is behind it may be somebody's work.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from diffusion_asr import formats
from diffusion_asr.errors import DiffusionASRError, FormatError
from diffusion_asr.formats.base import one_line
from diffusion_asr.formats.jsonvalues import Node
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import Diarization
from diffusion_asr.meeting.result import SegmentTrace
from diffusion_asr.transcript import Segment, Transcript

VERSION = 1
_LONGEST = 1 << 26  # bytes of a line; a day's diarization is a tenth of that
Key = tuple[int, float, float]  # track, start and end in seconds


class ResumeError(DiffusionASRError):
    """The state of a run cannot be kept, or another run is using it."""


@dataclass(frozen=True, slots=True)
class DecodedPiece:
    """One piece, decoded."""

    segments: tuple[Segment, ...]
    trace: SegmentTrace | None = None


class Journal:
    """The state of one run; without a path it forgets everything at the end.

    Args:
        path: The state file; None keeps nothing.
        about: What the run depends on. A state with another ``about`` is not used.
        resume: Whether a state that is there may be used.
        note: Told in words why a state was not used, or what was.

    Raises:
        ResumeError: The file cannot be read or written, is no state, or another run is writing it.
    """

    def __init__(
        self, path: Path | None, about: Mapping[str, Any], resume: bool, note: Callable[[str], None]
    ) -> None:
        self.path = path
        self.diarization: Diarization | None = None
        self.pieces: dict[Key, DecodedPiece] = {}
        self._file: IO[bytes] | None = None
        if path is None:
            return
        header = {"version": VERSION, "about": dict(about)}
        try:
            self._file = _open(path)
            length = 0
            if self._file is not None:
                _lock(self._file, path)  # before it is read, or replaced
                length = self._load(self._file, path, header, resume, note)
            if self._file is None or not length:
                self._file = _replaced(path, self._file, json.dumps(header).encode() + b"\n")
            else:
                self._file.truncate(length)
        except OSError as error:
            self.close(forget=False)
            raise ResumeError(f"{path}: the state of the run cannot be kept there ({error})") from error
        except ResumeError:
            self.close(forget=False)
            raise

    def record_turns(self, diarization: Diarization) -> None:
        """Keep the diarization."""
        self.diarization = diarization
        views = {"turns": diarization.turns, "exclusive": diarization.exclusive or ()}
        self._add({name: [[t.start, t.end, t.speaker] for t in view] for name, view in views.items()})

    def record(self, key: Key, decoded: DecodedPiece) -> None:
        """Keep a piece."""
        self.pieces[key] = decoded
        if self._file is None:
            return
        transcript = json.loads(formats.render(Transcript(decoded.segments), "json"))
        line = {"piece": list(key), "decoded": transcript}
        if decoded.trace is not None:
            line["trace"] = [decoded.trace.start, decoded.trace.end, list(decoded.trace.steps)]
        self._add(line)

    def close(self, forget: bool) -> None:
        """The run is over; ``forget`` deletes its state."""
        if self._file is not None:
            self._file.close()
            self._file = None
            if forget and self.path is not None:
                self.path.unlink(missing_ok=True)

    def _add(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ResumeError(f"{self.path}: the state of the run cannot be written ({error})") from error

    def _load(
        self,
        file: IO[bytes],
        path: Path,
        header: Mapping[str, Any],
        resume: bool,
        note: Callable[[str], None],
    ) -> int:
        """Takes over what the file holds; returns how many bytes of it are whole, 0 for start again."""
        lines = _whole_lines(file)
        before, length = next(lines, (Node(None, ""), 0))
        if not os.fstat(file.fileno()).st_size:
            return 0  # a machine that stopped at the wrong moment
        if not isinstance(before.value, dict) or not before.value.keys() >= {"version", "about"}:
            raise ResumeError(
                f"{path}: is there already and is not the state of a run; delete it, or give another name"
            )
        if not resume:
            return 0
        if before.value["version"] != VERSION:
            note(f"{path}: not the state of a run of this version; starting from the beginning")
            return 0
        if changed := _changed(before.value["about"], header["about"]):
            note(f"{path}: the state of a run with another {', '.join(changed)}; starting from the beginning")
            return 0
        try:
            for line, whole in lines:
                self._take(line)
                length = whole
        except (FormatError, RecursionError) as error:
            self.diarization, self.pieces = None, {}
            note(f"{path}: the state of the run is damaged ({error}); starting from the beginning")
            return 0
        until = max((end for _, _, end in self.pieces), default=0.0)
        note(f"{path}: going on with a run that had come to {until:.0f} s")
        return length

    def _take(self, line: Node) -> None:
        if line.has("turns"):
            turns, single = (tuple(map(_turn, line.at(view).each())) for view in ("turns", "exclusive"))
            self.diarization = Diarization(turns, single)
            return
        track, start, end = _fields(line.at("piece"), 3)
        if type(track.value) is not int:
            raise track.wrong("a track's number")
        found = formats.parse(json.dumps(line.at("decoded").value), "json")
        if len(found) != 1:
            raise line.at("decoded").wrong("one transcript")
        trace = None
        if line.has("trace"):
            begin, until, steps = _fields(line.at("trace"), 3)
            texts = tuple(step.text() for step in steps.each())
            trace = SegmentTrace(begin.seconds(), until.seconds(), texts)
        decoded = DecodedPiece(found[0].segments, trace)
        self.pieces[track.value, start.seconds(), end.seconds()] = decoded


def _turn(node: Node) -> Turn:
    start, end, speaker = _fields(node, 3)
    if end.seconds() < start.seconds():
        raise node.wrong("a turn that ends after it starts")
    return Turn(start.seconds(), end.seconds(), speaker.text())


def _fields(node: Node, count: int) -> list[Node]:
    fields = node.each()
    if len(fields) != count:
        raise node.wrong(f"a list of {count}")
    return fields


def _open(path: Path) -> IO[bytes] | None:
    """The file under a name, to be read and added to; None if there is none.

    Raises:
        ResumeError: Something else than a file, of which nothing was read or changed.
    """
    if not path.is_symlink():
        flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0)
        # A link that somebody puts there just now is not followed, a pipe is not waited for.
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            file = os.fdopen(os.open(path, flags), "r+b")
        except FileNotFoundError:
            return None
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
    raise ResumeError(f"{path}: is a link, or no file; the state of the run is not kept there: remove it")


def _replaced(path: Path, old: IO[bytes] | None, header: bytes) -> IO[bytes]:
    """A new state with its header, in the place of the old one; locked."""
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as new:
            new.write(header)
            new.flush()
            os.fsync(new.fileno())
        if old is not None:
            old.close()  # some systems move nothing over an open file
        temporary.replace(path)  # also over a link: it is replaced, not what it points to
    finally:
        temporary.unlink(missing_ok=True)
    file = _open(path)
    if file is None:
        raise ResumeError(f"{path}: was deleted at once; give another folder")
    _lock(file, path)
    return file


def _whole_lines(file: IO[bytes]) -> Iterator[tuple[Node, int]]:
    """Lines of JSON up to the first that is cut off or damaged, with the length in bytes until each's end."""
    length = 0
    while (line := file.readline(_LONGEST)).endswith(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # numbers of thousands of digits, lists in lists in lists
            return
        length += len(line)
        yield Node(value, ""), length


def _changed(before: object, now: Mapping[str, Any]) -> list[str]:
    """Names of what is not as it was."""
    known = before if isinstance(before, dict) else {}
    return [one_line(name)[:40] for name in {**known, **now} if known.get(name) != now.get(name)][:20]


def _lock(file: IO[bytes], path: Path) -> None:
    """One run at a time; where the system has no such locks there is no check."""
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResumeError(
                f"{path}: another run is writing it; wait for it or give another folder"
            ) from None
