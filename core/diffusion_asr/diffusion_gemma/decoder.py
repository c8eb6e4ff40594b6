"""The published kind of system as a ``Decoder``: the whole text on a token canvas, times by CTC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory, WhisperEncoder
from diffusion_asr.acoustics.features import SAMPLE_RATE
from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.decoder import (
    UNDETERMINED,
    Decoded,
    DecodingOptions,
    TraceStep,
    check_languages,
)
from diffusion_asr.decoding.process import DenoisedRows, denoise_canvas, read_given_canvas
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser, GemmaState
from diffusion_asr.diffusion_gemma.loading import LoadOptions, Settings, load_adapter
from diffusion_asr.diffusion_gemma.process import GemmaSampling, SequentialNoise
from diffusion_asr.diffusion_gemma.vocabulary import GemmaVocabulary
from diffusion_asr.models.parts import Parts

TOKENS_A_SECOND, SPARE_TOKENS, LEAST_CANVAS = 8, 16, 32
PADDED_SAMPLES = 30 * SAMPLE_RATE


def load_gemma(name: str, options: LoadOptions | None = None) -> Parts:
    """An adapter by folder or hub name, with what it adapts; see ``loading.load_adapter``."""
    loaded = load_adapter(name, options or LoadOptions())
    padded = loaded.settings.padded
    encoder = PaddedEncoder(loaded.encoder) if padded else loaded.encoder
    decoder = GemmaDecoder(loaded.denoiser, loaded.vocabulary, loaded.settings)
    return Parts(encoder, decoder, loaded.vocabulary, loaded.name, version="")


class PaddedEncoder(nn.Module):
    """An ``Encoder`` that hears every clip padded to 30 s, as the reference system was trained."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def encode(self, waveforms: Tensor, lengths: Tensor | None = None) -> AcousticMemory:
        """See ``Encoder.encode``; the padding's states are there, and masked."""
        padded = self.encoder.encode(F.pad(waveforms, (0, PADDED_SAMPLES - waveforms.shape[1])))
        samples = torch.full((len(waveforms),), waveforms.shape[1]) if lengths is None else lengths
        frames = (samples * padded.frame_rate / SAMPLE_RATE).ceil().clamp(min=1)
        real = torch.arange(padded.states.shape[1]) < frames[:, None]
        return AcousticMemory(padded.states, real, padded.frame_rate)


class GemmaDecoder:
    """Speech to text by DiffusionGemma, clip by clip.

    The canvas is sized to the clip, and to the backbone's own length if no end of text fits on it. Without a
    language the prompt asks for the language that is spoken.
    """

    def __init__(
        self,
        denoiser: DiffusionGemmaDenoiser,
        vocabulary: GemmaVocabulary,
        settings: Settings,
        sampling: GemmaSampling | None = None,
    ) -> None:
        self.denoiser, self.vocabulary, self.settings = denoiser, vocabulary, settings
        self.sampling = sampling or GemmaSampling()
        text = denoiser.backbone.config.get_text_config()
        ends = text.eos_token_id if isinstance(text.eos_token_id, list) else [text.eos_token_id]
        self._ends, self._pad = {int(end) for end in ends}, int(text.pad_token_id or 0)

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        return self.denoiser.config.languages

    def decode(
        self, memory: AcousticMemory, languages: Sequence[str], options: DecodingOptions
    ) -> list[Decoded]:
        """See ``Decoder.decode``."""
        check_languages(languages, (*self.languages, UNDETERMINED), len(memory))
        rows = enumerate(languages)
        return [self._decode(self._clip(memory, n), code, options, n) for n, code in rows]

    def _clip(self, memory: AcousticMemory, row: int) -> AcousticMemory:
        """One clip; the states of its padding stay where the adapter was trained to hear them."""
        if not self.settings.padded:
            return memory.clip(row)
        part = slice(row, row + 1)
        return AcousticMemory(memory.states[part], memory.mask[part], memory.frame_rate)

    @torch.inference_mode()
    def _decode(self, memory: AcousticMemory, language: str, options: DecodingOptions, clip: int) -> Decoded:
        """A text without an end on its canvas is written again on the longest, unless passes are limited."""
        most = int(self.denoiser.backbone.config.canvas_length)
        sized = max(LEAST_CANVAS, math.ceil(float(memory.seconds[0]) * TOKENS_A_SECOND) + SPARE_TOKENS)
        # A limit holds for all passes, and a given canvas may need the room: then there is one try.
        limited = options.steps is not None or options.max_steps is not None
        once = limited or not isinstance(options.start, str)
        passes, trace = 0, list[TraceStep]()
        for length in dict.fromkeys((most,) if once else (min(most, sized), most)):
            state = self.denoiser.prepare(self._as_trained(memory), [language], length)
            rows = self._denoise(state, memory, options, clip)
            trace += [replace(step, step=passes + step.step) for step in rows.traces[0]]
            passes += rows.passes[0]
            if self._ends & set(rows.canvas[0].tolist()):
                break
        whole = tuple(_lengthened(step, length, self._pad) for step in trace)
        return replace(self._placed(rows, state, memory), parallel_passes=passes, trace=whole)

    def _denoise(
        self, state: GemmaState, memory: AcousticMemory, options: DecodingOptions, clip: int
    ) -> DenoisedRows:
        denoiser, (batch, length) = self.denoiser, state.slots.mask.shape
        sampling = self.sampling.with_options(options)
        generator = torch.Generator().manual_seed(options.seed)
        noise = SequentialNoise((batch, length), denoiser.vocabulary, generator, denoiser.device)
        given = read_given_canvas(options, clip, length)
        if given is not None:
            canvas = given.to(denoiser.device)
        elif options.start == "noise":
            canvas = noise.canvas(0)
        else:
            canvas = self._draft(state, memory).to(denoiser.device)
        process = sampling.process(noise)
        return denoise_canvas(denoiser, state, canvas, process, sampling.steps, trace=options.trace)

    def _as_trained(self, memory: AcousticMemory) -> AcousticMemory:
        """With the padding's states heard, if the adapter was trained so."""
        if not self.settings.padded:
            return memory
        return AcousticMemory(memory.states, torch.ones_like(memory.mask), memory.frame_rate)

    def _real(self, memory: AcousticMemory) -> int:
        """Audio embeddings of a clip itself, without the padding."""
        return -(-int(memory.lengths[0]) // self.denoiser.projector.config.subsampling)

    def _draft(self, state: GemmaState, memory: AcousticMemory) -> Tensor:
        """The projector's own say as a first canvas: CTC's best path, the end of text, padding."""
        best = self.denoiser.heard_logits(state.heard[:, : self._real(memory)]).argmax(-1)[0].tolist()
        blank = self.settings.blank
        tokens = [t for n, t in enumerate(best) if t != blank and (n == 0 or t != best[n - 1])]
        canvas = torch.full(state.slots.mask.shape, self._pad)
        tokens = [*tokens, min(self._ends)][: canvas.shape[1]]
        canvas[0, : len(tokens)] = torch.tensor(tokens)
        return canvas

    def _placed(self, rows: DenoisedRows, state: GemmaState, memory: AcousticMemory) -> Decoded:
        """The text, up to its end, on a canvas in time."""
        ids = rows.canvas[0].tolist()
        end = next((n for n, token in enumerate(ids) if token in self._ends), len(ids))
        spoken = [n for n in range(end) if self.vocabulary.bytes_of(ids[n])]
        canvas, sure = self._in_time(rows.canvas[0][spoken], rows.confidence[0][spoken], state, memory)
        seconds = self.denoiser.projector.config.subsampling / memory.frame_rate * self._real(memory)
        slot = seconds / max(1, len(canvas))
        times = (torch.arange(len(canvas)) + 0.5) * slot
        return Decoded(canvas, sure, times, slot, rows.passes[0])

    def _in_time(
        self, ids: Tensor, sure: Tensor, state: GemmaState, memory: AcousticMemory
    ) -> tuple[Tensor, Tensor]:
        """Tokens on the audio embeddings' grid, by CTC; spread evenly where they have no room there."""
        room, blank = self._real(memory), self.settings.blank
        repeats = int((ids[1:] == ids[:-1]).sum())
        if len(ids) == 0 or len(ids) + repeats > room:
            return _spread(ids, sure)
        log_probs = self.denoiser.heard_logits(state.heard[:, :room]).log_softmax(-1).cpu()
        pieces = torch.tensor([blank, *sorted(set(ids.tolist()) - {blank})])
        targets = torch.tensor([[pieces.tolist().index(t) for t in ids.tolist()]])
        count = torch.tensor([len(ids)])
        path = align_canvas(log_probs[..., pieces], torch.tensor([room]), targets, count)[0]
        starts = (path != 0) & (path != F.pad(path[:-1], (1, 0)))
        order = (starts.cumsum(0) - 1).clamp(min=0)
        return torch.where(path != 0, ids[order], 0), torch.where(path != 0, sure[order], 0.0)


def _lengthened(step: TraceStep, length: int, pad: int) -> TraceStep:
    """A step on a canvas that proved too short, as one on a longer canvas with padding."""
    more = length - len(step.canvas)
    return replace(
        step,
        canvas=F.pad(step.canvas, (0, more), value=pad),
        predicted=F.pad(step.predicted, (0, more), value=pad),
        confidence=F.pad(step.confidence, (0, more), value=1.0),
        accepted=F.pad(step.accepted, (0, more), value=False),
    )


def _spread(ids: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens one after another with a null between, so that equal neighbours stay two."""
    canvas, confidence = torch.zeros(2 * len(ids), dtype=torch.long), torch.zeros(2 * len(ids))
    canvas[::2], confidence[::2] = ids, sure
    return canvas, confidence
