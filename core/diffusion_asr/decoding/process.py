"""The diffusion process over a canvas: uniform noise, a first canvas, what a step accepts, when to stop.

Each step predicts every slot at once. Slots are accepted in order of entropy while the sum of the entropies
accepted before stays under a bound (entropy-bounded unmasking, Ben-Hamu et al. 2025); all others are redrawn
uniformly for the next step. The answer is the likeliest canvas of a clip's last step.

Decoders, training objectives and evaluation all use these parts; what a model does in its own way (noise,
temperature, conditioning, stopping) is a part that is exchanged, not another loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from diffusion_asr.decoding.canvas import NULL, Slots, read_tokens
from diffusion_asr.decoding.decoder import DecodingOptions, TraceStep


class CanvasState(Protocol):
    """What stays the same over all denoising steps of a batch."""

    @property
    def slots(self) -> Slots:
        """Where in time the canvas has its slots."""
        ...


class Denoiser(Protocol):
    """A network that turns a noisy canvas into a distribution over clean ones."""

    def hidden(self, canvas: Tensor, state: Any, previous: Tensor | None = None) -> Tensor:
        """One pass over a canvas (B, L), to (B, L, D); ``previous`` is what ``conditioning`` gave."""
        ...

    def logits(self, hidden: Tensor, pieces: Tensor | None = None) -> Tensor:
        """(B, L, D) to (B, L, V), or to (B, L, S) for the sorted ids ``pieces`` (S,), null first."""
        ...

    def conditioning(self, hidden: Tensor, logits: Tensor, pieces: Tensor | None = None) -> Tensor:
        """What a later pass is told of this one (self-conditioning: Chen et al. 2023)."""
        ...


class Noise(Protocol):
    """Where all randomness of a decoding comes from."""

    def canvas(self, step: int) -> Tensor:
        """Uniform ids (B, L), or (1, L) for all clips, that come in after ``step`` (0: the first canvas)."""
        ...

    def draw(self, step: int, logits: Tensor) -> Tensor:
        """(B, L) places drawn from logits (B, L, V)."""
        ...


class SlotNoise:
    """Noise that depends on seed, step and slot alone: a clip meets the same noise in any batch.

    It is drawn on the CPU, so that a seed means the same noise on every device.
    """

    def __init__(self, seed: int, length: int, size: int) -> None:
        self.seed, self.length, self.size = seed, length, size

    def _stream(self, step: int, use: int = 0) -> torch.Generator:
        seeds = torch.randint(2**62, (step + 1,), generator=torch.Generator().manual_seed(self.seed))
        return torch.Generator().manual_seed(int(seeds[step]) ^ use)

    def canvas(self, step: int) -> Tensor:
        """See ``Noise.canvas``; a shorter canvas sees a prefix of the same noise."""
        return torch.randint(self.size, (1, self.length), generator=self._stream(step))

    def draw(self, step: int, logits: Tensor) -> Tensor:
        """See ``Noise.draw``, by the Gumbel trick, with the same noise for every clip."""
        uniform = torch.rand(logits.shape[1:], generator=self._stream(step, 1)).clamp(1e-9, 1 - 1e-7)
        return (logits - (-uniform.log()).log().to(logits.device)).argmax(-1)


Temperature = Callable[[int], Tensor | float]  # of a step, from the number of steps that are left with it
StopRule = Callable[[Tensor, Tensor], Tensor]  # answers and entropies (B, L) to (B,) whether a clip is done


@dataclass(frozen=True)
class DiffusionProcess:
    """The exchangeable parts.

    Attributes:
        noise: See there.
        entropy_bound: Nats; see ``accept_slots``.
        temperature: None takes the likeliest tokens on to the next step; else they are drawn.
        chained: Condition a step on the one before it; else on the first step throughout. (canvas-base is
            trained on two unrolled steps: chained, it gets worse with every step.)
        stop: None goes on to the limit.
    """

    noise: Noise
    entropy_bound: float
    temperature: Temperature | None = None
    chained: bool = False
    stop: StopRule | None = None


class DenoisedRows(NamedTuple):
    """The last canvases of a batch."""

    canvas: Tensor  # (B, L)
    confidence: Tensor  # (B, L)
    passes: list[int]
    traces: list[list[TraceStep]]


@torch.inference_mode()
def denoise_canvas(
    denoiser: Denoiser,
    state: CanvasState,
    canvas: Tensor,
    process: DiffusionProcess,
    limit: int,
    pieces: Tensor | None = None,
    trace: bool = False,
) -> DenoisedRows:
    """At most ``limit`` denoising steps over a batch; a clip that is done stays as it is.

    Args:
        denoiser: The network.
        state: Of a batch.
        canvas: (B, L) first canvases.
        process: How.
        limit: Steps.
        pieces: (S,) sorted ids, null first, that the answer may use; None for all.
        trace: Keep every step.
    """
    mask = state.slots.mask.to(canvas.device)
    done = torch.zeros(len(canvas), dtype=torch.bool, device=canvas.device)
    answer, sure, previous = canvas, torch.zeros(canvas.shape, device=canvas.device), None
    passes, traces = [0] * len(canvas), [[] for _ in canvas]  # type: tuple[list[int], list[list[TraceStep]]]
    for step in range(1, limit + 1):
        hidden = denoiser.hidden(canvas, state, previous)
        logits = denoiser.logits(hidden, pieces).float()
        confidence = (logits.amax(-1) - logits.logsumexp(-1)).exp()
        if process.temperature is not None:
            logits = logits / process.temperature(limit - step + 1)
        best = logits.argmax(-1)
        drawn = best if process.temperature is None else process.noise.draw(step, logits)
        predicted, drawn = (best, drawn) if pieces is None else (pieces[best], pieces[drawn])
        entropy = compute_entropy(logits)
        kept = accept_slots(entropy.masked_fill(~mask, torch.inf), process.entropy_bound)
        fresh = ~done[:, None]
        answer, sure = torch.where(fresh, predicted, answer), torch.where(fresh, confidence, sure)
        for clip in (~done).nonzero().flatten().tolist():
            passes[clip] = step
            if trace:
                used = mask[clip]
                rows = (x[clip][used].cpu() for x in (canvas, predicted, confidence, kept))
                traces[clip].append(TraceStep("parallel", step, *rows))
        if process.stop is not None:
            done = done | process.stop(answer, entropy)
        if step == limit or bool(done.all()):
            break
        if process.chained or previous is None:
            previous = denoiser.conditioning(hidden, logits, pieces)
        noise = process.noise.canvas(step).to(canvas.device)
        canvas = torch.where(fresh, torch.where(kept, drawn, noise), canvas)
    return DenoisedRows(answer.cpu(), sure.cpu(), passes, traces)


def compute_entropy(logits: Tensor) -> Tensor:
    """(…, V) to (…,) nats, as ``torch.distributions.Categorical`` computes it."""
    log_probs = logits - logits.logsumexp(dim=-1, keepdim=True)
    log_probs = log_probs.clamp(min=torch.finfo(logits.dtype).min)
    return -(log_probs * log_probs.softmax(-1)).sum(-1)


def accept_slots(entropy: Tensor, bound: float) -> Tensor:
    """Slots to keep, (…, L) bool: lowest entropies first while those before sum to at most ``bound``.

    The most certain slot is always kept, so every step makes progress; infinite entropy never is.
    """
    ordered, order = entropy.sort(dim=-1, stable=True)
    # Small entropies drown in the sum: a slot is kept only if all surer ones are.
    keep = ((ordered.cumsum(-1) - ordered <= bound) & ordered.isfinite()).cummin(-1).values
    return torch.zeros_like(keep).scatter(-1, order, keep)


def corrupt_canvas(canvas: Tensor, share: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The forward process: uniform ids below ``size`` in some slots, and which they are.

    Args:
        canvas: (B, L) clean.
        share: (B, 1) of the slots.
        size: Of the vocabulary.
    """
    chosen = torch.rand(canvas.shape, device=canvas.device) < share
    return torch.where(chosen, torch.randint_like(canvas, size), canvas), chosen


def read_given_canvas(options: DecodingOptions, clip: int, slots: int) -> Tensor | None:
    """The first canvas (1, slots) that a call gives for one clip, nulls at its end; None if it gives none.

    Raises:
        ValueError: No canvas for this clip, or one that is longer than the clip.
    """
    if isinstance(options.start, str):
        return None
    if clip >= len(options.start):
        raise ValueError(f"start holds {len(options.start)} canvases: give one for each clip")
    given = options.start[clip]
    if len(given) > slots:
        raise ValueError(f"start's canvas {clip} has {len(given)} slots, the clip {slots}: give no more")
    return torch.tensor([[*given, *[NULL] * (slots - len(given))]], dtype=torch.long)


def draw_first_canvases(
    clips: int, length: int, size: int, null_share: float, device: torch.device | None = None
) -> Tensor:
    """First canvases (B, L) for training: uniform noise, but all null for some clips."""
    noise = torch.randint(0, size, (clips, length), device=device)
    return torch.where(torch.rand(clips, 1, device=device) < null_share, 0, noise)


class TextRepeats:
    """Done when a clip's collapsed text is that of the step before (of the first canvas, if it is known)."""

    def __init__(self, mask: Tensor, first: Tensor | None = None) -> None:
        """``mask`` (B, L) tells real slots; ``first`` (B, L) is a first canvas that is no noise."""
        self.mask = mask
        self.before = None if first is None else self._texts(first)

    def _texts(self, canvases: Tensor) -> list[list[int]]:
        return [read_tokens(row[used]) for row, used in zip(canvases, self.mask, strict=True)]

    def __call__(self, answer: Tensor, entropy: Tensor) -> Tensor:
        """See ``StopRule``."""
        before, self.before = self.before, self._texts(answer)
        same = [False] * len(answer) if before is None else map(list.__eq__, before, self.before)
        return torch.tensor(list(same), device=answer.device)


class StableAndSure:
    """Done when the canvas was the same over ``steps`` steps and its mean entropy is below ``confident``."""

    def __init__(self, steps: int, confident: float) -> None:
        self.steps, self.confident = steps, confident
        self.history: list[Tensor] = []

    def __call__(self, answer: Tensor, entropy: Tensor) -> Tensor:
        """See ``StopRule``."""
        same = torch.full((len(answer),), len(self.history) >= self.steps, device=answer.device)
        for earlier in self.history:
            same = same & (earlier == answer).all(-1)
        self.history = [*self.history, answer][-self.steps :] if self.steps else []
        return same & (entropy.mean(-1) < self.confident)
