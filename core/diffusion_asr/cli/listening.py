"""One recording after another through a recogniser, with a journal of what is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import diffusion_asr
from diffusion_asr.cli.report import say, warnings_as_notes
from diffusion_asr.cli.state import describe_run
from diffusion_asr.cli.trace import trace_lines
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.process_memory import pause_collection
from diffusion_asr.transcript import Segment, Transcript

if TYPE_CHECKING:
    from diffusion_asr.decoding.decoder import Hypothesis
    from diffusion_asr.meeting.journal import Journal
    from diffusion_asr.meeting.result import SegmentTrace
    from diffusion_asr.recognizer import Progress, Recognizer


@dataclass(frozen=True, slots=True)
class Settings:
    """How to transcribe; the names are those of the options."""

    model: str
    language: str | None
    threads: int | None
    decoding: DecodingOptions
    track: int | None = None
    resume: bool = True
    replay: bool = False  # whether the passes are wanted, for a page

    def about(self) -> dict[str, Any]:
        """What windows depend on beside the recording, in the words of a message."""
        return {
            "model": [self.model, _hash_model(self.model)],
            "version of diffusion-asr": diffusion_asr.__version__,
            "language": self.language or "auto",
            "way of decoding": repr(replace(self.decoding, trace=False)),
            "wish for a replay": self.replay,
            "track": self.track,
        }


@dataclass(frozen=True, slots=True)
class Task:
    """One recording to listen to.

    Attributes:
        sound: The file.
        name: What the user calls it.
        journal: Where its windows are kept; None keeps nothing.
        about: What they depend on beside the recording.
    """

    sound: Path
    name: str
    journal: Path | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heard:
    """What came out of a recording."""

    transcript: Transcript
    replays: tuple[SegmentTrace, ...] = ()


class Listener:
    """A recogniser with its settings.

    Raises:
        DiffusionASRError: No such model, or a language that it does not know.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        with pause_collection():
            import torch

            from diffusion_asr.recognizer import Recognizer

            if settings.threads is not None:
                torch.set_num_threads(settings.threads)
            self.recognizer: Recognizer = Recognizer.from_pretrained(settings.model)
        self.language = self.recognizer.check_language(settings.language)

    def transcribe(
        self,
        task: Task,
        progress: Progress | None = None,
        on_segments: Callable[[tuple[Segment, ...]], None] | None = None,
        note: Callable[[str], None] = say,
    ) -> Heard:
        """Transcribe one recording, from where its journal ends.

        Args:
            task: Which.
            progress: Called with seconds done and in all.
            on_segments: Called with each window's segments.
            note: Told of warnings, and of what the journal held.
        """
        from diffusion_asr.meeting.journal import DecodedPiece, Journal

        settings, begin = self.settings, time.monotonic()
        about = {} if task.journal is None else describe_run(task.sound, task.about)
        journal = Journal(task.journal, about, settings.resume, note)
        replays: dict[float, SegmentTrace] = {}

        def window_done(start: float, end: float, segments: tuple[Segment, ...]) -> None:
            if (0, start, end) not in journal.pieces:
                replay = replace(replays[start], end=end) if start in replays else None
                journal.record((0, start, end), DecodedPiece(segments, replay))
            if on_segments is not None:
                on_segments(segments)

        try:
            with warnings_as_notes(note):
                found = self.recognizer.transcribe(
                    task.sound,
                    language=self.language,
                    options=settings.decoding,
                    track=settings.track,
                    progress=progress,
                    on_hypothesis=self._watcher(task, replays),
                    on_window=window_done,
                    known={(start, end): piece.segments for (_, start, end), piece in journal.pieces.items()},
                )
        finally:
            journal.close(forget=False)
        told = self._describe(found, time.monotonic() - begin)
        return Heard(replace(found, source=task.name, metadata=told), _replays(journal))

    def _describe(self, transcript: Transcript, seconds: float) -> dict[str, str]:
        """What a transcript's reader may want to know of its making."""
        return {
            **transcript.metadata,
            "model": self.model,
            "processing_seconds": repr(round(seconds, 3)),
            "speed": repr(round(transcript.duration / max(seconds, 1e-3), 2)),
        }

    @property
    def model(self) -> str:
        """The model's name and version."""
        return f"{self.recognizer.parts.name} {self.recognizer.parts.version}"

    def _watcher(
        self, task: Task, replays: dict[float, SegmentTrace]
    ) -> Callable[[float, Hypothesis], None] | None:
        """What looks at the passes, if anybody wants them."""
        if not (self.settings.decoding.trace or self.settings.replay):
            return None

        def watch(start: float, hypothesis: Hypothesis) -> None:
            from diffusion_asr.meeting.decoding import spell_trace
            from diffusion_asr.meeting.result import SegmentTrace

            vocabulary = self.recognizer.parts.vocabulary
            if self.settings.decoding.trace:
                for number, line in enumerate(trace_lines(start, hypothesis, vocabulary)):
                    say(f"{task.name} {line}" if number == 0 else line)
            if self.settings.replay:
                replays[start] = SegmentTrace(start, start, spell_trace(hypothesis, vocabulary))

        return watch


def _replays(journal: Journal) -> tuple[SegmentTrace, ...]:
    pieces = sorted(journal.pieces.items())
    return tuple(piece.trace for _, piece in pieces if piece.trace is not None)


def _hash_model(model: str) -> str | None:
    """Tells a model from one with other weights: its configuration signs every file."""
    import hashlib

    from diffusion_asr.errors import ModelError
    from diffusion_asr.json_files import read_bytes

    # In find_model's order, without torch.
    for folder in (Path(diffusion_asr.__file__).parent / "models" / model, Path(model)):
        try:
            return hashlib.sha256(read_bytes(folder / "config.json")).hexdigest()
        except ModelError:  # whoever loads it says what is wrong
            continue
    return None
