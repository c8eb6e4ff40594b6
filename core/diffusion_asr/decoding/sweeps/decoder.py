"""The parallel decoder of whole texts: a draft, then time-anchored sweeps over all of it.

Every token of the canvas has a time. A sweep is one call of Whisper's decoder over the whole canvas; all its
places may change in it (``rule``). What the draft's slots say near the time at which the decoder listens is
added to the decoder's own log-probabilities. Nothing goes from left to right, and the number of passes does
not follow the length of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import torch
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import collapse_canvas
from diffusion_asr.decoding.causal.model import CausalRefiner
from diffusion_asr.decoding.causal.scorer import Scorers
from diffusion_asr.decoding.causal.token_times import cut_frames
from diffusion_asr.decoding.decoder import ClipDecoder, Decoded, DecodingOptions, TraceStep
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.drafting import Draft, write_draft
from diffusion_asr.decoding.sweeps.alternatives import AlternativesRule
from diffusion_asr.decoding.sweeps.evidence import Evidence
from diffusion_asr.decoding.sweeps.judge import Judge
from diffusion_asr.decoding.sweeps.reader import CanvasReader
from diffusion_asr.decoding.sweeps.rule import SweepRule, Timed
from diffusion_asr.decoding.sweeps.settling import Settler, Swept
from diffusion_asr.text.vocabulary import Vocabulary

MOST_PASSES = 24  # with the draft's


class SweepDecoder(ClipDecoder):
    """See the module's text; a ``Decoder``.

    ``swept`` are the languages that sweeps make better, by what was measured; in all others the draft is the
    text. None sweeps all of them.
    """

    def __init__(
        self,
        denoiser: CanvasDenoiser,
        refiner: CausalRefiner,
        vocabulary: Vocabulary,
        swept: Sequence[str] | None = None,
        rule: SweepRule | None = None,
        alternatives: AlternativesRule | None = None,
    ) -> None:
        self.denoiser, self.refiner, self.vocabulary = denoiser, refiner, vocabulary
        self.swept = self.languages if swept is None else tuple(swept)
        self.rule, self.alternatives = rule or SweepRule(), alternatives or AlternativesRule()
        self.pieces = {code: torch.tensor(vocabulary.pieces_for(code)) for code in self.languages}
        self.scorers = Scorers(refiner)

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        return self.denoiser.config.languages

    @torch.inference_mode()
    def decode_clip(
        self, memory: AcousticMemory, language: str, options: DecodingOptions, clip: int
    ) -> Decoded:
        """See ``ClipDecoder.decode_clip``."""
        pieces = self.pieces[language]
        draft = write_draft(self.denoiser, memory, language, pieces, options, clip)
        runs = collapse_canvas(draft.decoded.canvas)
        most = options.limit(MOST_PASSES) - 1
        if not runs or not most or language not in self.swept:
            trace = trace_sweeps(draft, []) if options.trace else ()
            return replace(draft.decoded, trace=trace)
        reader = CanvasReader(self.refiner, self.scorers.of(pieces), self.refiner.prepare(memory, [language]))
        judge = Judge(reader, Evidence.of(draft, pieces, self.rule), self.rule, memory.frame_rate)
        letters = self.vocabulary.word_letters
        settler = Settler(judge, draft.text_chances, letters, self.rule, self.alternatives)
        slot = draft.decoded.slot_seconds
        first = Timed(tuple(token for token, _, _ in runs), tuple(start * slot for _, start, _ in runs))
        return self._placed(settler.settle(first, most), draft, memory.frame_rate, options)

    def _placed(
        self, found: list[Swept], draft: Draft, frame_rate: float, options: DecodingOptions
    ) -> Decoded:
        """The last canvas in slots, with the times that the decoder told."""
        # A text with more tokens than the draft's slots have room for gets shorter slots.
        size = max(len(draft.decoded.canvas), *(count_slots(each.canvas.tokens) for each in found))
        last = place_tokens(found[-1], draft.decoded, size)
        starts = find_starts(found[-1], frame_rate)
        trace: tuple[TraceStep, ...] = ()
        if options.trace:
            trace = trace_sweeps(draft, [place_tokens(each, draft.decoded, size) for each in found])
        # The tokens stand where they are heard, no longer where the draft wrote them down.
        return replace(last, starts=starts, lead=0.0, parallel_passes=1 + len(found), trace=trace)


def find_starts(text: Swept, frame_rate: float) -> tuple[float, ...]:
    """Seconds at which the tokens begin: by the last pass if it read them all, else by the sweeps."""
    if text.said is not None:
        listening = torch.stack(text.said.listening)
        if len(listening) <= listening.shape[1]:
            return tuple(frame / frame_rate for frame in cut_frames(listening))
    return tuple(accumulate(text.canvas.times, max))


def count_slots(tokens: Sequence[int]) -> int:
    """So many slots hold a text at least: a null stands between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))


def place_tokens(found: Swept, draft: Decoded, size: int) -> Decoded:
    """A canvas of tokens as one of ``size`` slots: each where it is heard, or in the next free slot."""
    tokens, times = found.canvas.tokens, tuple(accumulate(found.canvas.times, max))
    length = len(draft.canvas)
    slot = draft.slot_seconds * length / size
    canvas, confidence = torch.zeros(size, dtype=torch.long), torch.ones(size)
    at = 0
    for n, (token, time) in enumerate(zip(tokens, times, strict=True)):
        at += bool(n and tokens[n - 1] == token)
        at = max(at, min(round(time / slot), size - count_slots(tokens[n:])))
        canvas[at], confidence[at] = token, found.confidence[n]
        at += 1
    slots = draft.slot_times if size == length else (torch.arange(size) + 0.5) * slot
    return replace(draft, canvas=canvas, confidence=confidence, slot_times=slots, slot_seconds=slot)


def trace_sweeps(draft: Draft, steps: list[Decoded]) -> tuple[TraceStep, ...]:
    """All passes; a token is accepted where the sweep left it."""
    size = len(steps[-1].canvas) if steps else len(draft.before)
    more = size - len(draft.before)
    before, first = F.pad(draft.before, (0, more)), F.pad(draft.decoded.canvas, (0, more))
    sure = F.pad(draft.decoded.confidence, (0, more), value=1.0)
    nothing = torch.zeros(size, dtype=torch.bool)
    out = [TraceStep("parallel", 1, before, first, sure, nothing)]
    for n, now in enumerate(steps, start=2):
        canvas = out[-1].predicted
        out.append(TraceStep("parallel", n, canvas, now.canvas, now.confidence, now.canvas == canvas))
    return tuple(out)
