"""The one class that users and adapters talk to: audio in, transcript out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast, overload

import numpy as np
import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory, check_waveforms
from diffusion_asr.acoustics.language import LanguagePrior
from diffusion_asr.audio import files as audio
from diffusion_asr.audio.intake import Intake
from diffusion_asr.audio.samples import as_float, is_clip_list
from diffusion_asr.audio.sources import Readable
from diffusion_asr.audio.speech import SpeechDetector
from diffusion_asr.audio.windows import Detector, Window, WindowOptions, pack_windows
from diffusion_asr.decoding.decoder import (
    UNDETERMINED,
    Decoded,
    DecodingOptions,
    Hypothesis,
)
from diffusion_asr.decoding.words import build_words
from diffusion_asr.errors import LanguageError, ModelError
from diffusion_asr.languages import find_language
from diffusion_asr.loading import load_model
from diffusion_asr.models.parts import Parts
from diffusion_asr.process_memory import trim_heap
from diffusion_asr.segments import cut_segments
from diffusion_asr.sharing import NAME_ONLY, Origin, exact_types
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Segment, Transcript

if TYPE_CHECKING:
    from diffusion_asr.loading import LoadOptions

_PLAIN = 5.0  # seconds of speech whose language can be told
_ENOUGH = 10.0  # seconds of other speech that tell the language of less
Source = Readable | np.ndarray | Tensor


class Progress(Protocol):
    """Called with seconds done and seconds in all."""

    def __call__(self, done: float, total: float) -> None:
        """Work has come as far as ``done`` of ``total`` seconds."""
        ...


class WindowDone(Protocol):
    """Called with a window's start and end in seconds, and what was said in it."""

    def __call__(self, start: float, end: float, segments: tuple[Segment, ...]) -> None:
        """The window is decoded."""
        ...


class Recognizer:
    """Speech to text; how is its decoder's matter.

    Example:
        >>> asr = Recognizer.from_pretrained()
        >>> asr.transcribe("talk.flac", language="de").text
    """

    def __init__(self, parts: Parts, detector: Detector | None = None) -> None:
        """Put a recogniser together.

        Args:
            parts: Of a model.
            detector: Finds speech in recordings; None is Silero's, loaded when it is needed.
        """
        self.parts = parts
        self._detector = detector
        self._origin: Origin | None = None

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str] = "canvas-base", options: LoadOptions | None = None
    ) -> Recognizer:
        """Load the embedded model by name, a model folder, or a DiffusionGemma adapter of a hub.

        Args:
            name: A name, a folder, or ``organisation/model`` (``@revision`` pins it).
            options: Where a DiffusionGemma's parts are and how to compute; see ``diffusion_gemma.loading``.

        Raises:
            ModelError: Unknown name, or a folder that is missing, corrupt or of another format.
            ToolkitMissingError: A DiffusionGemma without transformers.
        """
        made = cls(load_model(name, options))
        made._origin = Origin.of(name, options, made.parts)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process by name: the model is loaded again there."""
        if self._origin is None:
            raise ModelError(f"a recogniser that was put together from parts {NAME_ONLY}")
        name = self._origin.name_for(self.parts)
        return _load_again, (name, self._origin.options, self._detector)

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model writes."""
        return self.parts.decoder.languages

    @property
    def detector(self) -> Detector:
        """What finds speech in a recording; loaded once."""
        if self._detector is None:
            self._detector = SpeechDetector()
        return self._detector

    def encode(self, waveforms: Tensor, lengths: Tensor | None = None) -> AcousticMemory:
        """Listen.

        Args:
            waveforms: (B, samples) at 16 kHz, each at most 30 s: floats in [-1, 1], or int16.
            lengths: (B,) samples of each clip; None if none is padded.

        Raises:
            AudioError: Wrong shape, empty, longer than 30 s, or not finite.
        """
        if waveforms.dtype != torch.float32:
            waveforms = torch.from_numpy(as_float(waveforms)).to(waveforms.device)
        check_waveforms(waveforms, lengths)
        with exact_types(waveforms):
            return self.parts.encoder.encode(waveforms, lengths)

    def detect_language(self, memory: AcousticMemory) -> list[dict[str, float]]:
        """Probability of each language, one dictionary for each clip; empty where the model cannot tell."""
        if self.parts.language is None:
            return [{} for _ in range(len(memory))]
        with torch.inference_mode(), exact_types(memory.states):
            rows = self.parts.language(memory.spoken()).exp().tolist()
        return [dict(zip(self.parts.language.languages, row, strict=True)) for row in rows]

    def choose_languages(
        self, memory: AcousticMemory, language: Sequence[str | None] | str | None = None
    ) -> list[str]:
        """One for each clip: as given, or the likeliest, or ``UNDETERMINED`` where nothing can tell.

        Args:
            memory: What ``encode`` returned.
            language: See ``decode``.

        Raises:
            LanguageError: See ``decode``.
        """
        given = [language] * len(memory) if language is None or isinstance(language, str) else list(language)
        if len(given) != len(memory):
            raise LanguageError(f"{len(given)} languages for {len(memory)} clips; give one, or one for each")
        codes = [self.check_language(code) for code in given]
        told = [code for code in codes if code is not None]
        if len(told) == len(codes):
            return told
        likely = (max(p, key=lambda k: p[k], default=UNDETERMINED) for p in self.detect_language(memory))
        return [code or found for code, found in zip(codes, likely, strict=True)]

    def decode(
        self,
        memory: AcousticMemory,
        language: Sequence[str | None] | str | None = None,
        options: DecodingOptions | None = None,
        **changes: Any,
    ) -> list[Hypothesis]:
        """Write down what was heard.

        Args:
            memory: What ``encode`` returned.
            language: One for all clips or one for each, as a code, name or tag (``de``, ``German``,
                ``de-DE``); None (or "auto") detects it.
            options: How.
            changes: Fields of ``DecodingOptions`` by name, on top of ``options``: ``steps=4``.

        Raises:
            LanguageError: Unknown language, or not one for each clip.
            TypeError: A name in ``changes`` that is no option.
            ValueError: An option's value that makes no sense.
        """
        options = (options or DecodingOptions()).changed(**changes)
        languages = self.choose_languages(memory, language)
        with exact_types(memory.states):
            decoded = self.parts.decoder.decode(memory, languages, options)
        clips = zip(decoded, languages, memory.seconds.tolist(), strict=True)
        return [self._hypothesis(one, code, seconds) for one, code, seconds in clips]

    @overload
    def transcribe(
        self,
        source: Source,
        language: str | None = None,
        options: DecodingOptions | None = None,
        *,
        sample_rate: float = audio.SAMPLE_RATE,
        track: int | None = None,
        progress: Progress | None = None,
        on_hypothesis: Callable[[float, Hypothesis], None] | None = None,
        on_window: WindowDone | None = None,
        known: Mapping[tuple[float, float], Sequence[Segment]] | None = None,
        **changes: Any,
    ) -> Transcript: ...

    @overload
    def transcribe(
        self,
        source: Sequence[Source],
        language: str | None = None,
        options: DecodingOptions | None = None,
        *,
        sample_rate: float = audio.SAMPLE_RATE,
        track: int | None = None,
        progress: Progress | None = None,
        on_hypothesis: Callable[[float, Hypothesis], None] | None = None,
        on_window: WindowDone | None = None,
        known: Mapping[tuple[float, float], Sequence[Segment]] | None = None,
        **changes: Any,
    ) -> list[Transcript]: ...

    def transcribe(
        self,
        source: Source | Sequence[Source],
        language: str | None = None,
        options: DecodingOptions | None = None,
        *,
        sample_rate: float = audio.SAMPLE_RATE,
        track: int | None = None,
        progress: Progress | None = None,
        on_hypothesis: Callable[[float, Hypothesis], None] | None = None,
        on_window: WindowDone | None = None,
        known: Mapping[tuple[float, float], Sequence[Segment]] | None = None,
        **changes: Any,
    ) -> Transcript | list[Transcript]:
        """Transcribe a recording of any length.

        Speech is found by a detector, packed into windows of up to 30 s and decoded; silence and noise give
        no text. Memory is bounded by the windows, not by the recording, when ``source`` is a file.

        Args:
            source: A path; the bytes of a sound file, or a file opened in binary; samples (samples,) or
                (channels, samples), floats or int16; or a list of these, each a recording of its own.
            language: A code, name or tag; None or "auto" detects it for each
                window, short ones in view of the others.
            options: As in ``decode``.
            sample_rate: Of ``source`` if it is samples.
            track: Of a file's audio tracks this one, from 1; None is its default.
            progress: Called as windows are finished.
            on_hypothesis: Called with each window's start in seconds and its hypothesis, with a trace.
            on_window: Called with the segments of each window as soon as it is decoded.
            known: Segments of windows that were decoded before, by start and end: not decoded again.
            changes: As in ``decode``.

        Returns:
            A transcript; of a list, a list of them.

        Raises:
            AudioError: Unreadable audio.
            LanguageError: Unknown language.
            TypeError: See ``decode``.
            ValueError: See ``decode``.
        """
        language = self.check_language(language)
        options = (options or DecodingOptions()).changed(**changes)  # wrong ones: before anything is read
        if on_hypothesis is not None:
            options = options.changed(trace=True)
        hooks = _Hooks(progress, on_hypothesis, on_window, known or {})
        if not is_clip_list(source):
            return self._transcribe(Intake(source, sample_rate, track), language, options, hooks)
        return [
            self._transcribe(Intake(clip, sample_rate, track), language, options, hooks)
            for clip in cast("Sequence[Source]", source)
        ]

    def _transcribe(
        self, intake: Intake, language: str | None, options: DecodingOptions, hooks: _Hooks
    ) -> Transcript:
        segments: list[Segment] = []
        windows = pack_windows(intake, self.detector, WindowOptions())
        for window, found in self._decoded(windows, language, options, hooks):
            if hooks.on_window is not None:
                hooks.on_window(window.start, window.end, tuple(found))
            segments += found
            if found:
                intake.use(window.start, window.end)
            trim_heap()
            if hooks.progress is not None:
                hooks.progress(window.end, max(intake.likely, window.end))
        if hooks.progress is not None:
            hooks.progress(intake.seconds, intake.seconds)
        intake.tell_unused()
        return Transcript(tuple(segments), duration=round(intake.seconds, 3), source=intake.name)

    def _decoded(
        self, windows: Iterable[Window], language: str | None, options: DecodingOptions, hooks: _Hooks
    ) -> Iterator[tuple[Window, Sequence[Segment]]]:
        """Each window with its segments, in order; known ones are not decoded again."""
        for window, memory, code in self._with_languages(windows, language, hooks.known):
            if memory is None:
                yield window, hooks.known[window.start, window.end]
                continue
            (hypothesis,) = self.decode(memory, code, options)
            if hooks.on_hypothesis is not None:
                hooks.on_hypothesis(window.start, hypothesis)
            yield window, cut_segments(window, hypothesis)

    def _with_languages(
        self,
        windows: Iterable[Window],
        language: str | None,
        known: Mapping[tuple[float, float], Sequence[Segment]],
    ) -> Iterator[tuple[Window, AcousticMemory | None, str | None]]:
        """Each window with what is heard in it and its language; short ones wait until more is heard."""
        prior = LanguagePrior(self.languages)
        waiting: list[tuple[Window, AcousticMemory | None, dict[str, float]]] = []

        def chosen(at_end: bool = False) -> Iterator[tuple[Window, AcousticMemory | None, str | None]]:
            while waiting and (at_end or _can_tell(waiting, prior)):
                window, memory, likely = waiting.pop(0)
                yield window, memory, prior.choose(likely, _length(window)) if likely else language

        for window in windows:
            memory, likely = None, dict[str, float]()
            done = known.get((window.start, window.end))
            if done is None:
                memory = self.encode(torch.from_numpy(window.samples)[None])
                (likely,) = self.detect_language(memory) if language is None else ({},)
                prior.add(likely, _length(window))
            elif done and done[0].language:
                prior.add({done[0].language: 1.0}, _length(window))
            waiting.append((window, memory, likely))
            yield from chosen()
        yield from chosen(at_end=True)

    def check_language(self, language: str | None) -> str | None:
        """The model's code for a language's code, name or tag; None for None and "auto".

        Raises:
            LanguageError: The model does not know it.
        """
        return find_language(language, self.languages)

    def _hypothesis(self, clip: Decoded, language: str, seconds: float) -> Hypothesis:
        words = build_words(clip, seconds, self.parts.vocabulary, self.parts.calibration)
        sure = [w.confidence for w in words if w.confidence is not None]
        return Hypothesis(join_words(words), words, language, sum(sure) / len(sure) if sure else 0.0, clip)


@dataclass(frozen=True, slots=True, eq=False)
class _Hooks:
    """Who is told what; see ``Recognizer.transcribe``."""

    progress: Progress | None
    on_hypothesis: Callable[[float, Hypothesis], None] | None
    on_window: WindowDone | None
    known: Mapping[tuple[float, float], Sequence[Segment]]


def _length(window: Window) -> float:
    return window.end - window.start


def _can_tell(
    waiting: Sequence[tuple[Window, AcousticMemory | None, dict[str, float]]], prior: LanguagePrior
) -> bool:
    """Whether the first of these need not wait: its language is given or plain, or enough is heard."""
    window, _, likely = waiting[0]
    return not likely or _length(window) >= _PLAIN or prior.heard - _length(window) >= _ENOUGH


def _load_again(name: Any, options: Any, detector: Detector | None) -> Recognizer:
    made = Recognizer.from_pretrained(name, options)
    made._detector = detector
    return made
