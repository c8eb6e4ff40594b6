"""``--trace``: the decoding of each window, pass by pass, for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusion_asr.decoding.decoder import Hypothesis, TraceStep
    from diffusion_asr.text.vocabulary import Vocabulary


def trace_lines(start: float, hypothesis: Hypothesis, vocabulary: Vocabulary) -> Iterator[str]:
    """A heading for the window, then one line for each pass.

    Args:
        start: Seconds from the start of the recording to the window.
        hypothesis: With a trace.
        vocabulary: Spells the tokens.
    """
    found = hypothesis.decoded
    counts = [
        f"{count} {kind} pass{'' if count == 1 else 'es'}"
        for kind, count in (
            ("parallel", found.parallel_passes),
            ("causal", found.causal_passes),
            ("timing", found.timing_passes),
        )
        if count
    ]
    yield f"at {start:.2f} s: language {hypothesis.language}, {', '.join(counts) or 'no pass'}"
    for step in found.trace:
        yield _line(step, vocabulary)


def _line(step: TraceStep, vocabulary: Vocabulary) -> str:
    from diffusion_asr.decoding.canvas import read_tokens

    accepted = confidence = 0.0
    if len(step.predicted):
        accepted = float(step.accepted.float().mean())
        confidence = float(step.confidence.float().mean())
    text = vocabulary.decode(read_tokens(step.predicted)) or "(nothing)"
    return (
        f"  pass {step.step:2}  {step.kind:8}  accepted {accepted:4.0%}  confidence {confidence:.2f}  {text}"
    )
