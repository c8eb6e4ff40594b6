"""Error rates of the letter canvas's likeliest letters on cached dev clips, by set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import jiwer
import torch

from recipes.embedded.data import Clip, collate
from recipes.letters.alphabet import Alphabet, hanzi_of, symbols_of
from recipes.letters.model import TrainedLetterCanvas, collapse, numbers_of


@torch.inference_mode()
def error_rates(
    model: TrainedLetterCanvas, alphabet: Alphabet, clips: Sequence[Clip], device: str = "cpu"
) -> dict[str, float]:
    """Per cent of symbols wrong by language and source: letters, Mandarin sounds, Hanzi (``zh hanzi``)."""
    pairs: dict[str, list[tuple[list[str], list[str]]]] = defaultdict(list)
    for clip in clips:
        states = collate([clip]).memory.states.to(device)
        hidden = model.hidden(states, numbers_of([clip.lang]).to(device))
        written = collapse(model.letters(hidden)[0], alphabet.letters)
        right = symbols_of(clip.text, clip.lang)
        for name in (clip.lang, f"{clip.lang} {clip.source}"):
            pairs[name].append((right, written))
        if clip.lang == "zh":
            pairs["zh hanzi"].append((hanzi_of(clip.text), collapse(model.hanzi(hidden)[0], alphabet.hanzi)))
    return {name: round(rate(found), 2) for name, found in sorted(pairs.items())}


def rate(pairs: Sequence[tuple[list[str], list[str]]]) -> float:
    """Errors per cent of the reference's symbols."""
    kept = [(right, written) for right, written in pairs if right]
    # jiwer counts words: a symbol becomes one; spaces count as letters.
    joined = [tuple(" ".join(s.replace(" ", "␣") for s in side) for side in pair) for pair in kept]
    return 100 * float(jiwer.wer([r for r, _ in joined], [w for _, w in joined]))
