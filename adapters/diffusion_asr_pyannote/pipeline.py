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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_asr.audio import files as audio
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.meeting import (
    DEFAULT_ORDER,
    MeetingOptions,
    Order,
    SpeakerCount,
    transcribe_meeting,
)
from diffusion_asr.meeting.attribution import LIMIT
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_pyannote.diarizer import PipelineInputError, PyannoteDiarizer
from diffusion_asr_pyannote.transcript import SpeakerTranscript, make_transcript

from pyannote.audio import Pipeline  # isort: skip
from pyannote.audio.pipelines.utils.getter import get_pipeline  # isort: skip

OFFLINE = "offline"
_PART = "diarization"  # the sub-pipeline's name
_OFFLINE_FOLDER = Path(__file__).parent / "offline"


class SpeakerAttributedTranscription(Pipeline):  # type: ignore[misc]  # pyannote is untyped
    """Diarization, recognition, and the join of the two.

    Args:
        diarization: "offline" or ``OFFLINE_DIARIZATION`` (in this package), or any pyannote diarization: a
            pipeline, a folder or YAML file, a name on the hub ("pyannote/speaker-diarization-community-1"), a
            configuration.
        recognizer: A ``Recognizer``, or a model name or folder for ``Recognizer.from_pretrained``.
        language: Code that calls without one use; None detects it for each window.
        limit: Seconds between a word and a turn that it may still belong to.
        order: "decode-first" or "cut-first", as in ``diffusion_asr.meeting.MeetingOptions``.
        token: For pipelines on the hub, passed on by ``Pipeline.from_pretrained``.
        cache_dir: As ``token``.
        decoding: Fields of ``DecodingOptions`` by name, for calls that do not give them: ``steps=4``.

    Attributes:
        options: All of this, as core takes it.

    Raises:
        ModelError: Unknown or damaged model.
        PipelineInputError: A negative limit; an order, a decoding option or a diarization that does not
            exist.
    """

    def __init__(
        self,
        diarization: Pipeline | str | os.PathLike[str] | dict[str, Any] = OFFLINE,
        recognizer: Recognizer | str | os.PathLike[str] = "canvas-base",
        language: str | None = None,
        limit: float = LIMIT,
        order: Order = DEFAULT_ORDER,
        token: str | None = None,
        cache_dir: Path | str | None = None,
        **decoding: Any,
    ) -> None:
        super().__init__()
        with translate_errors(PipelineInputError, TypeError, ValueError):
            how = DecodingOptions().changed(**decoding)
            options = MeetingOptions(language, order=order, limit=limit, decoding=how)
        found = _load(diarization, token=token, cache_dir=cache_dir)
        if not isinstance(recognizer, Recognizer):
            recognizer = Recognizer.from_pretrained(recognizer)
        self.recognizer, self.options = recognizer, options
        self.diarization = found

    def default_parameters(self) -> dict[str, Any]:
        """Those of the diarization; recognition has none to tune."""
        return {"diarization": self.diarization.default_parameters()}

    def instantiate(self, params: Mapping[str, Any]) -> Pipeline:
        """Set the parameters of the diarization, given as its own or under "diarization".

        Raises:
            ValueError: A parameter that the diarization does not have.
        """
        return super().instantiate(_nested(params))

    def freeze(self, params: Mapping[str, Any]) -> Pipeline:
        """As ``instantiate``, for good."""
        return super().freeze(_nested(params))

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
        hook: Callable[..., None] | None = None,
        track: int | None = None,
        **changes: Any,
    ) -> SpeakerTranscript:
        """Transcribe one recording. Call the pipeline itself; pyannote checks the file and comes here.

        Args:
            file: A path, or ``{"audio": path}``, or ``{"waveform": (channels, samples), "sample_rate": Hz,
                "uri": name}``; ``"channel": n`` takes one channel, otherwise they are averaged.
            num_speakers: How many people speak, if known.
            min_speakers: At least so many.
            max_speakers: At most so many.
            language: A code; "auto" detects it for each window; None is the pipeline's.
            hook: As for other pyannote pipelines, with the steps of the diarization, then "diarization",
                "transcription" (with progress in seconds) and "attribution".
            track: Which of a file's audio tracks, from 1; None is its default.
            changes: Fields of ``DecodingOptions`` by name, on top of the pipeline's: ``steps=4``.

        Raises:
            PipelineInputError: Unreadable audio, an unknown language, impossible options.
        """
        tell = self.setup_hook(file, hook=hook)

        def forward(step: str, artifact: Any, **progress: Any) -> None:
            tell(step, artifact, **progress)  # with our caller's file, where hooks leave what they collect

        def stage(name: str, done: float, total: float) -> None:
            if name != "decoding":
                return
            if done == 0.0:
                tell("diarization", diarizer.annotation)
            tell("transcription", None, completed=min(done, total), total=total)

        uri = str(file.get("uri", "audio"))
        diarizer = PyannoteDiarizer(self.diarization, "pyannote", uri, forward)
        try:
            with translate_errors(PipelineInputError, TypeError, ValueError):
                options = replace(
                    self.options,
                    language=self.options.language if language is None else language,
                    speakers=SpeakerCount(num_speakers, min_speakers, max_speakers),
                    decoding=self.options.decoding.changed(**changes),
                )
            meeting = transcribe_meeting(
                recognizer=self.recognizer, diarizer=diarizer, options=options, stage=stage, note=_ignore,
                **_source(file, track),
            )  # fmt: skip
        except DiffusionASRError as error:
            raise PipelineInputError(f"{uri}: {error}") from error
        result = make_transcript(meeting, uri, diarizer.embeddings)
        tell("attribution", result)
        return result


def _ignore(note: str) -> None:
    """What a count is worth is told by the command; who calls a diarization knows it as well as we."""


def _nested(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as pyannote wants them, by sub-pipeline; this pipeline has one, and none of its own."""
    bare = {name: value for name, value in params.items() if name != _PART}
    return {_PART: {**params.get(_PART, {}), **bare}} if bare else dict(params)


def _load(diarization: Pipeline | str | os.PathLike[str] | dict[str, Any], **access: Any) -> Pipeline:
    """The diarization that was named; of a pipeline like ours, the diarization in it.

    Raises:
        PipelineInputError: A path to nothing (which the hub is not asked for), or no pipeline at all.
    """
    if isinstance(diarization, os.PathLike):
        if not Path(diarization).exists():
            raise PipelineInputError(f"{diarization}: no such folder or file to load a diarization from")
        diarization = os.fspath(diarization)
    if isinstance(diarization, str) and diarization == OFFLINE:
        diarization = str(_OFFLINE_FOLDER)
    if not isinstance(diarization, Pipeline | str | dict):
        kind = type(diarization).__name__
        raise PipelineInputError(
            f"diarization must be a pipeline, a folder, a YAML file, a name or a configuration, not {kind}"
        )
    found = get_pipeline(diarization, **access)
    return found.diarization if isinstance(found, SpeakerAttributedTranscription) else found


def _source(file: Mapping[str, Any], track: int | None) -> dict[str, Any]:
    """What the engine reads and how: a file where possible, which it streams."""
    channel = file.get("channel")
    if "waveform" in file:
        wave = file["waveform"]
        if track is not None:
            raise PipelineInputError(f"track {track} of a waveform, which has none; give the file")
        if channel is not None and not 0 <= channel < len(wave):
            raise PipelineInputError(f"channel {channel} of a waveform that has {len(wave)}")
        chosen = wave if channel is None else wave[channel : channel + 1]
        return {"source": chosen, "sample_rate": int(file["sample_rate"])}
    if channel is None:
        return {"source": file["audio"], "track": track}
    pieces = list(audio.read_blocks(file["audio"], channel=channel, track=track))
    return {"source": np.concatenate([np.zeros(0, np.float32), *pieces])}
