"""Who said what, as a pyannote pipeline: any diarization and a recogniser in, a transcript out.

>>> from pyannote.audio import Pipeline
>>> from diffusion_asr_pyannote import MEETING
>>> pipeline = Pipeline.from_pretrained(MEETING)
>>> for segment in pipeline("meeting.wav", num_speakers=2).segments:
...     print(segment.speaker, segment.text)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from diffusion_asr import audio
from diffusion_asr.attribution import LIMIT, Turn, exclusive, join
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.sampler import SamplerOptions
from diffusion_asr.transcript import Transcript
from diffusion_asr_pyannote import toolkit as _toolkit  # noqa: F401 - telemetry off first

from pyannote.audio import Audio, Pipeline  # isort: skip
from pyannote.audio.pipelines.utils.getter import get_pipeline  # isort: skip
from pyannote.core import Annotation, Segment  # isort: skip

OFFLINE = "offline"
_OFFLINE_FOLDER = Path(__file__).parent / "offline"


class PipelineInputError(DiffusionASRError, ValueError):
    """Audio or an option that cannot be used: a ``ValueError``, as pyannote's own pipelines raise."""


@dataclass(frozen=True, slots=True)
class SpeakerTranscript(Transcript):
    """A transcript whose words and segments have speakers, beside the diarization that it was joined with.

    Attributes:
        speaker_diarization: pyannote ``Annotation`` in which turns may overlap.
        exclusive_speaker_diarization: pyannote ``Annotation`` with one speaker at a time; words were
            attributed by it.
    """

    speaker_diarization: Any = None
    exclusive_speaker_diarization: Any = None


class SpeakerAttributedTranscription(Pipeline):  # type: ignore[misc]  # pyannote is untyped
    """Diarization, recognition, and the join of the two.

    Args:
        diarization: "offline" (in this package), or any pyannote diarization: a pipeline, a folder or YAML
            file, a name on the hub ("pyannote/speaker-diarization-community-1"), a configuration.
        recognizer: A ``Recognizer``, or a model name or folder for ``Recognizer.from_pretrained``.
        language: Code that calls without one use; None detects it for each window.
        steps: Denoising steps that calls without a number use; None stops when the text has settled.
        limit: Seconds between a word and a turn that it may still belong to.
        token: For pipelines on the hub, passed on by ``Pipeline.from_pretrained``.
        cache_dir: As ``token``.

    Raises:
        ModelError: Unknown or damaged model.
        PipelineInputError: A negative limit.
    """

    def __init__(
        self,
        diarization: Pipeline | str | dict[str, Any] = OFFLINE,
        recognizer: Recognizer | str | os.PathLike[str] = "canvas-base",
        language: str | None = None,
        steps: int | None = None,
        limit: float = LIMIT,
        token: str | None = None,
        cache_dir: Path | str | None = None,
    ) -> None:
        super().__init__()
        if limit < 0:
            raise PipelineInputError(f"limit must be 0 or more seconds, not {limit}")
        if not isinstance(recognizer, Recognizer):
            recognizer = Recognizer.from_pretrained(recognizer)
        if isinstance(diarization, str) and diarization == OFFLINE:
            diarization = str(_OFFLINE_FOLDER)
        self.recognizer = recognizer
        self.language, self.steps, self.limit = language, steps, limit
        self.diarization = get_pipeline(diarization, token=token, cache_dir=cache_dir)

    def default_parameters(self) -> dict[str, Any]:
        """Those of the diarization; recognition has none to tune."""
        return {"diarization": self.diarization.default_parameters()}

    def classes(self) -> Any:
        """Labels of the speakers, as the diarization gives them."""
        return self.diarization.classes()

    def apply(
        self,
        file: Mapping[str, Any],
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        language: str | None = None,
        steps: int | None = None,
        hook: Callable[..., None] | None = None,
    ) -> SpeakerTranscript:
        """Transcribe one recording. Call the pipeline itself; pyannote checks the file and comes here.

        Args:
            file: A path, or ``{"audio": path}``, or ``{"waveform": (channels, samples), "sample_rate": Hz,
                "uri": name}``; ``"channel": n`` takes one channel, otherwise they are averaged.
            num_speakers: How many people speak, if known.
            min_speakers: At least so many.
            max_speakers: At most so many.
            language: A code; "auto" detects it for each window; None is the pipeline's.
            steps: Denoising steps; None is the pipeline's.
            hook: As for other pyannote pipelines, with the steps of the diarization, then "diarization",
                "transcription" (with progress in seconds) and "attribution".

        Raises:
            PipelineInputError: Unreadable audio, an unknown language, impossible options.
        """
        tell = self.setup_hook(file, hook=hook)
        language = self.language if language is None else language
        steps = self.steps if steps is None else steps
        counts = {"num_speakers": num_speakers, "min_speakers": min_speakers, "max_speakers": max_speakers}
        try:
            self.recognizer.check_language(language)  # before minutes are spent on the diarization
            SamplerOptions(steps)
            source = _Source(file)
            diarization, single = self._diarize(source, counts, tell)
            tell("diarization", diarization)
            transcript = self._transcribe(source, language, steps, tell)
            joined = join(transcript, turns_of(single), self.limit)
        except DiffusionASRError as error:
            raise PipelineInputError(f"{file.get('uri', 'audio')}: {error}") from error
        result = _with_diarization(joined, diarization, single)
        tell("attribution", result)
        return result

    def _diarize(
        self, source: _Source, counts: dict[str, int | None], tell: Callable[..., None]
    ) -> tuple[Annotation, Annotation]:
        """Overlapping and exclusive view of the whole recording."""
        if source.samples.shape[1] == 0:
            return Annotation(uri=source.uri), Annotation(uri=source.uri)

        def forward(step: str, artifact: Any, file: Any = None, **progress: Any) -> None:
            tell(step, artifact, **progress)  # with our caller's file, where hooks leave what they collect

        given = {name: count for name, count in counts.items() if count is not None}
        _check_counts(given)
        return _views(self.diarization(source.as_file(), hook=forward, **given))

    def _transcribe(
        self, source: _Source, language: str | None, steps: int | None, tell: Callable[..., None]
    ) -> Transcript:
        seconds = source.samples.shape[1] / audio.SAMPLE_RATE

        def progress(done: float, total: float) -> None:
            tell("transcription", None, completed=min(done, seconds), total=seconds)

        progress(0.0, seconds)
        transcript = self.recognizer.transcribe(
            source.for_recognizer,
            language,
            steps,
            sample_rate=source.rate_for_recognizer,
            progress=progress,
        )
        tell("transcription", transcript)
        return transcript


def turns_of(annotation: Annotation) -> list[Turn]:
    """The turns of a pyannote annotation, in order."""
    tracks = annotation.itertracks(yield_label=True)
    return [Turn(segment.start, segment.end, str(label)) for segment, _, label in tracks]


def _views(output: Any) -> tuple[Annotation, Annotation]:
    """Overlapping and exclusive view of what any pyannote diarization returns."""
    if hasattr(output, "exclusive_speaker_diarization"):
        return output.speaker_diarization, output.exclusive_speaker_diarization
    if isinstance(output, tuple):  # diarization and separated sources
        output = output[0]
    if not isinstance(output, Annotation):
        raise PipelineInputError(
            f"the diarization returned {type(output).__name__}: give a pipeline that returns speaker turns"
        )
    single = Annotation(uri=output.uri)
    for turn in exclusive(turns_of(output)):
        single[Segment(turn.start, turn.end)] = turn.speaker
    return output, single


def _with_diarization(joined: Transcript, diarization: Annotation, single: Annotation) -> SpeakerTranscript:
    plain = {field.name: getattr(joined, field.name) for field in fields(Transcript)}
    return SpeakerTranscript(**plain, speaker_diarization=diarization, exclusive_speaker_diarization=single)


def _check_counts(counts: dict[str, int]) -> None:
    for name, count in counts.items():
        if count < 1:
            raise PipelineInputError(f"{name}={count}: at least one person speaks, or leave it out")
    if counts.get("min_speakers", 1) > counts.get("max_speakers", counts.get("min_speakers", 1)):
        raise PipelineInputError(f"min_speakers is above max_speakers: {counts}")


class _Source:
    """One recording: as 16 kHz mono for the diarization, and as the recogniser reads it best."""

    def __init__(self, file: Mapping[str, Any]) -> None:
        self.uri = str(file.get("uri", "audio"))
        self.for_recognizer: Any
        channel, path = file.get("channel"), file.get("audio")
        if "waveform" in file:
            wave, rate = file["waveform"], int(file["sample_rate"])
        elif channel is None and isinstance(path, str | os.PathLike):
            # The recogniser streams a path with bounded memory, and its words are those of core.
            self.for_recognizer, self.rate_for_recognizer = Path(path), audio.SAMPLE_RATE
            self.samples = torch.from_numpy(audio.read(path))[None]
            return
        else:
            wave, rate = Audio()(file)  # an open file, or one channel of one
            channel = None
        if channel is not None:
            if not 0 <= channel < len(wave):
                raise PipelineInputError(f"channel {channel} of a waveform that has {len(wave)}")
            wave = wave[channel : channel + 1]
        self.for_recognizer, self.rate_for_recognizer = wave, rate
        self.samples = torch.from_numpy(audio.as_mono_16k(wave, rate))[None]

    def as_file(self) -> dict[str, Any]:
        """What the diarization takes: decoded once, so that it needs neither torchcodec nor ffmpeg."""
        return {"waveform": self.samples, "sample_rate": audio.SAMPLE_RATE, "uri": self.uri}
