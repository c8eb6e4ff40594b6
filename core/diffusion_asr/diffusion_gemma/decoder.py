"""The published kind of system as a ``Recognizer``: the whole text on a token canvas, times by CTC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory, check_waveforms
from diffusion_asr.acoustics.language import NullDraft
from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.decoding.alignment import forced_canvas
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.canvas import Denoised
from diffusion_asr.decoding.decoder import AUTO, Hypothesis, Init
from diffusion_asr.decoding.diffusion import SamplerOptions
from diffusion_asr.decoding.words import to_words
from diffusion_asr.diffusion_gemma.denoiser import GemmaState
from diffusion_asr.diffusion_gemma.loading import Loaded, LoadOptions, load
from diffusion_asr.diffusion_gemma.prompt import ANY
from diffusion_asr.diffusion_gemma.sampler import GemmaSampler, GemmaSamplerOptions
from diffusion_asr.models.parts import Parts
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.text.spacing import join

UNDETERMINED = "und"  # ISO 639's word for a language that nobody has told
TOKENS_A_SECOND, SPARE_TOKENS, LEAST_CANVAS = 8, 16, 32


class DiffusionGemmaRecognizer(Recognizer):
    """Speech to text by DiffusionGemma; use it like every ``Recognizer``.

    The canvas is sized to the clip, and to the backbone's own length if no end of text fits on it. Nothing
    detects the language: without one the prompt asks for the language that is spoken, and texts are "und".
    """

    def __init__(self, loaded: Loaded, sampling: GemmaSamplerOptions | None = None) -> None:
        self.loaded, self.sampling = loaded, sampling or GemmaSamplerOptions()
        self.model = loaded.denoiser
        parts = Parts(
            encoder=loaded.encoder, denoiser=cast("Any", self.model), language=cast("Any", None),
            vocabulary=loaded.vocabulary, calibration=Calibration(), name=loaded.name, version="",
            draft=NullDraft(),
        )  # fmt: skip
        super().__init__(parts)
        self._loop = GemmaSampler(self.model)
        text = self.model.backbone.config.get_text_config()
        ends = text.eos_token_id if isinstance(text.eos_token_id, list) else [text.eos_token_id]
        self._ends, self._pad = {int(end) for end in ends}, int(text.pad_token_id or 0)

    @classmethod
    def load(cls, name: str, options: LoadOptions | None = None) -> DiffusionGemmaRecognizer:
        """An adapter by folder or hub name; see ``loading.load``."""
        return cls(load(name, options or LoadOptions()))

    def encode(self, waveforms: Tensor, lengths: Tensor | None = None) -> AcousticMemory:
        """See ``Recognizer.encode``; padded to 30 s if the adapter was trained so."""
        if not self.loaded.settings.padded:
            return super().encode(waveforms, lengths)
        check_waveforms(waveforms, lengths)
        padded = self.loaded.encoder.encode(F.pad(waveforms, (0, 30 * SAMPLE_RATE - waveforms.shape[1])))
        samples = torch.full((len(waveforms),), waveforms.shape[1]) if lengths is None else lengths
        frames = (samples * padded.frame_rate / SAMPLE_RATE).ceil().clamp(min=1)
        real = torch.arange(padded.states.shape[1]) < frames[:, None]
        return AcousticMemory(padded.states, real, padded.frame_rate)

    def detect_language(self, memory: AcousticMemory) -> list[dict[str, float]]:
        """Nothing is known: every clip gets an empty dictionary."""
        return [{} for _ in range(len(memory))]

    def _languages(self, memory: AcousticMemory, language: Sequence[str | None] | str | None) -> list[str]:
        given = [language] * len(memory) if language is None or isinstance(language, str) else list(language)
        known = super()._languages(memory, ["en" if code in (None, AUTO) else code for code in given])
        return [ANY if told in (None, AUTO) else code for told, code in zip(given, known, strict=True)]

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
        """One clip. A text without an end on its canvas is written again on the longest one."""
        seconds = float(memory.seconds[0])
        heard = self._as_trained(memory)
        most = int(self.model.backbone.config.canvas_length)
        sized = max(LEAST_CANVAS, math.ceil(seconds * TOKENS_A_SECOND) + SPARE_TOKENS)
        sampling = self.sampling if options.steps is None else _exactly(self.sampling, options.steps)
        for length in dict.fromkeys((min(most, sized), most)):
            state = self.model.prepare(heard, [language], length)
            draft = self._draft(state, memory) if init == "draft" else None
            noise = torch.Generator().manual_seed(seed)
            (clip,) = self._loop.sample(state, sampling, noise, draft, trace)
            if self._ends & set(clip.canvas.tolist()):
                break
        return self._hypothesis(clip, state, memory, language)

    def _as_trained(self, memory: AcousticMemory) -> AcousticMemory:
        """With the padding's states heard, if the adapter was trained so."""
        if not self.loaded.settings.padded:
            return memory
        return AcousticMemory(memory.states, torch.ones_like(memory.mask), memory.frame_rate)

    def _real(self, memory: AcousticMemory) -> int:
        """Audio embeddings of a clip itself, without the padding."""
        return -(-int(memory.lengths[0]) // self.model.projector.config.subsampling)

    def _draft(self, state: GemmaState, memory: AcousticMemory) -> Tensor:
        """The projector's own say as a first canvas: CTC's best path, the end of text, padding."""
        best = self.model.heard_logits(state.heard[:, : self._real(memory)]).argmax(-1)[0].tolist()
        blank = self.loaded.settings.blank
        tokens = [t for n, t in enumerate(best) if t != blank and (n == 0 or t != best[n - 1])]
        canvas = torch.full(state.slot_mask.shape, self._pad)
        tokens = [*tokens, min(self._ends)][: canvas.shape[1]]
        canvas[0, : len(tokens)] = torch.tensor(tokens)
        return canvas

    def _hypothesis(
        self, clip: Denoised, state: GemmaState, memory: AcousticMemory, language: str
    ) -> Hypothesis:
        ids = clip.canvas.tolist()
        end = next((n for n, token in enumerate(ids) if token in self._ends), len(ids))
        vocabulary, step = self.loaded.vocabulary, self.model.projector.config.subsampling
        spoken = [n for n in range(end) if vocabulary.bytes_of(ids[n])]
        placed = self._placed(clip, spoken, state, memory)
        slot = step / memory.frame_rate * self._real(memory) / max(1, len(placed.canvas))
        times = (torch.arange(len(placed.canvas)) + 0.5) * slot
        words = to_words(placed, times, slot, float(memory.seconds[0]), vocabulary, self.parts.calibration)
        sure = [w.confidence for w in words if w.confidence is not None]
        code = UNDETERMINED if language == ANY else language
        return Hypothesis(join(words), words, code, sum(sure) / len(sure) if sure else 0.0, clip)

    def _placed(
        self, clip: Denoised, spoken: list[int], state: GemmaState, memory: AcousticMemory
    ) -> Denoised:
        """The text on the audio embeddings' grid, by CTC; spread evenly where it has no room there."""
        room, blank = self._real(memory), self.loaded.settings.blank
        ids, sure = clip.canvas[spoken], clip.confidence[spoken]
        repeats = int((ids[1:] == ids[:-1]).sum())
        if len(ids) == 0 or len(ids) + repeats > room:
            return _spread(ids, sure, clip.steps)
        log_probs = self.model.heard_logits(state.heard[:, :room]).log_softmax(-1).cpu()
        pieces = torch.tensor([blank, *sorted(set(ids.tolist()) - {blank})])
        targets = torch.tensor([[pieces.tolist().index(t) for t in ids.tolist()]])
        count = torch.tensor([len(ids)])
        path = forced_canvas(log_probs[..., pieces], torch.tensor([room]), targets, count)[0]
        starts = (path != 0) & (path != F.pad(path[:-1], (1, 0)))
        order = (starts.cumsum(0) - 1).clamp(min=0)
        return Denoised(
            torch.where(path != 0, ids[order], 0), torch.where(path != 0, sure[order], 0.0), clip.steps
        )


def _spread(ids: Tensor, sure: Tensor, steps: int) -> Denoised:
    """Tokens one after another with a null between, so that equal neighbours stay two."""
    canvas, confidence = torch.zeros(2 * len(ids), dtype=torch.long), torch.zeros(2 * len(ids))
    canvas[::2], confidence[::2] = ids, sure
    return Denoised(canvas, confidence, steps)


def _exactly(sampling: GemmaSamplerOptions, steps: int) -> GemmaSamplerOptions:
    """A fixed number of steps."""
    return replace(sampling, steps=steps, confident=None)
