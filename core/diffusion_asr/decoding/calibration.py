"""What was fitted after training: confidence of words, and by how much the canvas runs ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass

RAMP = 1.2  # seconds from a clip's start in which its canvas comes to run ahead


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted after training; the default changes nothing.

    Attributes:
        a: Platt scaling of a word's probability, p' = sigmoid(a * logit(p) + b).
        b: See ``a``.
        lag: Seconds by which a slot's words are heard after the slot's own time.
    """

    a: float = 1.0
    b: float = 0.0
    lag: float = 0.0

    def __call__(self, log_probability: float) -> float:
        """Confidence in [0, 1] of a word whose tokens have this mean log-probability."""
        p = min(max(math.exp(min(log_probability, 0.0)), 1e-6), 1 - 1e-6)
        x = self.a * math.log(p / (1 - p)) + self.b
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, x))))


def shift_to_speech(seconds: float, lag: float) -> float:
    """When the words of a slot are heard, both in seconds from the clip's start.

    A denoiser that attends both ways and is trained with CTC is free to write a word down before it is said
    (CTC's alignments drift: Sak et al. 2015); canvas-base does, by a constant lag after the first words.
    """
    return seconds + lag * min(1.0, max(0.0, seconds) / RAMP)
