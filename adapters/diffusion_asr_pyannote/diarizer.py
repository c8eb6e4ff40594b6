"""Any pyannote diarization as core's meetings take it (see ``diffusion_asr.meeting.Diarizer``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from diffusion_asr.audio.files import SAMPLE_RATE, Samples
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.meeting import Diarization, SpeakerCount, Stage
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import distinct_names
from diffusion_asr_pyannote import toolkit as _toolkit  # telemetry off first

from pyannote.audio import Pipeline  # isort: skip
from pyannote.core import Annotation  # isort: skip

OFFLINE = Path(__file__).parent / "offline"
Hook = Callable[..., None]


class PipelineInputError(DiffusionASRError, ValueError):
    """Audio or an option that cannot be used: a ``ValueError``, as pyannote's own pipelines raise."""


class PyannoteDiarizer:
    """A pyannote diarization pipeline, called with samples in memory: it needs neither torchcodec nor ffmpeg.

    Args:
        pipeline: Returns an ``Annotation``, or an output with an exclusive view too.
        name: Tells it from others, for runs that are resumed.
        uri: Name of the recording.
        hook: As for other pyannote pipelines, for the steps of the diarization; None tells ``stage``.

    Attributes:
        annotation: What the pipeline found last, in which turns may overlap.
        embeddings: Of its speakers by name, (dimension,) each, if the pipeline gave any.
    """

    def __init__(self, pipeline: Pipeline, name: str, uri: str = "meeting", hook: Hook | None = None) -> None:
        self.name = name
        self.annotation = Annotation(uri=uri)
        self.embeddings: dict[str, NDArray[Any]] = {}
        self._pipeline, self._uri, self._hook = pipeline, uri, hook

    def diarize(self, samples: Samples, count: SpeakerCount, stage: Stage) -> Diarization:
        """See ``diffusion_asr.meeting.Diarizer``.

        Raises:
            PipelineInputError: The pipeline does not return turns, or two speakers of one name.
        """

        def hook(
            step: str, artifact: Any, file: Any = None, total: Any = None, completed: Any = None
        ) -> None:
            if self._hook is not None:
                progress = {} if completed is None else {"total": total, "completed": completed}
                self._hook(step, artifact, **progress)
            elif completed is not None and total:
                stage(step.replace("_", " "), completed, total)

        file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE, "uri": self._uri}
        known = {"num_speakers": count.exactly, "min_speakers": count.at_least, "max_speakers": count.at_most}
        given = {name: number for name, number in known.items() if number is not None}
        output = self._pipeline(file, hook=hook, **given)
        if not hasattr(output, "exclusive_speaker_diarization"):
            # A tuple's other part is separated sources.
            self.annotation = output[0] if isinstance(output, tuple) else output
            if not isinstance(self.annotation, Annotation):
                raise PipelineInputError(
                    f"the diarization returned {type(output).__name__}: "
                    "give a pipeline that returns speaker turns"
                )
            return Diarization(tuple(turns_of(self.annotation)))
        self.annotation, single = output.speaker_diarization, output.exclusive_speaker_diarization
        turns, exclusive = turns_of(self.annotation), turns_of(single)
        self._keep_embeddings(output, [turn.speaker for turn in (*turns, *exclusive)])
        return Diarization(tuple(turns), tuple(exclusive))

    def _keep_embeddings(self, output: Any, speakers: Iterable[str]) -> None:
        """By the names that core gives to speakers."""
        rows = getattr(output, "speaker_embeddings", None)
        names = distinct_names(speakers)
        labels = [names.get(str(label)) for label in self.annotation.labels()]
        self.embeddings = {} if rows is None else {n: r for n, r in zip(labels, rows, strict=False) if n}


def meeting_diarizer() -> PyannoteDiarizer:
    """The offline diarization of this package, for ``diffusion_asr.meeting``."""
    return PyannoteDiarizer(Pipeline.from_pretrained(OFFLINE), f"pyannote.audio {_toolkit.VERSION} offline")


def turns_of(annotation: Annotation) -> list[Turn]:
    """The turns of a pyannote annotation, in order.

    Raises:
        PipelineInputError: Two labels that are written the same way, such as 1 and "1".
    """
    labels = annotation.labels()
    if len({str(label) for label in labels}) < len(labels):
        raise PipelineInputError(
            f"the diarization has two speakers of the same name among {sorted(map(str, labels))}: rename one"
        )
    tracks = annotation.itertracks(yield_label=True)
    return [Turn(segment.start, segment.end, str(label)) for segment, _, label in tracks]
