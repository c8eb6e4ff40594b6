"""The canvas denoiser's drafts of every cached clip, and when its text is said, for the refiner."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.canvas import collapse_canvas
from diffusion_asr.loading import load_parts
from diffusion_asr.models.tuned import find_denoiser
from recipes.embedded.data import collate, load

_LEAST = -15.0  # log-probability of a token that the draft did not think of at all


@torch.inference_mode()
def write_drafts(work: Path, model: str, shard: str, batch: int = 8) -> None:
    """``work/cache/SHARD.drafts.jsonl``: a line for each clip; resumable.

    ``{"offset": …, "runs": [[token, first slot, last slot], …], "text": [slot, …]}``: the draft, and the
    first slot of each token of the clip's text by forced alignment.
    """
    parts = load_parts(model)
    out = work / f"cache/{shard}.drafts.jsonl"
    done = {json.loads(x)["offset"] for x in out.read_text().splitlines()} if out.exists() else set()
    denoiser = find_denoiser(parts)
    size = denoiser.config.slot_frames
    clips = [c for c in load([work / f"cache/{shard}.jsonl"], parts.vocabulary, size) if c.offset not in done]
    pieces = {k: torch.tensor(parts.vocabulary.pieces_for(k)) for k in denoiser.config.languages}
    generator = torch.Generator().manual_seed(0)
    order = [clips[i] for i in torch.randperm(len(clips), generator=generator).tolist()]
    with out.open("a", encoding="utf8") as file:
        for start in range(0, len(order), batch):
            for clip in order[start : start + batch]:
                one = collate([clip])
                state = denoiser.prepare(one.memory, one.languages)
                hidden = denoiser.hidden(denoiser.null_canvas(state), state)
                log_probs = (
                    denoiser.logits(hidden, pieces[clip.lang]).float().log_softmax(-1).clamp(min=_LEAST)
                )
                targets = torch.searchsorted(pieces[clip.lang], one.targets).clamp(
                    max=len(pieces[clip.lang]) - 1
                )
                slots = torch.tensor([log_probs.shape[1]])
                said = align_canvas(log_probs, slots, targets, one.counts)[0]
                row = {
                    "offset": clip.offset,
                    "runs": collapse_canvas(pieces[clip.lang][log_probs[0].argmax(-1)]),
                    "text": [first for _, first, _ in collapse_canvas(said)],
                }
                file.write(json.dumps(row) + "\n")
            file.flush()
