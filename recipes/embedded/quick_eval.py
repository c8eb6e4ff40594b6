"""A few dev clips of each set during training: error after 1, 2 and 4 steps, from noise and from null.

What decodes is the plain diffusion decoder, with its own process. (Logs of runs before 2026-11-27 measured
another one in their columns for 2 and 4 steps: a threshold of 0.6, and conditioning chained from step to
step, which makes every step worse. Nothing follows from them about later steps.)
"""

from __future__ import annotations

from collections.abc import Sequence

import jiwer

from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.decoder import DecodingOptions
from diffusion_asr.decoding.diffusion import DiffusionDecoder, TimeCanvasDenoiser
from diffusion_asr.decoding.options import Start
from diffusion_asr.text.normalise import normalise_basic
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.data import Clip, collate

STEPS = (1, 2, 4)
STARTS: tuple[Start, ...] = ("noise", "null")


def error(references: Sequence[str], hypotheses: Sequence[str], language: str) -> float:
    """WER in per cent; CER for Hindi and Mandarin."""
    rate = jiwer.cer if language in ("hi", "zh") else jiwer.wer
    clean = [[normalise_basic(x, language) for x in xs] for xs in (references, hypotheses)]
    return round(100 * float(rate(clean[0], clean[1])), 1)


def decode(
    model: TimeCanvasDenoiser,
    clips: Sequence[Clip],
    vocabulary: Vocabulary,
    steps: Sequence[int] = STEPS,
    start: Start = "noise",
    device: str = "cpu",
) -> dict[int, list[str]]:
    """Texts after each step count from one kind of first canvas; ``device`` is the model's."""
    decoder = DiffusionDecoder(model, vocabulary)
    out: dict[int, list[str]] = {n: [] for n in steps}
    for clip in clips:
        one = collate([clip]).to(device)
        for count in steps:
            options = DecodingOptions(steps=count, start=start)
            (found,) = decoder.decode(one.memory, one.languages, options)
            out[count].append(vocabulary.decode(read_tokens(found.canvas)))
    return out


def quick_eval(
    model: TimeCanvasDenoiser,
    dev: Sequence[Clip],
    vocabulary: Vocabulary,
    most: int = 10,
    device: str = "cpu",
) -> dict[str, dict[str, list[float]]]:
    """{"en FLEURS": {"noise": [error at 1, 2, 4 steps], "null": [the same]}, …}; prints some texts."""
    out = {}
    for lang, source in sorted({(c.lang, c.source) for c in dev}):
        clips = sorted((c for c in dev if (c.lang, c.source) == (lang, source)), key=lambda c: c.frames)
        clips = clips[:: max(1, len(clips) // most)]
        texts = {start: decode(model, clips, vocabulary, STEPS, start, device) for start in STARTS}
        said = [clip.text for clip in clips]
        out[f"{lang} {source}"] = {
            str(start): [error(said, found[n], lang) for n in STEPS] for start, found in texts.items()
        }
        middle = len(clips) // 2
        print(f"  {lang} {source}: {said[middle][:90]}\n    -> {texts['null'][4][middle][:90]}", flush=True)
    return out
