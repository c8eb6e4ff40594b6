"""The canvas denoiser's drafts of every cached clip: what the refiner learns to repair."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from diffusion_asr.pretrained import load_parts
from diffusion_asr.sampler import collapse
from recipes.embedded.data import collate, load


@torch.inference_mode()
def write_drafts(work: Path, model: str, shard: str, batch: int = 8) -> None:
    """``work/cache/SHARD.drafts.jsonl``: ``{"offset": …, "ids": […]}`` for each clip; resumable."""
    parts = load_parts(model)
    out = work / f"cache/{shard}.drafts.jsonl"
    done = {json.loads(x)["offset"] for x in out.read_text().splitlines()} if out.exists() else set()
    slots = parts.denoiser.config.slot_frames
    clips = [
        c for c in load([work / f"cache/{shard}.jsonl"], parts.vocabulary, slots) if c.offset not in done
    ]
    pieces = {k: torch.tensor(parts.vocabulary.pieces_for(k)) for k in parts.denoiser.config.languages}
    generator = torch.Generator().manual_seed(0)
    order = [clips[i] for i in torch.randperm(len(clips), generator=generator).tolist()]
    with out.open("a", encoding="utf8") as file:
        for start in range(0, len(order), batch):
            for clip in order[start : start + batch]:
                one = collate([clip])
                state = parts.denoiser.prepare(one.memory, one.languages)
                logits, _ = parts.denoiser.denoise(
                    torch.zeros(state.slot_mask.shape, dtype=torch.long), state, pieces=pieces[clip.lang]
                )
                canvas = pieces[clip.lang][logits[0].argmax(-1)]
                ids = [token for token, _, _ in collapse(canvas)]
                file.write(json.dumps({"offset": clip.offset, "ids": ids}) + "\n")
            file.flush()
