"""The parallel decoder: K denoising steps over a canvas, whatever the length of the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.decoder import ClipDecoder, Decoded, DecodingOptions
from diffusion_asr.decoding.process import (
    CanvasState,
    Denoiser,
    DiffusionProcess,
    SlotNoise,
    TextRepeats,
    denoise_canvas,
    read_given_canvas,
)
from diffusion_asr.text.vocabulary import Vocabulary

MAX_STEPS = 8
ENTROPY_BOUND = 4.0  # nats


class CanvasSizes(Protocol):
    """What a decoder asks of a denoiser's configuration."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages that it writes."""
        ...

    @property
    def slot_frames(self) -> int:
        """Encoder frames to a slot."""
        ...


class TimeCanvasDenoiser(Denoiser, Protocol):
    """A denoiser whose canvas has a slot for each stretch of time."""

    @property
    def config(self) -> CanvasSizes:
        """Of the canvas."""
        ...

    def prepare(self, memory: AcousticMemory, languages: Sequence[str]) -> CanvasState:
        """Once per batch of clips."""
        ...

    def null_canvas(self, state: Any) -> Tensor:
        """(B, L) the first canvas where nothing is given and nothing is random."""
        ...


class DiffusionDecoder(ClipDecoder):
    """See the module's text; a ``Decoder``.

    Clips go through one by one (``ClipDecoder``).
    """

    def __init__(self, denoiser: TimeCanvasDenoiser, vocabulary: Vocabulary) -> None:
        """``vocabulary`` spells the tokens, and knows which of them a language uses."""
        self.denoiser, self.size = denoiser, len(vocabulary)
        self.pieces = {code: torch.tensor(vocabulary.pieces_for(code)) for code in self.languages}

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        return self.denoiser.config.languages

    @torch.inference_mode()
    def decode_clip(
        self, memory: AcousticMemory, language: str, options: DecodingOptions, clip: int
    ) -> Decoded:
        """See ``ClipDecoder.decode_clip``."""
        state = self.denoiser.prepare(memory, [language])
        noise = SlotNoise(options.seed, state.slots.mask.shape[1], self.size)
        first = make_first_canvas(self.denoiser, state, options, noise, clip)
        process = make_process(options, noise, state, None if options.start == "noise" else first)
        limit, pieces = options.limit(MAX_STEPS), self.pieces[language].to(first.device)
        rows = denoise_canvas(self.denoiser, state, first, process, limit, pieces, options.trace)
        return Decoded(
            rows.canvas[0],
            rows.confidence[0],
            state.slots.times[0].cpu() / memory.frame_rate,
            self.denoiser.config.slot_frames / memory.frame_rate,
            parallel_passes=rows.passes[0],
            trace=tuple(rows.traces[0]),
        )


def make_first_canvas(
    denoiser: TimeCanvasDenoiser,
    state: CanvasState,
    options: DecodingOptions,
    noise: SlotNoise,
    clip: int = 0,
) -> Tensor:
    """(1, L) what a clip's first pass reads."""
    given = read_given_canvas(options, clip, noise.length)
    if given is None and options.start == "null":
        return denoiser.null_canvas(state)
    return (noise.canvas(0) if given is None else given).to(state.slots.mask.device)


def make_process(
    options: DecodingOptions, noise: SlotNoise, state: CanvasState, known: Tensor | None
) -> DiffusionProcess:
    """canvas-base's process; ``known`` (B, L) is the first canvas, unless it is noise."""
    heat = options.temperature
    return DiffusionProcess(
        noise,
        ENTROPY_BOUND if options.entropy_bound is None else options.entropy_bound,
        temperature=(lambda _left: heat) if heat else None,
        stop=TextRepeats(state.slots.mask, known) if options.steps is None else None,
    )
