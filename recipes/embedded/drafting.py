"""The canvas denoiser's drafts of every cached clip, with slots: what the refiner learns to repair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from diffusion_asr.alignment import forced_canvas
from diffusion_asr.denoiser import CanvasDenoiser
from diffusion_asr.pretrained import load_parts
from diffusion_asr.refiner import Anchored
from diffusion_asr.sampler import collapse
from recipes.embedded.data import Clip, collate, load

Draft = tuple[list[Anchored], list[Anchored]]  # what the denoiser wrote, and the text at its slots


@torch.inference_mode()
def draft(denoiser: CanvasDenoiser, clip: Clip, pieces: Tensor) -> Draft:
    """The denoiser's first step on a clip, and forced alignment of its text by the same distributions."""
    one = collate([clip])
    state = denoiser.prepare(one.memory, one.languages)
    nothing = torch.zeros(state.slot_mask.shape, dtype=torch.long)
    logits, _ = denoiser.denoise(nothing, state, pieces=pieces)
    log_probs = logits.float().log_softmax(-1)
    written = [Anchored(token, slot) for token, slot, _ in collapse(pieces[log_probs[0].argmax(-1)])]
    known = set(pieces.tolist())
    ids = [i for i in clip.ids if i in known]
    if not ids:
        return written, []
    targets = torch.searchsorted(pieces, torch.tensor([ids]))
    slots, count = torch.tensor([log_probs.shape[1]]), torch.tensor([len(ids)])
    aligned = collapse(pieces[forced_canvas(log_probs, slots, targets, count)[0]])
    return written, [Anchored(token, slot) for token, slot, _ in aligned]


def write_drafts(work: Path, model: str, shard: str) -> None:
    """``work/cache/SHARD.drafts.jsonl``: ``{"offset", "draft", "text"}`` for each clip; resumable."""
    parts = load_parts(model)
    out = work / f"cache/{shard}.drafts.jsonl"
    done = {json.loads(x)["offset"] for x in out.read_text().splitlines()} if out.exists() else set()
    slots = parts.denoiser.config.slot_frames
    clips = [
        c for c in load([work / f"cache/{shard}.jsonl"], parts.vocabulary, slots) if c.offset not in done
    ]
    pieces = {k: torch.tensor(parts.vocabulary.pieces_for(k)) for k in parts.denoiser.config.languages}
    generator = torch.Generator().manual_seed(0)
    with out.open("a", encoding="utf8") as file:
        for i in torch.randperm(len(clips), generator=generator).tolist():
            clip = clips[i]
            written, text = draft(parts.denoiser, clip, pieces[clip.lang])
            file.write(json.dumps({"offset": clip.offset, "draft": written, "text": text}) + "\n")
            file.flush()


def read_drafts(shards: Sequence[Path]) -> Iterator[tuple[tuple[str, int], Draft]]:
    """((shard, offset), draft) of every clip of these shards that has one; a torn last line is left out."""
    for shard in shards:
        path = shard.with_name(shard.stem + ".drafts.jsonl")
        for line in path.read_text().rpartition("\n")[0].splitlines() if path.exists() else ():
            row = json.loads(line)
            yield (
                (shard.stem, row["offset"]),
                ([Anchored(*x) for x in row["draft"]], [Anchored(*x) for x in row["text"]]),
            )
