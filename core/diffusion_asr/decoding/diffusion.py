"""Uniform-noise discrete diffusion over a canvas: accept what is certain, redraw the rest, repeat.

Each step predicts every slot at once. Slots are accepted in order of entropy while the sum of the
entropies accepted before stays under a bound (entropy-bounded unmasking, Ben-Hamu et al. 2025, as in
DiffusionGemma's sampler); all others are redrawn uniformly for the next step. The answer is the argmax
canvas of a clip's last step. A clip leaves the batch as soon as its collapsed text repeats.

Self-conditioning is on the first step's hidden states throughout, as in training, which unrolls two steps;
chained from step to step, version 1 gets worse with every step (recipes/embedded/RUNS.md).

Noise depends on the seed, the step and the slot alone, so a clip meets the same noise in any batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_asr.decoding.canvas import Denoised, TraceStep, collapse
from diffusion_asr.decoding.denoiser import Denoiser, PreparedState
from diffusion_asr.decoding.process import accept, uniform_noise


@dataclass(frozen=True, slots=True)
class SamplerOptions:
    """How to denoise.

    Attributes:
        steps: Exact number of denoising steps, or None to stop each clip when it has settled.
        max_steps: Upper limit when ``steps`` is None.
        entropy_bound: Nats; a larger bound accepts more slots in a step.
    """

    steps: int | None = None
    max_steps: int = 8
    entropy_bound: float = 4.0

    def __post_init__(self) -> None:
        if (self.steps is not None and self.steps < 1) or self.max_steps < 1:
            raise ValueError("at least one denoising step is needed: give steps and max_steps of 1 or more")
        if not self.entropy_bound >= 0:
            raise ValueError(f"entropy_bound must be 0 or more, not {self.entropy_bound}")

    @property
    def limit(self) -> int:
        """The most steps that a clip can take."""
        return self.steps if self.steps is not None else self.max_steps


class UniformSampler:
    """The denoising loop; knows nothing about acoustics or text."""

    def __init__(self, denoiser: Denoiser, vocabulary: int) -> None:
        self.denoiser = denoiser
        self.vocabulary = vocabulary

    @torch.inference_mode()
    def sample(
        self,
        state: PreparedState,
        options: SamplerOptions,
        generator: torch.Generator,
        draft: Tensor | None = None,
        trace: bool = False,
        pieces: Tensor | None = None,
    ) -> list[Denoised]:
        """Denoise a batch.

        Args:
            state: What ``denoiser.prepare`` returned.
            options: Steps and acceptance.
            generator: Source of all randomness; the same seed gives the same result.
            draft: (B, L) first canvas; None starts from pure noise.
            trace: Keep every step.
            pieces: (S,) sorted ids, null first, that the answer may use; None for all.
        """
        slots = state.slot_mask.sum(1)
        noise = uniform_noise(state.slot_mask.shape[1], self.vocabulary, options.limit, generator)
        canvas = noise[0].expand(len(slots), -1) if draft is None else draft
        active = torch.arange(len(slots))
        first: Tensor | None = None
        settled: list[Denoised | None] = [None] * len(slots)
        traces: list[list[TraceStep]] = [[] for _ in settled]
        before = canvas
        for step in range(1, options.limit + 1):
            logits, heard = self.denoiser.denoise(canvas, state, first, pieces)
            first = heard if first is None else first
            confidence, predicted, kept = self._read(logits, state.slot_mask, options)
            predicted = predicted if pieces is None else pieces[predicted]
            following = torch.where(kept, predicted, noise[step])
            stay: list[int] = []
            for row, clip in enumerate(active.tolist()):
                n = int(slots[clip])
                if trace:
                    parts = (x[row, :n].clone() for x in (canvas, predicted, confidence, kept))
                    traces[clip].append(TraceStep(step, *parts))
                still = options.steps is None and _same_text(predicted[row, :n], before[row, :n])
                if step == options.limit or (still and (step > 1 or draft is not None)):
                    settled[clip] = Denoised(
                        predicted[row, :n].clone(), confidence[row, :n].clone(), step, tuple(traces[clip])
                    )
                else:
                    stay.append(row)
            if not stay:
                break
            before, canvas = predicted, following
            if len(stay) < len(active):
                rows = torch.tensor(stay)
                active, canvas, before, first = active[rows], canvas[rows], before[rows], first[rows]
                state = state.select(rows)
        return [clip for clip in settled if clip is not None]

    @staticmethod
    def _read(logits: Tensor, mask: Tensor, options: SamplerOptions) -> tuple[Tensor, Tensor, Tensor]:
        """Confidence, argmax and acceptance of every slot; padding slots are never noise."""
        log_probs = logits.float().log_softmax(-1)
        best, predicted = log_probs.max(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        kept = accept(entropy.masked_fill(~mask, float("inf")), options.entropy_bound)
        return best.exp(), predicted, kept


def _same_text(a: Tensor, b: Tensor) -> bool:
    return [token for token, _, _ in collapse(a)] == [token for token, _, _ in collapse(b)]
