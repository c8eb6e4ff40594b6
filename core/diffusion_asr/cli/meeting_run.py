"""The work of ``diffusion-asr meeting``: progress by stages, and files that are whole or not there."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from diffusion_asr.cli import interrupts
from diffusion_asr.cli.inputs import Input
from diffusion_asr.cli.interrupts import INTERRUPTED
from diffusion_asr.cli.report import is_terminal, say, warnings_as_notes
from diffusion_asr.cli.sinks import OutputError, Sink
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import LanguageError

if TYPE_CHECKING:
    from diffusion_asr.meeting import MeetingOptions, MeetingResult, Stage


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for; the names are those of the options."""

    speakers: tuple[int | None, int | None, int | None]  # exactly, at least, at most
    rttm: Path | None
    channels: bool
    language: str | None
    order: Literal["decode-first", "cut-first"]
    decoding: DecodingOptions
    model: str
    threads: int | None
    report: Path | None
    state: Path | None
    resume: bool
    track: int | None = None


@dataclass(frozen=True)
class MeetingRun:
    """One recording on its way to a sink."""

    file: Path
    sink: Sink
    settings: Settings

    def run(self) -> None:
        """Transcribe, and write everything that was asked for.

        Raises:
            typer.Exit: 130 after Ctrl-C.
            typer.BadParameter: The model does not know the language.
            DiffusionASRError: It cannot be done.
        """
        begin = time.monotonic()
        interrupts.begin_work()
        try:
            with warnings_as_notes():
                meeting = self._transcribe()
        except LanguageError as error:
            raise typer.BadParameter(str(error), param_hint="--language") from error
        except KeyboardInterrupt:
            kept = self.settings.state is not None and self.settings.state.exists()
            say("interrupted; the same command goes on from here" if kept else "interrupted")
            raise typer.Exit(INTERRUPTED) from None
        # Turns made of words know nothing of what nobody understood: RTTM gets the diarizer's.
        where = self.sink.put(Input(self.file), meeting.transcript, others={"rttm": meeting.diarization})
        self.sink.finish()
        if self.settings.report is not None:
            self._report(meeting, self.settings.report)
        if self.settings.state is not None:
            self.settings.state.unlink(missing_ok=True)  # not before everything is written
        self._tell(meeting, where, time.monotonic() - begin)

    def _transcribe(self) -> MeetingResult:
        import torch

        from diffusion_asr.audio.files import read_blocks
        from diffusion_asr.meeting import transcribe_meeting

        read_blocks(self.file)  # checks the path at once and would read later
        if self.settings.threads is not None:
            torch.set_num_threads(self.settings.threads)
        with ExitStack() as stack:
            return transcribe_meeting(
                self.file,
                self.settings.model,
                self.settings.rttm,
                self._options(),
                state=self.settings.state,
                keep_state=True,
                resume=self.settings.resume,
                track=self.settings.track,
                stage=stack.enter_context(_stages(self.file)) if is_terminal() else None,
                note=say,
            )

    def _options(self) -> MeetingOptions:
        from diffusion_asr.meeting import MeetingOptions, SpeakerCount

        chosen = self.settings
        return MeetingOptions(
            language=chosen.language,
            speakers=SpeakerCount(*chosen.speakers),
            order=chosen.order,
            channels_as_speakers=chosen.channels,
            decoding=chosen.decoding,
        )

    def _report(self, meeting: MeetingResult, path: Path) -> None:
        from diffusion_asr.report import write_report

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the recording's were told when it was transcribed
                write_report(path, meeting, self.file, track=self.settings.track)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written: {error.strerror}") from error

    def _tell(self, meeting: MeetingResult, where: str | None, seconds: float) -> None:
        if not meeting.transcript.text:
            say(f"{self.file}: no speech found")
        written = [where] if where else []
        written += [str(self.settings.report)] if self.settings.report else []
        if written:
            people, speed = len(meeting.speakers), meeting.duration / max(seconds, 1e-3)
            count = f"{people} speaker{'' if people == 1 else 's'}, {meeting.duration:.1f} s"
            say(f"{self.file} -> {', '.join(written)} ({count}, {speed:.1f} x real time)")


@contextmanager
def _stages(path: Path) -> Iterator[Stage]:
    """A bar for each stage, gone when all is done; yields what ``transcribe_meeting`` calls."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    # Without redirection: rich would send stdout, the transcripts, to the bar's terminal.
    bars = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=None),
        TextColumn("{task.percentage:3.0f} %", markup=False), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, expand=True, refresh_per_second=4,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
    with bars:
        tasks = {"diarization": bars.add_task(f"{path.name}: who speaks when", total=None)}

        def show(stage: str, done: float, total: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show
