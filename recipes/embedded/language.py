"""Train the language posterior on cached acoustic states: random cuts of 1 to 12 s, languages balanced."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.acoustics.language import LanguagePosterior
from diffusion_asr.languages import LANGUAGES
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.data import Clip, collate, load


def _cut(clip: Clip, rng: random.Random) -> Clip:
    size = min(clip.frames, rng.randint(50, 600))
    first = rng.randint(0, clip.frames - size)
    return Clip(clip.states, clip.offset + first, size, clip.text, clip.lang, clip.source, [])


def accuracy(model: LanguagePosterior, clips: Sequence[Clip]) -> dict[str, float]:
    """Share of whole clips whose language is found, by set."""
    right: dict[str, list[bool]] = {}
    with torch.inference_mode():
        for clip in clips:
            found = int(model(collate([clip]).memory).argmax())
            right.setdefault(f"{clip.lang} {clip.source}", []).append(LANGUAGES[found] == clip.lang)
    return {name: round(sum(x) / len(x), 3) for name, x in sorted(right.items())}


def train_language(work: Path, caches: list[Path], steps: int = 1500, seed: int = 3) -> dict[str, float]:
    """Write ``work/model/language.safetensors``; returns dev accuracies."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    vocabulary = Vocabulary.load(work / "model/vocabulary.json")
    clips = [c for c in load(caches, vocabulary, 1) if c.text]
    pools = {x: [c for c in clips if c.lang == x] for x in LANGUAGES}
    model = LanguagePosterior(512, LANGUAGES)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    for step in range(steps):
        drawn = [_cut(rng.choice(pools[x]), rng) for x in LANGUAGES for _ in range(4)]
        memory = collate(drawn).memory
        noisy = memory.states + 0.1 * torch.randn_like(memory.states)
        scores = model(AcousticMemory(noisy, memory.mask, memory.frame_rate))
        truth = torch.tensor([LANGUAGES.index(c.lang) for c in drawn])
        loss = F.nll_loss(scores, truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 300 == 0:
            print(f"language step {step} loss {loss.item():.3f}", flush=True)
    save_file(model.state_dict(), work / "model/language.safetensors")
    return accuracy(model.eval(), load([work / "cache/dev.jsonl"], vocabulary, 1))
