"""Train ``diffusion-gemma-tiny`` on cached acoustic states.

At first canvas-base guides: it says where each token of a text is spoken, and the canvas with some slots
redrawn uniformly is to be restored (uniform diffusion, cross-entropy), and its own final states are to be
imitated in every slot (distillation: Sanh et al. 2019). This spares the plateau of CTC from random weights.
CTC over the denoised canvas is there from the beginning and stays alone at the end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.objective import CONDITIONED
from diffusion_asr.decoding.process import corrupt_canvas
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser, GemmaState
from diffusion_asr.diffusion_gemma.objective import draw_noise_level
from diffusion_asr.loading import load_parts
from diffusion_asr.models.canvas import compute_dtype
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.diffusion_gemma.tiny import drafted, new_tiny
from recipes.embedded.data import Batch, Clip, batches, collate, load, training_shards
from recipes.embedded.quick_eval import decode, error
from recipes.embedded.run import Run, RunOptions
from recipes.embedded.training import SHARES, Pieces, ctc


@dataclass
class TinyOptions(RunOptions):
    """Everything that decides a run.

    Attributes:
        frames: Padded encoder frames in a batch (50 a second).
        guided: Steps over which the weight of what canvas-base says falls from 1 to 0.
        imitated: Weight of its states against the aligned canvases.
        heard: Weight of CTC on the projector; 0 leaves it out (the ablation).
        canvas_ctc: Whether CTC over the denoised canvas is trained.
    """

    frames: int = 2400
    lr: float = 1e-3
    lr_known: float = 3e-4  # what canvas-base brings
    guided: int = 1500
    imitated: float = 20.0
    heard: float = 0.3
    canvas_ctc: bool = True
    conditioned_after: int = 300
    negatives: int = 2000
    shards: str = "*.jsonl"
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))


class Guide:
    """What canvas-base makes of a batch whose token i is its piece ``used[i]``."""

    def __init__(self, teacher: CanvasDenoiser, used: Tensor) -> None:
        self.teacher, self.used = teacher, used

    @torch.no_grad()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Its final states (B, L, D), and canvases (B, L) with each token of the texts where it is spoken."""
        state = self.teacher.prepare(batch.memory, batch.languages)
        pieces = torch.cat([torch.zeros(1, dtype=torch.long), batch.targets.flatten()]).unique()  # type: ignore[no-untyped-call]
        hidden = self.teacher.hidden(self.teacher.null_canvas(state), state)
        log_probs = self.teacher.logits(hidden, self.used[pieces]).float().log_softmax(-1).clamp(min=-15)
        targets = torch.searchsorted(pieces, batch.targets)
        places = align_canvas(log_probs, state.slot_mask.sum(1), targets, batch.counts)
        return hidden.float(), pieces[places]


class TinyTrainer(Run[DiffusionGemmaDenoiser, Batch]):
    """The loop's model-specific half."""

    def __init__(self, work: Path, folder: Path, options: TinyOptions) -> None:
        torch.manual_seed(options.seed)
        random.seed(options.seed)
        parts = load_parts("canvas-base")
        base = find_denoiser(parts)
        used = drafted(base)
        self.options, self.cache = options, work / "cache"
        self.vocabulary = parts.vocabulary.only(used.tolist())
        self.slot_frames = base.config.slot_frames
        self.dev = load([work / "cache/dev.jsonl"], self.vocabulary, self.slot_frames)
        self.guide = Guide(base, used)
        self.model = new_tiny(base)
        known: list[torch.nn.Parameter] = []
        new: list[torch.nn.Parameter] = []
        for name, weight in self.model.named_parameters():
            (known if "embed_tokens" in name or name.startswith("projector") else new).append(weight)
        groups = [{"params": known, "base": options.lr_known}, {"params": new, "base": options.lr}]
        super().__init__(folder, options, self.model, groups)

    def source(self) -> Iterator[Batch]:
        """Batches of what the caches hold now: they may grow while a run goes on."""
        shards = training_shards(self.cache, self.options.shards)
        clips = load(shards, self.vocabulary, self.slot_frames)
        hours = {x: round(sum(c.frames for c in clips if c.lang == x) / 180_000, 2) for x in SHARES}
        self.note(clips=len(clips), hours=hours)
        drawn = batches(clips, self.options.shares, self.options.frames, random.Random(self.step))
        return map(collate, drawn)

    def update(self, batch: Batch) -> list[float]:
        """One step; losses: aligned canvases, canvas-base's states, CTC on canvas and projector."""
        self.set_rates()
        trust = max(0.0, 1 - self.step / max(1, self.options.guided))
        with torch.autocast("cpu", torch.bfloat16, enabled=compute_dtype() == torch.bfloat16):
            parts = tiny_losses(self.model, batch, self.guide(batch) if trust else None, self)
        weights = (trust, trust * self.options.imitated, float(self.options.canvas_ctc), self.options.heard)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.stack([w * p for w, p in zip(weights, parts, strict=True) if w]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        self.advance()
        return [float(p.detach()) for p in parts]

    def evaluate(self, most: int = 2) -> None:
        """Dev errors of the running average after 1 and 4 steps from noise."""
        self.note(dev=dev_errors(self.average, self.dev, self.vocabulary, most))


def tiny_losses(
    model: DiffusionGemmaDenoiser, batch: Batch, said: tuple[Tensor, Tensor] | None, trainer: TinyTrainer
) -> list[Tensor]:
    """See ``TinyTrainer.update``. Without what the guide ``said``, canvases are noise or the model's own."""
    options, size = trainer.options, len(trainer.vocabulary)
    pieces = Pieces.draw(batch.targets, size, options.negatives)
    state = model.prepare(batch.memory, batch.languages)
    slots = state.slot_mask.sum(1)
    heard, _ = ctc(model.heard_logits(state.heard, pieces.ids), batch, state.counts, pieces)
    noise = torch.randint(0, size, state.slot_mask.shape)
    canvas, previous = noise, None
    if said is not None:
        noisy, _ = corrupt_canvas(said[1], draw_noise_level(len(noise), 0.05), size)
        canvas = torch.where(torch.rand(len(noise), 1) < 0.5, noise, noisy)
    if trainer.step >= options.conditioned_after and random.random() < CONDITIONED:
        canvas, previous = _own_step(model, state, canvas, pieces, reuse=said is None, size=size)
    hidden = model.hidden(canvas, state, previous)
    logits = model.logits(hidden, pieces.ids)
    on_canvas, _ = ctc(logits, batch, slots, pieces)
    if said is None:
        nothing = on_canvas.new_zeros(())
        return [nothing, nothing, on_canvas, heard]
    states, clean = said
    wanted = torch.searchsorted(pieces.ids, clean).masked_fill(~state.slot_mask, -100)
    aligned = F.cross_entropy((logits + pieces.correction).flatten(0, 1), wanted.flatten())
    apart = 1 - F.cosine_similarity(hidden, states, dim=-1)[state.slot_mask].mean()
    return [aligned * slots.sum() / batch.counts.sum().clamp(min=1), apart, on_canvas, heard]


@torch.no_grad()
def _own_step(
    model: DiffusionGemmaDenoiser, state: GemmaState, canvas: Tensor, pieces: Pieces, reuse: bool, size: int
) -> tuple[Tensor, Tensor]:
    """A step of the model's own: the next canvas (redrawn in part) and what conditions the next step."""
    logits = model.logits(model.hidden(canvas, state), pieces.ids)
    if reuse:
        own = pieces.ids[logits.argmax(-1)]
        canvas, _ = corrupt_canvas(own, torch.rand(len(own), 1) * 0.6, size)
    return canvas, model.soften(logits, pieces.ids)


@torch.inference_mode()
def dev_errors(
    model: DiffusionGemmaDenoiser,
    dev: Sequence[Clip],
    vocabulary: Vocabulary,
    most: int,
    steps: Sequence[int] = (1, 4),
) -> dict[str, list[float]]:
    """{"en FLEURS": [error after each step count], …} from noise, clips one by one as the recogniser does."""
    found = {}
    for lang, source in sorted({(c.lang, c.source) for c in dev}):
        clips = sorted((c for c in dev if (c.lang, c.source) == (lang, source)), key=lambda c: c.frames)
        clips = clips[:: max(1, len(clips) // most)][:most]
        texts = decode(model, clips, vocabulary, steps)
        found[f"{lang} {source}"] = [error([c.text for c in clips], texts[n], lang) for n in steps]
        print(f"  {lang}: {clips[0].text[:90]}\n    -> {texts[steps[-1]][0][:90]}", flush=True)
    return found
