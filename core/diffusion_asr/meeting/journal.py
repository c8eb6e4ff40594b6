"""What a run has done so far, on disk, so that a killed run goes on where it was.

One JSON object a line: the header (which recording, model and options), the diarization, then every decoded
piece. The header is written whole or not at all; lines are added one by one and flushed to the disk. A line
that was cut off is dropped when the file is read, and its piece decoded again: nothing is lost or doubled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from diffusion_asr import formats
from diffusion_asr.errors import DiffusionASRError, FormatError
from diffusion_asr.formats.files import write_text
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import Diarization
from diffusion_asr.meeting.result import SegmentTrace
from diffusion_asr.transcript import Segment, Transcript

VERSION = 1
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
        ResumeError: The file cannot be read or written, or another run is writing it.
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
            if path.exists():
                with path.open("ab") as file:
                    _lock(file, path)  # before it is replaced
            length = self._load(path, header, note) if resume else 0
            if not length:
                write_text(path, json.dumps(header) + "\n", overwrite=True)
            self._file = path.open("ab")
            _lock(self._file, path)
            if length:
                self._file.truncate(length)
        except (OSError, FormatError) as error:
            raise ResumeError(f"{path}: the state of the run cannot be kept there ({error})") from error

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

    def _load(self, path: Path, header: Mapping[str, Any], note: Callable[[str], None]) -> int:
        """Takes over what the file holds; returns how many bytes of it are whole, 0 for start again."""
        if not path.exists():
            return 0
        lines, length = _whole_lines(path.read_bytes())
        if not lines or not isinstance(lines[0], dict) or lines[0].get("version") != VERSION:
            note(f"{path}: not the state of a run of this version; starting from the beginning")
            return 0
        if changed := _changed(lines[0].get("about"), header["about"]):
            note(f"{path}: the state of a run with another {', '.join(changed)}; starting from the beginning")
            return 0
        try:
            for line in lines[1:]:
                self._take(line)
        except (KeyError, TypeError, ValueError, AttributeError, FormatError) as error:
            self.diarization, self.pieces = None, {}
            note(f"{path}: the state of the run is damaged ({error!r}); starting from the beginning")
            return 0
        until = max((end for _, _, end in self.pieces), default=0.0)
        note(f"{path}: going on with a run that had come to {until:.0f} s")
        return length

    def _take(self, line: Mapping[str, Any]) -> None:
        if "turns" in line:
            turns, single = (tuple(Turn(*turn) for turn in line[view]) for view in ("turns", "exclusive"))
            self.diarization = Diarization(turns, single)
            return
        track, start, end = line["piece"]
        (transcript,) = formats.parse(json.dumps(line["decoded"]), "json")
        trace = None
        if "trace" in line:
            begin, until, steps = line["trace"]
            trace = SegmentTrace(begin, until, tuple(steps))
        self.pieces[track, start, end] = DecodedPiece(transcript.segments, trace)


def _whole_lines(data: bytes) -> tuple[list[Any], int]:
    """Lines of JSON up to the first that is cut off or damaged, and their length in bytes."""
    found, length = [], 0
    for line in data.splitlines(keepends=True):
        try:
            if not line.endswith(b"\n"):
                break
            found.append(json.loads(line))
        except ValueError:
            break
        length += len(line)
    return found, length


def _changed(before: object, now: Mapping[str, Any]) -> list[str]:
    """Names of what is not as it was."""
    known = before if isinstance(before, dict) else {}
    return [name for name in {**known, **now} if known.get(name) != now.get(name)]


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
