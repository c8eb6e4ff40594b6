"""DiffusionGemma's own diffusion process, as transformers' ``generate`` runs it, in the parts of ours.

Temperature falls linearly; tokens that go on are drawn; a step is conditioned on the one before it; a clip
stops when its canvas is stable and its mean entropy low. With the same seed and settings the result equals
that of transformers 5.23 exactly (a test shows it).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diffusion_asr.decoding.decoder import DecodingOptions
from diffusion_asr.decoding.process import DiffusionProcess, Noise, StableAndSure


@dataclass(frozen=True, slots=True)
class GemmaSampling:
    """How to denoise; the defaults are those of transformers.

    Attributes:
        steps: At most so many.
        entropy_bound: Nats of entropy that a step accepts.
        t_min: Temperature towards the last step.
        t_max: Temperature of the first.
        stable: Steps over which the likeliest canvas must stay the same; 0 asks for confidence alone.
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
        if not 0 < self.t_min <= self.t_max:
            raise ValueError(f"temperatures must be 0 < t_min <= t_max, not {self.t_min} and {self.t_max}")
        if self.entropy_bound < 0 or self.stable < 0:
            raise ValueError(f"entropy_bound and stable must be 0 or more: {self}")

    def temperature(self, left: int) -> Tensor:
        """With ``left`` steps to go, this one included; in float32, as transformers rounds it."""
        return self.t_min + (self.t_max - self.t_min) * (torch.tensor(left) / self.steps)

    def with_options(self, options: DecodingOptions) -> GemmaSampling:
        """What a call asks for; a given number of steps is taken in full.

        Raises:
            ValueError: A temperature of 0: here tokens are drawn.
        """
        asked = self
        if options.steps is not None:
            asked = replace(asked, steps=options.steps, confident=None)
        elif options.max_steps is not None:
            asked = replace(asked, steps=options.max_steps)
        if options.entropy_bound is not None:
            asked = replace(asked, entropy_bound=options.entropy_bound)
        if options.temperature is not None:
            asked = replace(asked, t_min=options.temperature, t_max=options.temperature)
        return asked

    def process(self, noise: Noise) -> DiffusionProcess:
        """The parts, for one batch."""
        stop = None if self.confident is None else StableAndSure(self.stable, self.confident)
        return DiffusionProcess(noise, self.entropy_bound, self.temperature, chained=True, stop=stop)


class SequentialNoise:
    """One stream of uniform canvases and samples in the order in which they are asked for."""

    def __init__(
        self, shape: tuple[int, int], size: int, generator: torch.Generator, device: torch.device
    ) -> None:
        """``generator`` is on the CPU; elsewhere another one is seeded by it, where the canvas lives."""
        self.shape, self.size, self.device = shape, size, device
        if device.type != generator.device.type:
            seed = int(torch.randint(2**62, (1,), generator=generator))
            generator = torch.Generator(device).manual_seed(seed)
        self.generator = generator

    def canvas(self, step: int) -> Tensor:
        """See ``Noise.canvas``."""
        return torch.randint(0, self.size, self.shape, generator=self.generator, device=self.device)

    def draw(self, step: int, logits: Tensor) -> Tensor:
        """See ``Noise.draw``."""
        chances = logits.softmax(dim=-1, dtype=torch.float32).flatten(0, 1)
        return torch.multinomial(chances, 1, generator=self.generator).view(self.shape)
