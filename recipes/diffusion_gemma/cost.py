"""What diffusion-gemma-tiny costs beside canvas-base's denoiser: the table of RUNS.md.

CPU time of one thread, not time on the clock, so that a busy machine changes little. Weights do not matter
here: the small model is untrained. The published system's figures are its publishers'.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.loading import load_parts
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.diffusion_gemma.tiny import drafted, new_tiny

# From its model card and its publishers' posts (facts of July 2026); "not stated" where they do not say.
PUBLISHED = (
    "diffusion-gemma-asr-small (theirs)",
    "26 B, 4 B active; 42 M trained",
    "not stated",
    "not stated",
)


def _cpu_ms(work: Callable[[], object], rounds: int) -> float:
    """Median CPU milliseconds, after a warm-up."""
    work()
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - began))
    return statistics.median(taken)


def _row(name: str, model: nn.Module, vocabulary: Vocabulary, seconds: float, rounds: int) -> tuple[str, ...]:
    """Name, parameters, and CPU time of preparing a clip and of a step that scores German's pieces."""
    frames = int(seconds * 50)
    memory = AcousticMemory(torch.randn(1, frames, 512), torch.ones(1, frames, dtype=torch.bool), 50.0)
    pieces = torch.tensor(vocabulary.pieces_for("de"))
    prepare, hidden, logits = model.prepare, model.hidden, model.logits
    with torch.inference_mode():
        state = prepare(memory, ["de"])  # type: ignore[operator]
        canvas = torch.randint(0, len(vocabulary), tuple(state.slots.mask.shape))
        once = _cpu_ms(lambda: prepare(memory, ["de"]), rounds)  # type: ignore[operator]
        step = _cpu_ms(lambda: logits(hidden(canvas, state), pieces), rounds)  # type: ignore[operator]
    count = sum(weight.numel() for weight in model.parameters())
    return name, f"{count / 1e6:.1f} M", f"{once:.0f}", f"{step:.0f}"


def table(seconds: float, rounds: int) -> str:
    """Markdown."""
    parts = load_parts("canvas-base")
    denoiser = find_denoiser(parts)
    tiny_vocabulary = parts.vocabulary.only(drafted(denoiser).tolist())
    head = ("model", "parameters", f"prepare {seconds:g} s, CPU ms", "a step, CPU ms")
    rows = [
        head,
        ("---",) * len(head),
        _row("canvas-base's denoiser", denoiser.float(), parts.vocabulary, seconds, rounds),
        _row("diffusion-gemma-tiny", new_tiny(denoiser).eval(), tiny_vocabulary, seconds, rounds),
        PUBLISHED,
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
