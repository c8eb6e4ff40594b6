"""DiffusionGemma's own denoising loop over a token canvas, as ``generate`` runs it, on any canvas length.

Every step: temperature falls linearly; slots are accepted in order of entropy up to a bound, the others
redrawn uniformly (entropy-bounded sampling, Ben-Hamu et al. 2025); the answer is the argmax canvas of the
last step. A clip stops when its argmax canvas is stable and its mean entropy low; the rest of the batch goes
on. With the same seed and settings the result equals that of transformers 5.23 exactly (a test shows it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffusion_asr.decoding.canvas import Denoised, TraceStep
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser, GemmaState


@dataclass(frozen=True, slots=True)
class GemmaSamplerOptions:
    """How to denoise; the defaults are those of transformers.

    Attributes:
        steps: At most so many.
        entropy_bound: Nats of entropy that a step accepts.
        t_min: Temperature towards the last step.
        t_max: Temperature of the first.
        stable: Steps over which the argmax canvas must stay the same; 0 asks for confidence alone.
        confident: Nats; a clip may stop when its mean entropy is lower. None never stops early.
    """

    steps: int = 48
    entropy_bound: float = 0.1
    t_min: float = 0.4
    t_max: float = 0.8
    stable: int = 1
    confident: float | None = 0.005

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("at least one denoising step is needed")
        if not 0 < self.t_min < self.t_max:
            raise ValueError(f"temperatures must be 0 < t_min < t_max, not {self.t_min} and {self.t_max}")
        if self.entropy_bound < 0 or self.stable < 0:
            raise ValueError(f"entropy_bound and stable must be 0 or more: {self}")

    def temperature(self, left: int) -> Tensor:
        """With ``left`` steps to go, this one included; in float32, as transformers rounds it."""
        return self.t_min + (self.t_max - self.t_min) * (torch.tensor(left) / self.steps)


class GemmaSampler:
    """The loop; knows nothing about acoustics or text."""

    def __init__(self, denoiser: DiffusionGemmaDenoiser) -> None:
        self.denoiser = denoiser

    @torch.inference_mode()
    def sample(
        self,
        state: GemmaState,
        options: GemmaSamplerOptions,
        generator: torch.Generator,
        draft: Tensor | None = None,
        trace: bool = False,
    ) -> list[Denoised]:
        """Denoise a batch.

        Args:
            state: What ``denoiser.prepare`` returned.
            options: See there.
            generator: Source of all randomness, on the CPU.
            draft: (B, L) first canvas; None starts from pure noise.
            trace: Keep every step.
        """
        clips, length = state.slot_mask.shape
        noise = _Noise(self.denoiser, (clips, length), generator)
        canvas = noise.canvas() if draft is None else draft.to(self.denoiser.device)
        done = torch.zeros(clips, dtype=torch.bool, device=canvas.device)
        settled = _Settled(options.stable)
        steps = torch.zeros(clips, dtype=torch.long, device=canvas.device)
        answer, sure, previous = canvas, canvas.new_zeros(canvas.shape, dtype=torch.float), None
        traces: list[list[TraceStep]] = [[] for _ in range(clips)]
        for left in range(options.steps, 0, -1):
            hidden = self.denoiser.hidden(canvas, state, previous)
            logits = self.denoiser.logits(hidden)
            confidence = logits.softmax(-1).amax(-1)
            logits = logits / options.temperature(left)
            drawn = noise.draw(logits)
            predicted, entropy = logits.argmax(-1), _entropy(logits)
            kept = _accepted(entropy, options.entropy_bound)
            following = torch.where(kept, drawn, noise.canvas())
            steps += ~done
            if trace:
                _note(traces, done, int(steps.max()), canvas, predicted, confidence, kept)
            fresh = ~done[:, None]
            answer = torch.where(fresh, predicted, answer)
            sure = torch.where(fresh, confidence, sure)
            canvas = torch.where(fresh, following, canvas)
            soft = self.denoiser.soften(logits)
            previous = soft if previous is None else torch.where(fresh[..., None], soft, previous)
            calm = entropy.mean(-1)
            if options.confident is not None:
                done = done | (settled(answer) & (calm < options.confident))
            if bool(done.all()):
                break
        return [
            Denoised(answer[n].cpu(), sure[n].cpu(), int(steps[n]), tuple(traces[n])) for n in range(clips)
        ]


class _Noise:
    """Uniform canvases and samples, drawn where the canvas lives."""

    def __init__(
        self, denoiser: DiffusionGemmaDenoiser, shape: tuple[int, int], generator: torch.Generator
    ) -> None:
        self.shape, self.size, self.device = shape, denoiser.vocabulary, denoiser.device
        if self.device.type != generator.device.type:
            seed = int(torch.randint(2**62, (1,), generator=generator))
            generator = torch.Generator(self.device).manual_seed(seed)
        self.generator = generator

    def canvas(self) -> Tensor:
        return torch.randint(0, self.size, self.shape, generator=self.generator, device=self.device)

    def draw(self, logits: Tensor) -> Tensor:
        chances = logits.softmax(dim=-1, dtype=torch.float32).flatten(0, 1)
        return torch.multinomial(chances, 1, generator=self.generator).view(self.shape)


class _Settled:
    """Which clips' argmax canvases were the same over the last steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.history: list[Tensor] = []

    def __call__(self, answer: Tensor) -> Tensor:
        same = torch.full((len(answer),), len(self.history) >= self.steps, device=answer.device)
        for earlier in self.history:
            same = same & (earlier == answer).all(-1)
        self.history = [*self.history, answer][-self.steps :] if self.steps else []
        return same


def _accepted(entropy: Tensor, bound: float) -> Tensor:
    """``sampler.accept`` with transformers' order of operations: rounding decides at the bound."""
    ordered, order = entropy.sort(dim=-1)
    return torch.zeros_like(order, dtype=torch.bool).scatter(-1, order, ordered.cumsum(-1) - ordered <= bound)


def _entropy(logits: Tensor) -> Tensor:
    """As ``torch.distributions.Categorical`` computes it, so that ties and bounds fall alike."""
    log_probs = logits - logits.logsumexp(dim=-1, keepdim=True)
    log_probs = log_probs.clamp(min=torch.finfo(logits.dtype).min)
    return -(log_probs * log_probs.softmax(-1)).sum(-1)


def _note(
    traces: list[list[TraceStep]],
    done: Tensor,
    step: int,
    canvas: Tensor,
    predicted: Tensor,
    confidence: Tensor,
    kept: Tensor,
) -> None:
    """One more step of every clip that has not stopped."""
    for clip, trace in enumerate(traces):
        if not bool(done[clip]):
            trace.append(TraceStep(step, *(x[clip].cpu() for x in (canvas, predicted, confidence, kept))))
