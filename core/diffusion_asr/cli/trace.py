"""``--trace``: the denoising of each window, step by step, for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusion_asr.decoding.canvas import TraceStep
    from diffusion_asr.decoding.decoder import Hypothesis
    from diffusion_asr.text.vocabulary import Vocabulary


def trace_lines(start: float, hypothesis: Hypothesis, vocabulary: Vocabulary) -> Iterator[str]:
    """A heading for the window, then one line for each step.

    Args:
        start: Seconds from the start of the recording to the window.
        hypothesis: With a trace.
        vocabulary: Spells the tokens.
    """
    steps = hypothesis.denoised.steps
    yield f"at {start:.2f} s: language {hypothesis.language}, {steps} {'step' if steps == 1 else 'steps'}"
    for step in hypothesis.denoised.trace:
        yield _line(step, vocabulary)


def _line(step: TraceStep, vocabulary: Vocabulary) -> str:
    from diffusion_asr.decoding.canvas import collapse

    accepted = confidence = 0.0
    if len(step.predicted):
        accepted = float(step.accepted.float().mean())
        confidence = float(step.confidence.float().mean())
    text = vocabulary.decode(token for token, _, _ in collapse(step.predicted)) or "(nothing)"
    return f"  step {step.step:2}  accepted {accepted:4.0%}  confidence {confidence:.2f}  {text}"
