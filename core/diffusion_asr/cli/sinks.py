"""Where transcripts go: clean text on stdout, or one file for each format in a folder."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from diffusion_asr import formats
from diffusion_asr.cli.inputs import Input
from diffusion_asr.cli.report import reason, silence
from diffusion_asr.cli.state import FileState
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.formats import CueOptions
from diffusion_asr.formats.files import write_text
from diffusion_asr.transcript import Segment, Transcript

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


Others = Mapping[str, Transcript]


class OutputError(DiffusionASRError):
    """The place to write to fails, so that it is useless to go on with a batch."""


class Sink(Protocol):
    """Takes transcripts as they are made."""

    def add(self, one: Input, segments: Sequence[Segment]) -> None:
        """Take a part of an input's transcript, which will come whole later."""
        ...

    def put(
        self, one: Input, transcript: Transcript, sound: Path | None = None, others: Others | None = None
    ) -> str | None:
        """Take the transcript of an input; returns where it went, if that is worth telling.

        ``others`` has what some formats, by name, are given instead of it.
        """
        ...

    def keep(self, one: Input, transcript: Transcript) -> None:
        """Take what there is of an input that was interrupted."""
        ...

    def finish(self) -> None:
        """After the last transcript, also if the batch was cut short."""
        ...


def emit(text: str) -> None:
    """Write to stdout now, as UTF-8 unless it is a terminal.

    Raises:
        BrokenPipeError: Nobody reads any more.
        OutputError: It cannot be written to, for example because it is closed or the disk is full.
    """
    out = sys.stdout
    if out is None:
        raise OutputError("cannot write to stdout: it is closed")
    if isinstance(out, io.TextIOWrapper):
        encoding = out.encoding if out.isatty() else "utf-8"
        out.reconfigure(encoding=encoding, errors="replace" if out.isatty() else "surrogateescape")
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # ValueError: closed by somebody in this process
        silence(out)
        raise OutputError(f"cannot write to stdout: {reason(error)}") from error


@dataclass
class StdoutSink:
    """Text on stdout.

    A format that can hold several recordings becomes one document, at the end; txt is written as it comes,
    and under the heading ``==> name <==`` (as ``head`` prints it) if there are several.
    """

    format: str
    several: bool
    cues: CueOptions | None = None
    _held: list[Transcript] = field(default_factory=list)
    _headings: int = 0
    _current: Input | None = None
    _shown: int = 0  # segments of the current input that are written

    def add(self, one: Input, segments: Sequence[Segment]) -> None:
        """See ``Sink.add``."""
        if self.format == "txt" and segments:
            self._begin(one)
            self._shown += len(segments)
            emit(formats.render(Transcript(tuple(segments)), "txt"))

    def put(
        self, one: Input, transcript: Transcript, sound: Path | None = None, others: Others | None = None
    ) -> str | None:
        """See ``Sink.put``."""
        transcript = (others or {}).get(self.format, transcript)
        if self.several and formats.FORMATS[self.format].many:
            self._held.append(transcript)
        elif self.format == "txt":
            self._begin(one)
            self.add(one, transcript.segments[self._shown :])
        else:
            emit(formats.render(transcript, self.format, self.cues))
        return None

    def keep(self, one: Input, transcript: Transcript) -> None:
        """See ``Sink.keep``."""
        if self.format != "txt" and transcript.segments:
            self.put(one, transcript)

    def finish(self) -> None:
        """See ``Sink.finish``."""
        if self._held:
            held, self._held = self._held, []
            emit(formats.render(held, self.format))

    def _begin(self, one: Input) -> None:
        if self._current == one:
            return
        self._current, self._shown = one, 0
        self._headings += 1
        if self.several:
            emit(f"{'' if self._headings == 1 else chr(10)}==> {one.name} <==\n")


@dataclass(frozen=True)
class FolderSink:
    """Files in a folder, each whole or not there at all.

    Attributes:
        targets: Input to format to file.
        overwrite: Whether existing files may be replaced.
        states: What an unfinished run has done, for inputs whose run can go on.
        cues: How subtitles are cut.
        page: Written from the transcript by somebody else, who may rely on its being recorded.
    """

    targets: Mapping[Input, Mapping[str, Path]]
    overwrite: bool
    states: Mapping[Input, FileState] = field(default_factory=dict)
    page: Path | None = None
    cues: CueOptions | None = None

    def add(self, one: Input, segments: Sequence[Segment]) -> None:
        """See ``Sink.add``."""

    def put(
        self, one: Input, transcript: Transcript, sound: Path | None = None, others: Others | None = None
    ) -> str | None:
        """See ``Sink.put``."""
        targets = self.targets[one]
        given = {name: (others or {}).get(name, transcript) for name in targets}
        texts = {target: formats.render(given[name], name, self.cues) for name, target in targets.items()}
        state, done = self.states.get(one), set[Path]()
        if state is not None and sound is not None:
            done = state.written(sound)
            state.record_outputs(sound, texts | ({} if self.page is None else {self.page: None}))
        for target, text in texts.items():
            write_text(target, text, self.overwrite or target.absolute() in done)
        return ", ".join(str(target) for target in targets.values())

    def keep(self, one: Input, transcript: Transcript) -> None:
        """See ``Sink.keep``: the journal has it."""

    def make_folder(self, one: Input) -> None:
        """Make the folder for an input's files and state.

        Raises:
            OSError: The system does not take their names.
        """
        for target in self.targets[one].values():
            target.exists()  # a name that is too long is an error here, before the work
            target.parent.mkdir(parents=True, exist_ok=True)

    def is_done(self, one: Input, sound: Path) -> bool:
        """Whether an unfinished run of the same command has written all outputs of an input."""
        state = self.states.get(one)
        wanted = {path.absolute() for path in self.targets[one].values()}
        if self.page is not None:
            wanted.add(self.page.absolute())
        return state is not None and wanted <= state.written(sound)

    def finish(self) -> None:
        """See ``Sink.finish``."""


def is_full(error: BaseException) -> bool:
    """Whether an error says that there is no room, so that no other file will fare better."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in _FULL
