"""The parallel decoder of whole texts: a draft, then time-anchored sweeps over all of it.

Every token of the canvas has a time. A sweep is one call of Whisper's decoder over the whole canvas; all its
places may change in it (``rule``). What the draft's slots say near the time at which the decoder listens is
added to the decoder's own log-probabilities. Nothing goes from left to right, and the number of passes does
not follow the length of the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import collapse_canvas
from diffusion_asr.decoding.causal.model import END, CausalRefiner
from diffusion_asr.decoding.causal.scorer import Scorers
from diffusion_asr.decoding.decoder import Decoded, DecodingOptions, TraceStep, decode_clips
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.drafting import Draft, write_draft
from diffusion_asr.decoding.sweeps.alternatives import (
    PASSES,
    AlternativesRule,
    Doubt,
    apply_stretches,
    choose_stretches,
    deal_doubts,
    find_stretches,
    hold,
    put_in,
)
from diffusion_asr.decoding.sweeps.reader import CanvasReader, Reading
from diffusion_asr.decoding.sweeps.rule import (
    Judgement,
    SweepRule,
    Timed,
    measure_offset,
    repair,
    retime,
)
from diffusion_asr.text.vocabulary import Vocabulary

MOST_PASSES = 24  # with the draft's
MOST_ROUNDS = 4
LEAST_FOR_ROUND = 7  # passes after the draft from which the last ones are a round of alternatives
USUAL_OFFSET = 0.45  # seconds by which version 6's canvas runs ahead


@dataclass(frozen=True)
class Evidence:
    """What the draft's slots say of each scored piece, near a time.

    Attributes:
        best: (L, S) the best log-probability within a few slots of each slot.
        slot_seconds: Length of a slot.
    """

    best: Tensor
    slot_seconds: float

    @classmethod
    def of(cls, draft: Draft, pieces: Tensor, rule: SweepRule) -> Evidence:
        """By the draft's distributions; the end of text (column 0) is no slot's business."""
        scores = draft.denoiser.logits(draft.hidden[0], pieces).float()
        chances = (scores - draft.total[0, :, None]).clamp(min=rule.floor)
        best = F.max_pool1d(chances.T[None], 2 * rule.near + 1, 1, rule.near)[0].T.contiguous()
        best[:, 0] = 0.0
        return cls(best, draft.decoded.slot_seconds)

    def at(self, seconds: Tensor) -> Tensor:
        """(N,) times on the canvas's own clock to (N, S)."""
        rows = (seconds / self.slot_seconds).round().long().clamp(0, len(self.best) - 1)
        return self.best[rows]


class SweepDecoder:
    """See the module's text; a ``Decoder``."""

    def __init__(
        self,
        denoiser: CanvasDenoiser,
        refiner: CausalRefiner,
        vocabulary: Vocabulary,
        rule: SweepRule | None = None,
    ) -> None:
        self.denoiser, self.refiner, self.vocabulary = denoiser, refiner, vocabulary
        self.rule = rule or SweepRule()
        self.pieces = {code: torch.tensor(vocabulary.pieces_for(code)) for code in self.languages}
        self.scorers = Scorers(refiner)

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        return self.denoiser.config.languages

    def decode(
        self, memory: AcousticMemory, languages: Sequence[str], options: DecodingOptions
    ) -> list[Decoded]:
        """See ``Decoder.decode``."""
        return decode_clips(self, memory, languages, options)

    @torch.inference_mode()
    def decode_clip(
        self, memory: AcousticMemory, language: str, options: DecodingOptions, clip: int
    ) -> Decoded:
        """See ``ClipDecoder.decode_clip``."""
        pieces = self.pieces[language]
        draft = write_draft(self.denoiser, memory, language, pieces, options, clip)
        runs = collapse_canvas(draft.decoded.canvas)
        most = options.limit(MOST_PASSES) - 1
        if not runs or not most:
            trace = trace_sweeps(draft, []) if options.trace else ()
            return replace(draft.decoded, trace=trace)
        reader = CanvasReader(self.refiner, self.scorers.of(pieces), self.refiner.prepare(memory, [language]))
        evidence = Evidence.of(draft, pieces, self.rule)
        sweeper = Sweeper(reader, evidence, draft, self.rule, memory.frame_rate, self.vocabulary.word_letters)
        slot = draft.decoded.slot_seconds
        first = Timed(tuple(token for token, _, _ in runs), tuple(start * slot for _, start, _ in runs))
        found = sweeper.settle(first, most)
        return self._placed(found, draft, options)

    def _placed(self, found: list[Swept], draft: Draft, options: DecodingOptions) -> Decoded:
        """The last canvas in slots, with the times that the decoder told."""
        # A text with more tokens than the draft's slots have room for gets shorter slots.
        size = max(len(draft.decoded.canvas), *(count_slots(each.canvas.tokens) for each in found))
        steps = [place_tokens(each, draft.decoded, size) for each in found]
        trace = trace_sweeps(draft, steps) if options.trace else ()
        return replace(steps[-1], parallel_passes=1 + len(found), trace=trace)


@dataclass(frozen=True)
class Swept:
    """A canvas after a sweep, and how likely its tokens were when they were last read."""

    canvas: Timed
    confidence: tuple[float, ...]


class Sweeper:
    """Settles one clip's canvas in parallel passes."""

    def __init__(
        self,
        reader: CanvasReader,
        evidence: Evidence,
        draft: Draft,
        rule: SweepRule,
        frame_rate: float,
        letters: Callable[[int], str],
        alternatives: AlternativesRule | None = None,
    ) -> None:
        """``letters`` tells what of a token is a matter of words."""
        self.reader, self.evidence, self.draft, self.rule = reader, evidence, draft, rule
        self.frame_rate, self.letters = frame_rate, letters
        self.alternatives = alternatives or AlternativesRule()
        self.offset: float | None = None

    def settle(self, canvas: Timed, most: int) -> list[Swept]:
        """Sweeps, then rounds of alternatives while passes are left and anything changes; all canvases."""
        reserve = PASSES if most >= LEAST_FOR_ROUND else 0
        found, reading = self.sweep(canvas, most - reserve, stop_read=bool(reserve))
        for _ in range(MOST_ROUNDS):
            if reading is None or len(found) + PASSES > most:
                break
            before = found[-1]
            after = self.try_alternatives(before.canvas, reading)
            if after is None:
                break
            found += [before] * (PASSES - 1) + [after]
            if after.canvas.tokens == before.canvas.tokens or len(found) + 1 + PASSES > most:
                break
            (reading,) = self.reader.read([after.canvas.tokens])
            found.append(after)
        return found

    def sweep(self, canvas: Timed, most: int, stop_read: bool) -> tuple[list[Swept], Reading | None]:
        """At most ``most`` passes, until nothing changes; the canvas after each, and what was read last.

        With ``stop_read`` the last pass only reads, so that the reading is of the last canvas.
        """
        found: list[Swept] = []
        while len(found) < most:
            (reading,) = self.reader.read([canvas.tokens])
            said, chances = self.judge(reading, canvas)
            if self.offset is None:
                self.offset = measure_offset(canvas, said, self.rule, USUAL_OFFSET)
                canvas = replace(canvas, times=tuple(t + self.offset for t in canvas.times))
            canvas = retime(canvas, said, self.rule)
            last = stop_read and len(found) == most - 1
            after = canvas if last else repair(canvas, said, self.rule)
            found.append(Swept(after, carry_confidence(canvas, chances, after)))
            if after.tokens == canvas.tokens:
                return found, reading
            if not after.tokens:
                break
            canvas = after
        return found, None

    def try_alternatives(self, text: Timed, reading: Reading) -> Swept | None:
        """One round: ``PASSES`` passes over copies of the text; None if nothing in it is in doubt."""
        said, _ = self.judge(reading, text)
        own = self.chances(reading, text)
        copies = deal_doubts(self.find_doubts(reading, text, said), self.alternatives)
        if not copies:
            return None
        fixed = [frozenset(copy.values()) for copy in copies]
        canvases = [put_in(text, said.heard, copy, self.rule) for copy in copies]
        for _ in range(self.alternatives.sweeps):
            readings = self.reader.read([canvas.tokens for canvas in canvases])
            for n, (canvas, read) in enumerate(zip(canvases, readings, strict=True)):
                held = hold(self.judge(read, canvas)[0], canvas, fixed[n])
                canvases[n] = repair(canvas, held, self.rule)
        readings = self.reader.read([canvas.tokens for canvas in canvases])
        stretches = [
            stretch
            for canvas, read in zip(canvases, readings, strict=True)
            for stretch in find_stretches(
                text, own, canvas, self.chances(read, canvas), self.alternatives.tail
            )
        ]
        taken = choose_stretches(text, stretches, self.draft.text_chances, self.alternatives)
        after = apply_stretches(text, taken)
        return Swept(after, carry_confidence(text, [math.exp(c) for c in own[:-1]], after))

    def find_doubts(self, reading: Reading, text: Timed, said: Judgement) -> list[Doubt]:
        """Other words that are nearly as likely as the token that stands there, with all evidence."""
        scorer, gap = self.reader.scorer, self.alternatives.gap
        scores = self._with_evidence(reading)[:-1]
        scores[:, 0] = -torch.inf  # no text is cut off
        own = scores.gather(1, scorer.places(list(text.tokens))[:, None])
        best = scores.topk(min(self.alternatives.each, scores.shape[1]), -1)
        found = []
        rows = zip((own - best.values).tolist(), scorer.pieces[best.indices].tolist(), strict=True)
        for place, (gaps, tokens) in enumerate(rows):
            for behind, token in zip(gaps, tokens, strict=True):
                words = self.letters(token)
                other = token != text.tokens[place] and words and words != self.letters(text.tokens[place])
                if other and behind <= gap:
                    found.append(Doubt(abs(behind), place, token))
        return found

    def chances(self, reading: Reading, canvas: Timed) -> list[float]:
        """The reader's log-probability of each token and of the end."""
        columns = self.reader.scorer.places([*canvas.tokens, END])[:, None]
        return reading.scores.gather(1, columns)[:, 0].tolist()

    def _with_evidence(self, reading: Reading) -> Tensor:
        heard = reading.frames / self.frame_rate
        offset = USUAL_OFFSET if self.offset is None else self.offset
        return reading.scores + self.rule.evidence * self.evidence.at(heard - offset)

    def judge(self, reading: Reading, canvas: Timed) -> tuple[Judgement, list[float]]:
        """All evidence about a canvas, and the probability of each of its tokens."""
        rule, scorer = self.rule, self.reader.scorer
        heard, scores = reading.frames / self.frame_rate, self._with_evidence(reading)
        scores[:-1, 0] -= rule.ending  # the draft knows where speech ends
        scores[-1, 0] += rule.ending
        best, places = scores.max(-1)
        columns = scorer.places([*canvas.tokens, END])[:, None]
        own = scores.gather(1, columns)[:, 0]
        said = Judgement((best - own).tolist(), scorer.pieces[places].tolist(), heard.tolist())
        return said, reading.scores.gather(1, columns)[:-1, 0].exp().tolist()


def carry_confidence(before: Timed, chances: list[float], after: Timed) -> tuple[float, ...]:
    """Probabilities of the tokens that a sweep kept; a new one is as likely as not until it is read."""
    known = {
        (token, time): chance
        for token, time, chance in zip(before.tokens, before.times, chances, strict=True)
    }
    return tuple(known.get(pair, 0.5) for pair in zip(after.tokens, after.times, strict=True))


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
    return replace(
        draft, canvas=canvas, confidence=confidence, slot_times=slots, slot_seconds=slot, starts=times
    )


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
