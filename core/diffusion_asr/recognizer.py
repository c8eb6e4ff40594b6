"""The one class that users and adapters talk to: audio in, transcript out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory, check_waveforms
from diffusion_asr.audio import files as audio
from diffusion_asr.audio.speech import SpeechDetector
from diffusion_asr.audio.windows import WindowOptions, windows
from diffusion_asr.decoding.causal.decoder import Settler
from diffusion_asr.decoding.decoder import AUTO, SEED, Hypothesis, Init
from diffusion_asr.decoding.diffusion import SamplerOptions, UniformSampler
from diffusion_asr.decoding.process import uniform_noise
from diffusion_asr.decoding.words import to_words
from diffusion_asr.errors import LanguageError
from diffusion_asr.models.parts import Parts
from diffusion_asr.process_memory import give_back
from diffusion_asr.segments import segments_of
from diffusion_asr.text.spacing import join
from diffusion_asr.transcript import Segment, Transcript

if TYPE_CHECKING:
    from diffusion_asr.diffusion_gemma.loading import LoadOptions


class Progress(Protocol):
    """Called with seconds done and seconds in all."""

    def __call__(self, done: float, total: float) -> None:
        """Work has come as far as ``done`` of ``total`` seconds."""
        ...


class Recognizer:
    """Speech to text by discrete diffusion.

    Example:
        >>> asr = Recognizer.from_pretrained()
        >>> asr.transcribe("talk.flac", language="de").text
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._sampler = UniformSampler(parts.denoiser, len(parts.vocabulary))
        self._pieces = {name: torch.tensor(parts.vocabulary.pieces_for(name)) for name in self.languages}
        self._settler: Settler | None = None
        self._detector: SpeechDetector | None = None

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
        from diffusion_asr.loading import is_adapter
        from diffusion_asr.models.canvas import load_parts

        if is_adapter(name):
            from diffusion_asr.diffusion_gemma.decoder import DiffusionGemmaRecognizer

            return DiffusionGemmaRecognizer.load(str(name), options)
        return cls(load_parts(name))

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that the model writes."""
        return self.parts.denoiser.config.languages

    def encode(self, waveforms: Tensor, lengths: Tensor | None = None) -> AcousticMemory:
        """Listen.

        Args:
            waveforms: (B, samples) float32 at 16 kHz in [-1, 1], each at most 30 s.
            lengths: (B,) samples of each clip; None if none is padded.

        Raises:
            AudioError: Wrong shape, empty, longer than 30 s, or not finite.
        """
        check_waveforms(waveforms, lengths)
        return self.parts.encoder.encode(waveforms, lengths)

    def detect_language(self, memory: AcousticMemory) -> list[dict[str, float]]:
        """Probability of each language, one dictionary for each clip."""
        with torch.inference_mode():
            rows = self.parts.language(memory.spoken()).exp().tolist()
        return [dict(zip(self.languages, row, strict=True)) for row in rows]

    def denoise(
        self,
        memory: AcousticMemory,
        language: Sequence[str | None] | str | None = None,
        steps: int | None = None,
        init: Init = "draft",
        generator: torch.Generator | None = None,
        trace: bool = False,
    ) -> list[Hypothesis]:
        """Write down what was heard.

        Args:
            memory: What ``encode`` returned.
            language: One code for all clips or one for each; None (or "auto") detects it.
            steps: Number of denoising steps; None stops each clip when its text has settled. (A model
                with a refiner stops earlier where nothing is left to change.)
            init: "draft" begins with the denoiser's own first guess, "noise" with uniform noise.
            generator: Source of the noise; None is a fixed seed.
            trace: Keep every step in ``Hypothesis.denoised.trace``.

        Raises:
            LanguageError: Unknown language, or not one for each clip.
        """
        options = _options(steps, init)
        languages = self._languages(memory, language)
        seed = _seed(generator)
        clips = (memory.clip(n) for n in range(len(memory)))
        pairs = zip(clips, languages, strict=True)
        return [self._denoise(clip, code, options, init, seed, trace) for clip, code in pairs]

    @torch.inference_mode()
    def _denoise(
        self,
        memory: AcousticMemory,
        language: str,
        options: SamplerOptions,
        init: Init,
        seed: int,
        trace: bool,
    ) -> Hypothesis:
        """One clip alone: a padded batch rounds differently in bf16, and then the text may differ."""
        parts = self.parts
        state = parts.denoiser.prepare(memory, [language])
        slots = state.slots
        draft = parts.draft.first_canvas(state).canvas if init == "draft" else None
        noise = torch.Generator().manual_seed(seed)
        pieces = self._pieces[language]
        if parts.refiner is not None:
            if draft is None:
                draft = uniform_noise(state.slot_mask.shape[1], len(parts.vocabulary), 1, noise)[:1]
            if self._settler is None:
                lag = parts.calibration.lag
                self._settler = Settler(parts.denoiser, parts.refiner, parts.vocabulary, lag)
            drafted = self._settler.draft(state, draft, pieces)
            del state  # the refiner prepares as much again
            clip = self._settler.settle(memory, drafted, language, pieces, options.steps, trace)
        else:
            (clip,) = self._sampler.sample(state, options, noise, draft, trace, pieces)
        words = to_words(
            clip,
            times=slots.times[0] / memory.frame_rate,
            slot_seconds=parts.denoiser.config.slot_frames / memory.frame_rate,
            seconds=float(memory.seconds[0]),
            vocabulary=parts.vocabulary,
            calibration=parts.calibration,
        )
        sure = [w.confidence for w in words if w.confidence is not None]
        return Hypothesis(join(words), words, language, sum(sure) / len(sure) if sure else 0.0, clip)

    def _languages(self, memory: AcousticMemory, language: Sequence[str | None] | str | None) -> list[str]:
        given = [language] * len(memory) if language is None or isinstance(language, str) else list(language)
        if len(given) != len(memory):
            raise LanguageError(f"{len(given)} languages for {len(memory)} clips; give one, or one for each")
        for code in given:
            self.check_language(code)
        if all(code not in (None, AUTO) for code in given):
            return [str(code) for code in given]
        heard = self.detect_language(memory)
        pairs = zip(given, heard, strict=True)
        return [max(p, key=lambda k: p[k]) if code in (None, AUTO) else str(code) for code, p in pairs]

    def check_language(self, code: str | None) -> None:
        """Raise ``LanguageError`` unless ``code`` is a known language, "auto" or None."""
        check_known(code, self.languages)

    def transcribe(
        self,
        source: str | os.PathLike[str] | np.ndarray | Tensor,
        language: str | None = None,
        steps: int | None = None,
        init: Init = "draft",
        sample_rate: int = audio.SAMPLE_RATE,
        generator: torch.Generator | None = None,
        progress: Progress | None = None,
        on_hypothesis: Callable[[float, Hypothesis], None] | None = None,
    ) -> Transcript:
        """Transcribe a recording of any length.

        Speech is found by Silero VAD, packed into windows of up to 30 s and decoded; silence and noise
        give no text. Memory is bounded by the windows, not by the recording, when ``source`` is a path.

        Args:
            source: A path, or samples (samples,) or (channels, samples).
            language: A code; None or "auto" detects it for each window.
            steps: As in ``denoise``.
            init: As in ``denoise``.
            sample_rate: Of ``source`` if it is samples.
            generator: As in ``denoise``.
            progress: Called as windows are finished.
            on_hypothesis: Called with each window's start in seconds and its hypothesis, with a trace.

        Raises:
            AudioError: Unreadable audio.
            LanguageError: Unknown language.
        """
        self.check_language(language)
        _options(steps, init)  # wrong ones are refused before anything is read
        seed = _seed(generator)
        blocks, name, total = _open(source, sample_rate)
        clock = _Clock(blocks)
        segments: list[Segment] = []
        for window in windows(clock, self.detector, WindowOptions()):
            memory = self.encode(torch.from_numpy(window.samples)[None])
            noise = torch.Generator().manual_seed(seed)
            (hypothesis,) = self.denoise(memory, language, steps, init, noise, on_hypothesis is not None)
            if on_hypothesis is not None:
                on_hypothesis(window.start, hypothesis)
            segments += segments_of(window, hypothesis)
            give_back()
            if progress is not None:
                progress(window.end, max(total, window.end))
        if progress is not None:
            progress(clock.seconds, clock.seconds)
        return Transcript(tuple(segments), duration=round(clock.seconds, 3), source=name)

    @property
    def detector(self) -> SpeechDetector:
        """What finds speech in a recording; loaded once."""
        if self._detector is None:
            self._detector = SpeechDetector()
        return self._detector


def check_known(code: str | None, languages: Sequence[str]) -> None:
    """Raise ``LanguageError`` unless ``code`` is one of a model's ``languages``, "auto" or None."""
    if code not in (None, AUTO, *languages):
        known = ", ".join(languages)
        raise LanguageError(f"unknown language {code!r}; this model knows {known}, or auto to detect")


def _options(steps: int | None, init: str) -> SamplerOptions:
    """Checked options of a call."""
    if init not in ("draft", "noise"):
        raise ValueError(f"init must be 'draft' or 'noise', not {init!r}")
    return SamplerOptions(steps)


def _seed(generator: torch.Generator | None) -> int:
    """One number for all clips of a call, so that a clip's noise does not depend on its neighbours."""
    return SEED if generator is None else int(torch.randint(2**62, (1,), generator=generator))


class _Clock:
    """Blocks on their way through, counted."""

    def __init__(self, blocks: Iterable[np.ndarray]) -> None:
        self._blocks, self._samples = blocks, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self._samples += len(block)
            yield block

    @property
    def seconds(self) -> float:
        return self._samples / audio.SAMPLE_RATE


def _open(source: Any, sample_rate: int) -> tuple[Iterable[np.ndarray], str | None, float]:
    """Blocks of mono 16 kHz samples, the recording's name, and its likely length in seconds."""
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        blocks = audio.read_blocks(path)
        return blocks, str(path), audio.probe(path).duration
    samples = audio.as_mono_16k(source, sample_rate)
    return [samples], None, len(samples) / audio.SAMPLE_RATE
