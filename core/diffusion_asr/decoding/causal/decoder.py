"""The shipped decoder: one parallel pass drafts, a causal decoder verifies, rewrites and rescores.

The canvas denoiser's single pass over the slots is the draft. Whisper's decoder verifies its tokens from left
to right (``rewriting``) and tries alternatives where it is not sure (``alternatives``), many tokens a pass,
but in passes that grow with the text. Forced alignment with the draft's own distributions puts the tokens
back onto the slots; the decoder's cross-attention tells when each begins (``token_times``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.canvas import collapse_canvas, read_tokens
from diffusion_asr.decoding.causal.alternatives import Reviser
from diffusion_asr.decoding.causal.model import MAX_TOKENS, CausalRefiner, RefinerState
from diffusion_asr.decoding.causal.rewriting import Refined, Rewriter
from diffusion_asr.decoding.causal.scorer import Scorers
from diffusion_asr.decoding.causal.token_times import find_token_starts
from diffusion_asr.decoding.decoder import ClipDecoder, Decoded, DecodingOptions, TraceStep
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.drafting import Draft, write_draft
from diffusion_asr.text.vocabulary import Vocabulary

LOOP = 8  # times that the same one to four tokens follow each other: nobody says that
LOST = 0.25  # of the draft's tokens: what settles to less has lost its place …
FEW = 8  # … unless these were few, most of which may be wrong


class CausalDecoder(ClipDecoder):
    """See the module's text; a ``Decoder``. Clips go through one by one."""

    def __init__(self, denoiser: CanvasDenoiser, refiner: CausalRefiner, vocabulary: Vocabulary) -> None:
        self.denoiser, self.refiner, self.vocabulary = denoiser, refiner, vocabulary
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
        draft = write_draft(self.denoiser, memory, language, self.pieces[language], options, clip)
        return self._settle(memory, language, draft, options)

    def _settle(
        self, memory: AcousticMemory, language: str, draft: Draft, options: DecodingOptions
    ) -> Decoded:
        """At most ``options.steps`` passes, of which the draft is one; None goes on until nothing changes."""
        first, passes = draft.decoded, options.limit(MAX_TOKENS + 1) - 1
        tokens = read_tokens(first.canvas)
        if not tokens or not passes:
            return _traced(draft, []) if options.trace else first
        state = self.refiner.prepare(memory, [language])
        rewriter = Rewriter(self.refiner, self.scorers.of(self.pieces[language]))
        found = rewriter.settle(state, tokens, passes)
        found = self._revised(rewriter, state, found, draft, passes)
        settled = self._placed(found, draft)
        if read_tokens(settled.canvas) == found.tokens:  # else the draft was kept
            frames = find_token_starts(self.refiner, state, found.tokens)
            starts = tuple(frame / memory.frame_rate for frame in frames)
            settled = replace(settled, starts=starts, timing_passes=int(bool(starts)))
        if not options.trace:
            return settled
        history = [self._placed(_as_refined(*read), draft) for read in found.history[1:]]
        return _traced(draft, [*history, settled])

    def _revised(
        self, rewriter: Rewriter, state: RefinerState, found: Refined, draft: Draft, passes: int
    ) -> Refined:
        """Alternatives with the passes that are left, unless the draft will be kept anyway."""
        left = passes - found.steps
        if not found.tokens or left < 1 or self._useless(found.tokens, draft):
            return found
        reviser = Reviser(rewriter, state, draft.text_chances, self.vocabulary.word_letters)
        better = reviser.revise(found.tokens, left)
        if self._useless(better.tokens, draft):
            return found
        history = found.history + better.history
        return Refined(better.tokens, better.confidence, len(history), history)

    def _useless(self, tokens: Sequence[int], draft: Draft) -> bool:
        """Whether they do not fit the slots, or the refiner went astray."""
        needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
        canvas = draft.decoded.canvas
        return needed > len(canvas) or went_astray(tokens, read_tokens(canvas))

    def _placed(self, found: Refined, draft: Draft) -> Decoded:
        """The tokens on their slots; the draft where they do not fit or the refiner went astray."""
        tokens, first = found.tokens, replace(draft.decoded, causal_passes=found.steps)
        if self._useless(tokens, draft):
            return first
        if not tokens:
            return replace(first, canvas=torch.zeros_like(first.canvas))
        used, chances = draft.slot_chances(set(tokens))
        targets = torch.searchsorted(used, torch.tensor([tokens]))
        slots, count = torch.tensor([len(first.canvas)]), torch.tensor([len(tokens)])
        placed = used[align_canvas(chances, slots, targets, count)[0]]
        confidence = torch.ones(len(placed))
        for (_, a, b), chance in zip(collapse_canvas(placed), found.confidence, strict=True):
            confidence[a : b + 1] = chance
        return replace(first, canvas=placed, confidence=confidence)


def went_astray(tokens: Sequence[int], draft: Sequence[int]) -> bool:
    """Whether a refiner got into a loop that its draft is not in, or left most of the draft out.

    As every autoregressive decoder it may; a draft that hears each slot does not.
    """
    if len(draft) >= FEW and 0 < len(tokens) < LOST * len(draft):
        return True
    return is_looped(tokens) and not is_looped(draft)


def is_looped(tokens: Sequence[int]) -> bool:
    """Whether one to four tokens stand there ``LOOP`` times in a row."""
    for size in range(1, 5):
        same = 0
        for before, token in zip(tokens, tokens[size:], strict=False):
            same = same + 1 if before == token else 0
            if same >= (LOOP - 1) * size:
                return True
    return False


def _as_refined(tokens: list[int], settled: list[bool]) -> Refined:
    return Refined(tokens, [1.0 if sure else 0.5 for sure in settled], 0, ())


def _traced(draft: Draft, later: list[Decoded]) -> Decoded:
    """The last of the passes, with all of them as its trace; the draft leaves every slot open."""
    before, canvas = draft.decoded, draft.before
    nothing = torch.zeros_like(canvas, dtype=torch.bool)
    steps = [TraceStep("parallel", 1, canvas, before.canvas, before.confidence, nothing)]
    for n, now in enumerate(later, start=2):
        kept = now.confidence != 0.5 if n <= len(later) else torch.ones_like(nothing)
        steps.append(TraceStep("causal", n, before.canvas, now.canvas, now.confidence, kept))
        before = now
    return replace(before, trace=tuple(steps))
