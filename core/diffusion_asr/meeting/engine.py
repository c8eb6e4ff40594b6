"""The way of a meeting: listen, find out who speaks when, decode, say whose every word is.

Two orders of work. *decode-first* decodes windows of up to 30 s as any transcription does and gives every
word to whoever talks during most of it. *cut-first* cuts the windows where the floor changes hands and
decodes piece by piece, so that a piece's words are its speaker's.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import diffusion_asr
from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.audio.windows import pack_windows
from diffusion_asr.decoding.decoder import DecodingOptions
from diffusion_asr.meeting import channels
from diffusion_asr.meeting.attribution import LIMIT, TurnIndex, assign_speaker, attribute_words
from diffusion_asr.meeting.decoding import Floor, Piece, PieceDecoder
from diffusion_asr.meeting.diarizer import (
    Diarization,
    DiarizationError,
    Diarizer,
    KnownTurns,
    SpeakerCount,
    Stage,
    find_doubt,
    tidy_diarization,
)
from diffusion_asr.meeting.journal import DecodedPiece, Journal
from diffusion_asr.meeting.lazy_recognizer import LazyRecognizer
from diffusion_asr.meeting.offline import make_offline_diarizer
from diffusion_asr.meeting.recording import Recording, open_recording, read_track
from diffusion_asr.meeting.result import MeetingResult
from diffusion_asr.meeting.rttm import read_rttm
from diffusion_asr.process_memory import trim_heap
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.transcript import Segment, Transcript

Order = Literal["decode-first", "cut-first"]
ORDERS: tuple[Order, ...] = ("decode-first", "cut-first")
DEFAULT_ORDER: Order = "decode-first"
"""The order with the lower cpWER (``python -m recipes.benchmark.meetings``, recipes/meetings/RESULTS.md)."""


class MeetingWarning(UserWarning):
    """Something that the user should know, although the work goes on."""


@dataclass(frozen=True, slots=True)
class MeetingOptions:
    """How to transcribe a meeting.

    Attributes:
        language: A code, name or tag; None or "auto" detects it window by window (cut-first: turn by turn).
        speakers: What is known about how many people speak.
        order: "decode-first" or "cut-first".
        channels_as_speakers: Every channel is one speaker; nothing is diarized.
        limit: Seconds between a word and a turn that it may still belong to.
        decoding: How each piece is decoded; with a trace, the text after every pass is kept.
    """

    language: str | None = None
    speakers: SpeakerCount = field(default_factory=SpeakerCount)
    order: Order = DEFAULT_ORDER
    channels_as_speakers: bool = False
    limit: float = LIMIT
    decoding: DecodingOptions = field(default_factory=DecodingOptions)

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ValueError(f"order must be one of {', '.join(ORDERS)}, not {self.order!r}")
        if self.limit < 0:
            raise ValueError(f"limit must be 0 or more seconds, not {self.limit}")


def transcribe_meeting(
    source: Any,
    recognizer: Recognizer | str | os.PathLike[str] = "canvas-base",
    diarizer: Diarizer | str | os.PathLike[str] | None = None,
    options: MeetingOptions | None = None,
    *,
    sample_rate: int = SAMPLE_RATE,
    track: int | None = None,
    state: str | os.PathLike[str] | None = None,
    keep_state: bool = False,
    resume: bool = True,
    stage: Stage | None = None,
    note: Callable[[str], None] | None = None,
) -> MeetingResult:
    """Who said what in a recording of any length.

    Memory is bounded by windows of 30 s and by what the diarizer needs; the recording lies in a temporary
    file meanwhile.

    Args:
        source: A path, or samples (samples,) or (channels, samples).
        recognizer: Or a model's name or folder, which is loaded when the diarization is done.
        diarizer: An RTTM file of somebody else's, or any ``Diarizer``; None is the offline one of the
            pyannote adapter. Not used if channels are speakers.
        options: How.
        sample_rate: Of ``source`` if it is samples.
        track: Of a file's audio tracks this one, from 1; None is its default.
        state: A file that keeps what is done, so that the same call goes on after it was killed. It is
            deleted at the end, unless ``keep_state``: whoever writes the result deletes it then.
        keep_state: See ``state``.
        resume: Whether a ``state`` that is there is used.
        stage: Called as work goes on: "diarization" and its own stages, "decoding" (in seconds),
            "attribution".
        note: Told what happens to ``state``, and if a number of speakers that was not given looks doubtful;
            by default a ``MeetingWarning``.

    Raises:
        AudioError: Unreadable audio.
        LanguageError: Unknown language.
        DiarizationError: Turns that do not fit the recording.
        ToolkitMissingError: No diarizer was given and pyannote.audio is not installed.
        ResumeError: The state cannot be kept.
    """
    options = options or MeetingOptions()
    _check_wishes(diarizer, options)
    model = LazyRecognizer(recognizer)
    options = replace(options, language=model.check_language(options.language))
    with open_recording(source, sample_rate, options.channels_as_speakers, track) as recording:
        note = note or _warn
        run = _Run(recording, model, _chosen(diarizer, recording, options), options, stage or _silent, note)
        about = run.about() if state is not None else {}
        journal = Journal(None if state is None else Path(state), about, resume, note)
        finished = False
        try:
            result = run.result(journal)
            finished = True
        finally:
            journal.close(finished and not keep_state)
    return result


def _check_wishes(diarizer: object, options: MeetingOptions) -> None:
    """Refuse what contradicts itself, before any work."""
    counted = options.speakers != SpeakerCount()
    if options.channels_as_speakers and (diarizer is not None or counted):
        raise DiarizationError(
            "channels that are speakers need neither a diarization nor a number of speakers"
        )
    if isinstance(diarizer, str | os.PathLike) and counted:
        raise DiarizationError(f"{diarizer} tells who speaks: leave out the number of speakers")


def _chosen(
    diarizer: Diarizer | str | os.PathLike[str] | None, recording: Recording, options: MeetingOptions
) -> Diarizer | None:
    if options.channels_as_speakers:
        return None
    if isinstance(diarizer, str | os.PathLike):
        return read_rttm(diarizer, recording.source or Path(diarizer).stem, recording.duration)
    return diarizer or make_offline_diarizer()


class _Run:
    """One recording on its way."""

    def __init__(
        self,
        recording: Recording,
        model: LazyRecognizer,
        diarizer: Diarizer | None,
        options: MeetingOptions,
        stage: Stage,
        note: Callable[[str], None],
    ) -> None:
        self.recording, self.model, self.diarizer = recording, model, diarizer
        self.options, self.stage, self.note = options, stage, note
        self.detector = model.detector
        self.channels: list[channels.Channel] = []

    def about(self) -> dict[str, Any]:
        """Everything that the result depends on, in the words of a message."""
        chosen = self.options
        return {
            "recording": self.recording.digest,
            "model": self.model.digest,
            "diarization": "channels" if self.diarizer is None else self.diarizer.name,
            "version of diffusion-asr": diffusion_asr.__version__,
            "language": chosen.language or "auto",
            "number of speakers": [
                chosen.speakers.exactly,
                chosen.speakers.at_least,
                chosen.speakers.at_most,
            ],
            "order": chosen.order,
            "limit": chosen.limit,
            "number of steps": [chosen.decoding.steps, chosen.decoding.max_steps],
            "start of the decoding": [_as_json(chosen.decoding.start), chosen.decoding.seed],
            "entropy bound and temperature": [chosen.decoding.entropy_bound, chosen.decoding.temperature],
            "wish for traces": chosen.decoding.trace,
        }

    def result(self, journal: Journal) -> MeetingResult:
        """Do everything that the journal has not."""
        diarization = self._diarize(journal)
        self._doubt(diarization)
        decoded = self._decode(diarization, journal)
        self.stage("attribution", 0, 1)
        transcript = self._attribute(decoded, diarization)
        self.stage("attribution", 1, 1)
        return MeetingResult(
            transcript=transcript,
            turns=diarization.turns,
            exclusive=diarization.exclusive or (),
            duration=self.recording.duration,
            source=self.recording.source,
            traces=tuple(one.trace for one in decoded if one.trace is not None),
        )

    def _diarize(self, journal: Journal) -> Diarization:
        if self.diarizer is None:
            self.channels = channels.detect_speech(self.recording.tracks, self.detector, self.stage)
        if journal.diarization is not None:
            return journal.diarization
        if self.diarizer is None:
            found = channels.find_turns(self.channels)
        elif len(self.recording.tracks[0]):
            self.stage("diarization", 0, 1)
            found = self.diarizer.diarize(self.recording.tracks[0], self.options.speakers, self.stage)
            self.stage("diarization", 1, 1)
        else:
            found = Diarization()
        diarization = tidy_diarization(found, self.recording.duration)
        journal.record_turns(diarization)
        return diarization

    def _doubt(self, diarization: Diarization) -> None:
        """Says it before the long work if the number of speakers is a guess that looks wrong."""
        if self.diarizer is None or isinstance(self.diarizer, KnownTurns):
            return
        if doubt := find_doubt(diarization.turns, self.options.speakers):
            self.note(f"{doubt}; if you know how many there are, give --num-speakers (SpeakerCount)")

    def _pieces(self, diarization: Diarization) -> Iterator[Piece]:
        for number, channel in enumerate(self.channels):
            for window in pack_windows(channel.blocks(), channels.KnownSpeech(channel.probabilities)):
                yield Piece(window, number, channels.name_speaker(number))
        if not self.channels:
            floor = Floor(diarization.exclusive or (), self.options.limit)
            pieces = floor.cut if self.options.order == "cut-first" else floor.whole
            for window in pack_windows(read_track(self.recording.tracks[0]), self.detector):
                yield from pieces(window)

    def _decode(self, diarization: Diarization, journal: Journal) -> list[DecodedPiece]:
        chosen = self.options
        decoder = PieceDecoder(self.model.recognizer, chosen.language, chosen.decoding)
        total = self.recording.duration * len(self.recording.tracks)
        self.stage("decoding", 0.0, total)
        done: list[DecodedPiece] = []
        for piece in self._pieces(diarization):
            decoded = journal.pieces.get(piece.key)
            if decoded is None:
                decoded = decoder.decode(piece)
                journal.record(piece.key, decoded)
            else:
                decoder.recall(decoded)
            done.append(decoded)
            trim_heap()
            self.stage("decoding", piece.track * self.recording.duration + piece.window.end, total)
        self.stage("decoding", total, total)
        return done

    def _attribute(self, decoded: list[DecodedPiece], diarization: Diarization) -> Transcript:
        segments = [segment for one in decoded for segment in one.segments]
        single, everybody = diarization.exclusive or (), diarization.turns
        if self.diarizer is None or self.options.order == "cut-first":
            # Nobody's own turns overlap in a channel, so there the overlapping view is the floor too.
            floor, crowd = TurnIndex(everybody if self.diarizer is None else single), TurnIndex(everybody)
            segments = [assign_speaker(segment, segment.speaker, floor, crowd) for segment in segments]
        ordered = tuple(sorted(segments, key=_when))
        whole = Transcript(ordered, round(self.recording.duration, 3), self.recording.source)
        if self.diarizer is None or self.options.order == "cut-first":
            return whole
        return attribute_words(whole, single, self.options.limit, everybody)


def _as_json(start: str | tuple[tuple[int, ...], ...]) -> str | list[list[int]]:
    """As it comes back from a file."""
    return start if isinstance(start, str) else [list(canvas) for canvas in start]


def _when(segment: Segment) -> tuple[float, float]:
    return segment.start, segment.end


def _silent(stage: str, done: float, total: float) -> None:
    pass


def _warn(message: str) -> None:
    warnings.warn(message, MeetingWarning, stacklevel=2)
