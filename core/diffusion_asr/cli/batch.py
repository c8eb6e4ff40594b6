"""Transcribes file after file, or several at a time; no failure of one stops the others."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import typer

from diffusion_asr.cli import interrupts
from diffusion_asr.cli.inputs import Input
from diffusion_asr.cli.interrupts import INTERRUPTED
from diffusion_asr.cli.listening import Heard, Listener, Settings, Task
from diffusion_asr.cli.outputs import wrong
from diffusion_asr.cli.report import Bar, is_terminal, say
from diffusion_asr.cli.sinks import FolderSink, OutputError, Sink, is_full
from diffusion_asr.cli.state import FileState
from diffusion_asr.cli.workers import Finished, Noted, Progressed, plain, transcribe_in_parallel
from diffusion_asr.errors import DiffusionASRError, LanguageError
from diffusion_asr.transcript import Segment, Transcript


@dataclass
class Batch:
    """Recordings on their way to a sink."""

    inputs: Sequence[Input]
    sink: Sink
    settings: Settings
    report: Path | None = None
    jobs: int = 1
    failures: list[tuple[Input, str]] = field(default_factory=list)
    done: int = 0

    def run(self) -> None:
        """Transcribe everything that can be.

        Raises:
            typer.Exit: 1 if a file failed, 130 after Ctrl-C.
            typer.BadParameter: The model does not know the language.
            DiffusionASRError: No model, or nowhere to write.
        """
        try:
            with _spooled(self.inputs) as sounds:
                ready = [one for one in self.inputs if self._is_ready(one, sounds[one])]
                if ready:
                    self._transcribe_all(ready, sounds)
            self.sink.finish()
            self._forget()
        except LanguageError as error:
            raise wrong(str(error), "--language") from error
        except KeyboardInterrupt:
            self.sink.finish()  # what is ready is not thrown away
            if any(state.journal.exists() or state.record.exists() for state in self._states()):
                say("the same command goes on from here")
            say(f"interrupted: {self.done} of {len(self.inputs)} files done")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            self._list_failures()
        if self.failures:
            raise typer.Exit(1)

    def _is_ready(self, one: Input, sound: Path) -> bool:
        """Whether there is a file, and work to do: a mistyped name need not wait for the model."""
        from diffusion_asr.audio.files import read_blocks

        try:
            read_blocks(sound)  # checks the path at once and would read later
            if isinstance(self.sink, FolderSink):
                self.sink.make_folder(one)
            if isinstance(self.sink, FolderSink) and self.settings.resume and self.sink.is_done(one, sound):
                self.done += 1
                say(f"{one.name}: was done before")
                return False
        except (DiffusionASRError, OSError) as error:
            self._fail(one, sound, error)
            return False
        return True

    def _fail(self, one: Input, sound: Path, error: Exception) -> None:
        message = str(plain(error))
        self.failures.append((one, message.replace(str(sound), one.name) if one.is_stdin else message))

    def _transcribe_all(self, ready: list[Input], sounds: dict[Input, Path]) -> None:
        tasks = [self._task(one, sounds[one]) for one in ready]
        if self.jobs > 1 and len(ready) > 1:
            interrupts.begin_work()
            self._in_parallel(ready, tasks)
            return
        listener = Listener(self.settings)
        interrupts.begin_work()
        for number, (one, task) in enumerate(zip(ready, tasks, strict=True), start=1):
            label = one.path.name if len(ready) == 1 else f"{number}/{len(ready)} {one.path.name}"
            with self._guarded(one, task.sound):
                self._finish(one, task.sound, self._listen(listener, one, task, label))

    def _task(self, one: Input, sound: Path) -> Task:
        state = self.sink.states.get(one) if isinstance(self.sink, FolderSink) else None
        if state is None:
            return Task(sound, one.name)
        return Task(sound, one.name, state.journal, state.about)

    def _listen(self, listener: Listener, one: Input, task: Task, label: str) -> Heard:
        """One recording, its text given out as it comes."""
        so_far: list[Segment] = []
        with ExitStack() as stack:
            watched = is_terminal() and not self.settings.decoding.trace
            bar = stack.enter_context(Bar(label)) if watched else None

            def show(segments: tuple[Segment, ...]) -> None:
                interrupts.check()
                so_far.extend(segments)
                with bar.aside() if bar is not None else ExitStack():
                    self.sink.add(one, segments)

            try:
                return listener.transcribe(task, progress=bar, on_segments=show)
            except KeyboardInterrupt:
                end = so_far[-1].end if so_far else 0.0
                self.sink.keep(one, Transcript(tuple(so_far), end, one.name))
                raise

    def _in_parallel(self, ready: list[Input], tasks: list[Task]) -> None:
        """All recordings; on stdout they come in the order given, in a folder as they are done."""
        waiting: dict[int, Heard | Exception] = {}
        seconds: dict[int, tuple[float, float]] = {}
        following, ordered = 0, not isinstance(self.sink, FolderSink)
        with ExitStack() as stack:
            bar = stack.enter_context(Bar("")) if is_terminal() else None
            for event in transcribe_in_parallel(tasks, self.settings, self.jobs):
                with bar.aside() if bar is not None else ExitStack():
                    if isinstance(event, Noted):
                        say(event.message)
                    elif isinstance(event, Progressed):
                        seconds[event.number] = event.done, event.total
                    elif not ordered:
                        self._take(ready[event.number], tasks[event.number], event)
                    else:
                        waiting[event.number] = event.result
                        while following in waiting:
                            found = Finished(following, waiting.pop(following))
                            self._take(ready[following], tasks[following], found)
                            following += 1
                if bar is not None and seconds:
                    done, total = (sum(column) for column in zip(*seconds.values(), strict=True))
                    bar.tell(f"{self.done}/{len(ready)} files", f"{done:.0f}/{total:.0f} s", done, total)

    def _take(self, one: Input, task: Task, event: Finished) -> None:
        with self._guarded(one, task.sound):
            if isinstance(event.result, Exception):
                raise event.result
            self._finish(one, task.sound, event.result)

    @contextmanager
    def _guarded(self, one: Input, sound: Path) -> Iterator[None]:
        """A failure of any kind is this file's alone, unless nothing can be written any more."""
        try:
            yield
        except (OutputError, BrokenPipeError):
            raise
        except Exception as error:
            if is_full(error):
                raise OutputError(str(plain(error))) from error
            self._fail(one, sound, error)

    def _finish(self, one: Input, sound: Path, heard: Heard) -> None:
        """Write what was heard, and tell so."""
        transcript = heard.transcript
        written = [where] if (where := self.sink.put(one, transcript, sound)) else []
        if self.report is not None:
            from diffusion_asr.report import write_report

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the recording's were told when it was transcribed
                write_report(self.report, transcript, sound, replays=heard.replays, track=self.settings.track)
            written.append(str(self.report))
        if isinstance(self.sink, FolderSink) and one in self.sink.states:
            self.sink.states[one].journal.unlink(missing_ok=True)  # its record is enough
        self.done += 1
        if not transcript.text:
            say(f"{one.name}: no speech found")
        if written:
            speed = f"{transcript.duration:.1f} s, {float(transcript.metadata['speed']):.1f} x real time"
            say(f"{one.name} -> {', '.join(written)} ({speed})")

    def _states(self) -> list[FileState]:
        return list(self.sink.states.values()) if isinstance(self.sink, FolderSink) else []

    def _forget(self) -> None:
        for state in self._states():
            state.forget()

    def _list_failures(self) -> None:
        if not self.failures:
            return
        if len(self.inputs) > 1:
            say(f"{len(self.failures)} of {len(self.inputs)} files failed:")
        for one, message in self.failures:
            say(f"error: {message}" if one.name in message else f"error: {one.name}: {message}")


@contextmanager
def _spooled(inputs: Sequence[Input]) -> Iterator[dict[Input, Path]]:
    """Where the sound of each input is; what is piped in lies in a temporary file meanwhile."""
    with ExitStack() as stack:
        sounds = {one: one.path for one in inputs}
        for one in inputs:
            if one.is_stdin:
                sounds[one] = stack.enter_context(_copy_stdin())
        yield sounds


@contextmanager
def _copy_stdin() -> Iterator[Path]:
    """A copy of what is piped in; on Linux in a file without a name, which no kill leaves behind."""
    with tempfile.TemporaryFile() as file:
        nameless = Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        if nameless.is_file():
            shutil.copyfileobj(sys.stdin.buffer, file)
            file.flush()
            yield nameless
            return
    with tempfile.TemporaryDirectory(prefix="diffusion-asr-") as folder:
        interrupts.cleanups.append(partial(shutil.rmtree, folder, ignore_errors=True))
        named = Path(folder, "stdin")
        with named.open("xb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield named
