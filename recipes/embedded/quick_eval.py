"""A few dev clips of each set during training: error after 1, 2 and 4 steps from pure noise."""

from __future__ import annotations

from collections.abc import Sequence

import jiwer
import torch

from diffusion_asr.decoding.canvas import collapse
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.text.normalise import basic
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.data import Clip, collate

STEPS = (1, 2, 4)


def error(references: Sequence[str], hypotheses: Sequence[str], language: str) -> float:
    """WER in per cent; CER for Hindi and Mandarin."""
    rate = jiwer.cer if language in ("hi", "zh") else jiwer.wer
    clean = [[basic(x, language) for x in xs] for xs in (references, hypotheses)]
    return round(100 * float(rate(clean[0], clean[1])), 1)


@torch.inference_mode()
def decode(
    model: CanvasDenoiser, clips: Sequence[Clip], vocabulary: Vocabulary, keep: float = 0.6
) -> dict[int, list[str]]:
    """Texts after each step count, from noise; slots below ``keep`` are drawn anew."""
    out: dict[int, list[str]] = {n: [] for n in STEPS}
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(clips), 8):
        batch = collate(clips[start : start + 8])
        state = model.prepare(batch.memory, batch.languages)
        slots = state.slot_mask.sum(1).tolist()
        canvas = torch.randint(0, len(vocabulary), state.slot_mask.shape, generator=generator)
        hidden = None
        for step in range(1, max(STEPS) + 1):
            logits, hidden = model.denoise(canvas, state, hidden)
            sure, best = logits.float().softmax(-1).max(-1)
            if step in STEPS:
                for row, n in zip(best, slots, strict=True):
                    out[step].append(vocabulary.decode(token for token, _, _ in collapse(row[:n])))
            noise = torch.randint(0, len(vocabulary), canvas.shape, generator=generator)
            canvas = torch.where(sure > keep, best, noise)
    return out


def quick_eval(
    model: CanvasDenoiser, dev: Sequence[Clip], vocabulary: Vocabulary, most: int = 10
) -> dict[str, list[float]]:
    """{"en FLEURS": [error at 1, 2, 4 steps], …}; the first hypothesis of each set is printed."""
    out = {}
    for lang, source in sorted({(c.lang, c.source) for c in dev}):
        clips = sorted((c for c in dev if (c.lang, c.source) == (lang, source)), key=lambda c: c.frames)
        clips = clips[:: max(1, len(clips) // most)]
        texts = decode(model, clips, vocabulary)
        out[f"{lang} {source}"] = [error([c.text for c in clips], texts[n], lang) for n in STEPS]
        print(
            f"  {lang} {source}: {clips[len(clips) // 2].text[:90]}\n    -> {texts[4][len(clips) // 2][:90]}",
            flush=True,
        )
    return out
