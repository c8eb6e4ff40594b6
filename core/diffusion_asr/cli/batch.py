"""Transcribes file after file; a bad file does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from diffusion_asr.cli.report import (
    INTERRUPTED,
    is_terminal,
    progress_bar,
    reason,
    say,
    warnings_as_notes,
)
from diffusion_asr.cli.sinks import OutputError, Sink
from diffusion_asr.cli.trace import trace_lines
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import DiffusionASRError, LanguageError
from diffusion_asr.process_memory import pause_collection
from diffusion_asr.transcript import Transcript

if TYPE_CHECKING:
    from diffusion_asr.decoding.decoder import Hypothesis
    from diffusion_asr.recognizer import Recognizer


@dataclass(frozen=True, slots=True)
class Settings:
    """How to transcribe; the names are those of the options."""

    model: str
    language: str | None
    threads: int | None
    decoding: DecodingOptions
    track: int | None = None


@dataclass
class Batch:
    """Files on their way to a sink."""

    files: Sequence[Path]
    sink: Sink
    settings: Settings
    failures: list[tuple[Path, Exception]] = field(default_factory=list)
    language: str | None = None  # its code, once the model is there
    done: int = 0

    def run(self) -> None:
        """Transcribe everything that can be.

        Raises:
            typer.Exit: 1 if a file failed, 130 after Ctrl-C.
            typer.BadParameter: The model does not know the language.
            DiffusionASRError: No model, or nowhere to write.
        """
        try:
            readable = [file for file in self.files if self._is_there(file)]
            if readable:
                self._transcribe_all(self._load(), readable)
            self.sink.finish()
        except KeyboardInterrupt:
            self.sink.finish()  # what is ready is not thrown away
            say(f"interrupted: {self.done} of {len(self.files)} files done")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            self._list_failures()
        if self.failures:
            raise typer.Exit(1)

    def _is_there(self, file: Path) -> bool:
        """Whether there is a file at all: a mistyped name need not wait for the model."""
        from diffusion_asr.audio.files import read_blocks

        try:
            read_blocks(file)  # checks the path at once and would read later
        except DiffusionASRError as error:
            self.failures.append((file, error))
            return False
        return True

    def _load(self) -> Recognizer:
        with pause_collection():
            import torch

            from diffusion_asr.recognizer import Recognizer

            if self.settings.threads is not None:
                torch.set_num_threads(self.settings.threads)
            recognizer = Recognizer.from_pretrained(self.settings.model)
        try:
            self.language = recognizer.check_language(self.settings.language)
        except LanguageError as error:
            raise typer.BadParameter(str(error), param_hint="--language") from error
        return recognizer

    def _transcribe_all(self, recognizer: Recognizer, readable: list[Path]) -> None:
        for number, file in enumerate(readable, start=1):
            begin = time.monotonic()
            try:
                with warnings_as_notes():
                    transcript = self._transcribe(recognizer, file, number, len(readable))
                where = self.sink.put(file, transcript)
            except (OutputError, BrokenPipeError):
                raise
            except (DiffusionASRError, OSError) as error:
                self.failures.append((file, error))
                continue
            self.done += 1
            if not transcript.text:
                say(f"{file}: no speech found")
            if where is not None:
                seconds = max(time.monotonic() - begin, 1e-3)
                speed = f"{transcript.duration:.1f} s, {transcript.duration / seconds:.1f} x real time"
                say(f"{file} -> {where} ({speed})")

    def _transcribe(self, recognizer: Recognizer, file: Path, number: int, files: int) -> Transcript:
        settings = self.settings
        with ExitStack() as stack:
            watched = is_terminal() and not settings.decoding.trace
            return recognizer.transcribe(
                file,
                language=self.language,
                options=settings.decoding,
                track=settings.track,
                progress=stack.enter_context(progress_bar(file, number, files)) if watched else None,
                on_hypothesis=_tracer(file, recognizer) if settings.decoding.trace else None,
            )

    def _list_failures(self) -> None:
        if not self.failures:
            return
        if len(self.files) > 1:
            say(f"{len(self.failures)} of {len(self.files)} files failed:")
        for file, error in self.failures:
            message = reason(error)
            named = str(file) in message
            say(f"error: {message}" if named else f"error: {file}: {message}")


def _tracer(file: Path, recognizer: Recognizer) -> Callable[[float, Hypothesis], None]:
    def show(start: float, hypothesis: Hypothesis) -> None:
        for number, line in enumerate(trace_lines(start, hypothesis, recognizer.parts.vocabulary)):
            say(f"{file} {line}" if number == 0 else line)

    return show
