"""Where transcripts go: clean text on stdout, or one file for each format in a folder."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from diffusion_asr import formats
from diffusion_asr.cli.report import reason, silence
from diffusion_asr.errors import DiffusionASRError, FormatError
from diffusion_asr.transcript import Transcript


class OutputError(DiffusionASRError):
    """The place to write to fails, so that it is useless to go on with a batch."""


class Sink(Protocol):
    """Takes transcripts as they are made."""

    def put(
        self, path: Path, transcript: Transcript, others: Mapping[str, Transcript] | None = None
    ) -> str | None:
        """Take the transcript of an input; returns where it went, if that is worth telling.

        ``others`` has what some formats, by name, are given instead of it.
        """
        ...

    def finish(self) -> None:
        """After the last transcript, also if the batch was cut short."""
        ...


def emit(text: str) -> None:
    """Write to stdout now, as UTF-8 unless it is a terminal.

    Raises:
        BrokenPipeError: Nobody reads any more.
        OutputError: It cannot be written to, for example because the disk is full.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        encoding = out.encoding if out.isatty() else "utf-8"
        out.reconfigure(encoding=encoding, errors="replace" if out.isatty() else "surrogateescape")
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(out)
        raise OutputError(f"cannot write to stdout: {reason(error)}") from error


@dataclass
class StdoutSink:
    """Text on stdout.

    A format that can hold several recordings becomes one document, at the end; txt is written file by
    file, and under the heading ``==> name <==`` (as ``head`` prints it) if there are several.
    """

    format: str
    several: bool
    _held: list[Transcript] = field(default_factory=list)
    _headings: int = 0

    def put(
        self, path: Path, transcript: Transcript, others: Mapping[str, Transcript] | None = None
    ) -> str | None:
        """See ``Sink.put``."""
        transcript = (others or {}).get(self.format, transcript)
        if self.several and formats.FORMATS[self.format].many:
            self._held.append(transcript)
            return None
        text = formats.render(transcript, self.format)
        emit(self._heading(path) + text if self.several else text)
        return None

    def finish(self) -> None:
        """See ``Sink.finish``."""
        if self._held:
            held, self._held = self._held, []
            emit(formats.render(held, self.format))

    def _heading(self, path: Path) -> str:
        self._headings += 1
        return f"{'' if self._headings == 1 else chr(10)}==> {path} <==\n"


@dataclass(frozen=True)
class FolderSink:
    """Files in a folder, each whole or not there at all."""

    targets: dict[Path, dict[str, Path]]  # input to format to file
    overwrite: bool

    def put(
        self, path: Path, transcript: Transcript, others: Mapping[str, Transcript] | None = None
    ) -> str | None:
        """See ``Sink.put``."""
        for name, target in self.targets[path].items():
            try:
                formats.write((others or {}).get(name, transcript), target, name, self.overwrite)
            except FormatError as error:
                if isinstance(error.__cause__, OSError):
                    raise OutputError(str(error)) from error
                raise
        return ", ".join(str(target) for target in self.targets[path].values())

    def finish(self) -> None:
        """See ``Sink.finish``."""
