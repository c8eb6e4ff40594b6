"""Train ``diffusion-gemma-tiny`` on cached acoustic states.

It starts on aligned canvases: canvas-base says where each token of a text is spoken, and the canvas with
some slots redrawn uniformly is to be restored (uniform diffusion, cross-entropy). This spares the plateau of
CTC from random weights. CTC over the denoised canvas is there from the beginning and stays alone at the end.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.alignment import forced_canvas
from diffusion_asr.denoiser import CanvasDenoiser
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser, GemmaState
from diffusion_asr.diffusion_gemma.objective import corrupt, noise_level
from diffusion_asr.pretrained import load_parts
from diffusion_asr.sampler import SamplerOptions, UniformSampler, collapse
from recipes.diffusion_gemma.tiny import new_tiny
from recipes.embedded.data import Batch, Clip, batches, collate, load, training_shards
from recipes.embedded.quick_eval import error
from recipes.embedded.run import Run, RunOptions
from recipes.embedded.training import SHARES, Pieces, ctc

Key = tuple[str, int]


@dataclass
class TinyOptions(RunOptions):
    """Everything that decides a run.

    Attributes:
        frames: Padded encoder frames in a batch (50 a second).
        aligned: Steps over which the weight of the aligned canvases falls from 1 to 0.
        heard: Weight of CTC on the projector; 0 leaves it out (the ablation).
        canvas_ctc: Whether CTC over the denoised canvas is trained.
    """

    frames: int = 2400
    lr: float = 1e-3
    lr_known: float = 5e-4  # what canvas-base brings
    aligned: int = 450
    heard: float = 0.3
    canvas_ctc: bool = True
    conditioned_after: int = 300
    negatives: int = 2000
    shards: str = "*.jsonl"
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))


class Aligner:
    """Where canvas-base hears each token of a known text; every clip is aligned once."""

    def __init__(self, teacher: CanvasDenoiser) -> None:
        self.teacher = teacher
        self.known: dict[Key, Tensor] = {}

    @torch.inference_mode()
    def canvases(self, clips: Sequence[Clip], batch: Batch) -> Tensor:
        """(B, L) clean canvases."""
        missing = [n for n, clip in enumerate(clips) if _key(clip) not in self.known]
        if missing:
            self._align([clips[n] for n in missing])
        rows = [self.known[_key(clip)].long() for clip in clips]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def _align(self, clips: Sequence[Clip]) -> None:
        batch = collate(clips)
        state = self.teacher.prepare(batch.memory, batch.languages)
        pieces = torch.cat([torch.zeros(1, dtype=torch.long), batch.targets.flatten()]).unique()  # type: ignore[no-untyped-call]
        hidden = self.teacher.hidden(torch.zeros(state.slot_mask.shape, dtype=torch.long), state)
        log_probs = self.teacher.logits(hidden, pieces).float().log_softmax(-1).clamp(min=-15)
        slots = state.slot_mask.sum(1)
        targets = torch.searchsorted(pieces, batch.targets)
        canvas = pieces[forced_canvas(log_probs, slots, targets, batch.counts)]
        for row, clip, count in zip(canvas, clips, slots.tolist(), strict=True):
            self.known[_key(clip)] = row[:count].to(torch.int32)


def _key(clip: Clip) -> Key:
    return clip.shard, clip.offset


Work = tuple[list[Clip], Batch]


class TinyTrainer(Run[DiffusionGemmaDenoiser, Work]):
    """The loop's model-specific half."""

    def __init__(self, work: Path, folder: Path, options: TinyOptions) -> None:
        torch.manual_seed(options.seed)
        random.seed(options.seed)
        parts = load_parts("canvas-base")
        self.options, self.cache, self.vocabulary = options, work / "cache", parts.vocabulary
        self.slot_frames = parts.denoiser.config.slot_frames
        self.dev = load([work / "cache/dev.jsonl"], self.vocabulary, self.slot_frames)
        self.aligner = Aligner(parts.denoiser)
        self.model = new_tiny(parts.denoiser)
        known: list[torch.nn.Parameter] = []
        new: list[torch.nn.Parameter] = []
        for name, weight in self.model.named_parameters():
            (known if "embed_tokens" in name or name.startswith("projector") else new).append(weight)
        groups = [{"params": known, "base": options.lr_known}, {"params": new, "base": options.lr}]
        super().__init__(folder, options, self.model, groups)

    def source(self) -> Iterator[Work]:
        """Batches of what the caches hold now: they may grow while a run goes on."""
        shards = training_shards(self.cache, self.options.shards)
        clips = load(shards, self.vocabulary, self.slot_frames)
        hours = {x: round(sum(c.frames for c in clips if c.lang == x) / 180_000, 2) for x in SHARES}
        self.note(clips=len(clips), hours=hours)
        drawn = batches(clips, self.options.shares, self.options.frames, random.Random(self.step))
        for group in drawn:
            yield group, collate(group)

    def update(self, batch: Work) -> list[float]:
        """One step; losses on aligned canvases, of CTC on the canvas and of CTC on the projector."""
        self.set_rates()
        trust = max(0.0, 1 - self.step / max(1, self.options.aligned))
        parts = tiny_losses(self.model, batch[1], self._clean(batch) if trust else None, self)
        weights = (trust, float(self.options.canvas_ctc), self.options.heard)
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.stack([w * p for w, p in zip(weights, parts, strict=True) if w]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        self.advance()
        return [float(p.detach()) for p in parts]

    def _clean(self, batch: Work) -> Tensor:
        return self.aligner.canvases(*batch)

    def evaluate(self, most: int = 2) -> None:
        """Dev errors of the running average after 1 and 4 steps from noise."""
        self.note(dev=dev_errors(self.average, self.dev, self.vocabulary, most))


def tiny_losses(
    model: DiffusionGemmaDenoiser, batch: Batch, clean: Tensor | None, trainer: TinyTrainer
) -> list[Tensor]:
    """See ``TinyTrainer.update``; without ``clean`` canvases start from noise and from the model's own."""
    options, size = trainer.options, len(trainer.vocabulary)
    pieces = Pieces.draw(batch.targets, size, options.negatives)
    state = model.prepare(batch.memory, batch.languages)
    slots = state.slot_mask.sum(1)
    heard, _ = ctc(model.heard_logits(state.heard, pieces.ids), batch, state.counts, pieces)
    noise = torch.randint(0, size, state.slot_mask.shape)
    canvas, previous = noise, None
    if clean is not None:
        noisy, _ = corrupt(clean, noise_level(len(clean), 0.05), size)
        canvas = torch.where(torch.rand(len(clean), 1) < 0.5, noise, noisy)
    if trainer.step >= options.conditioned_after and random.random() < 0.5:
        canvas, previous = _own_step(model, state, canvas, pieces, reuse=clean is None, size=size)
    logits = model.logits(model.hidden(canvas, state, previous), pieces.ids)
    on_canvas, _ = ctc(logits, batch, slots, pieces)
    if clean is None:
        return [on_canvas.new_zeros(()), on_canvas, heard]
    wanted = torch.searchsorted(pieces.ids, clean).masked_fill(~state.slot_mask, -100)
    aligned = F.cross_entropy((logits + pieces.correction).flatten(0, 1), wanted.flatten())
    return [aligned * slots.sum() / batch.counts.sum().clamp(min=1), on_canvas, heard]


@torch.no_grad()
def _own_step(
    model: DiffusionGemmaDenoiser, state: GemmaState, canvas: Tensor, pieces: Pieces, reuse: bool, size: int
) -> tuple[Tensor, Tensor]:
    """A step of the model's own: the next canvas (redrawn in part) and what conditions the next step."""
    logits, soft = model.denoise(canvas, state, None, pieces.ids)
    if reuse:
        own = pieces.ids[logits.argmax(-1)]
        canvas, _ = corrupt(own, torch.rand(len(own), 1) * 0.6, size)
    return canvas, soft


@torch.inference_mode()
def dev_errors(
    model: DiffusionGemmaDenoiser,
    dev: Sequence[Clip],
    vocabulary: object,
    most: int,
    steps: Sequence[int] = (1, 4),
) -> dict[str, list[float]]:
    """{"en FLEURS": [error after each step count], …} from noise, clips one by one as the recogniser does."""
    from diffusion_asr.vocabulary import Vocabulary

    assert isinstance(vocabulary, Vocabulary)
    sampler = UniformSampler(model, len(vocabulary))  # type: ignore[arg-type]
    found = {}
    for lang, source in sorted({(c.lang, c.source) for c in dev}):
        clips = sorted((c for c in dev if (c.lang, c.source) == (lang, source)), key=lambda c: c.frames)
        clips = clips[:: max(1, len(clips) // most)][:most]
        pieces = torch.tensor(vocabulary.pieces_for(lang))
        texts: dict[int, list[str]] = {n: [] for n in steps}
        for clip in clips:
            one = collate([clip])
            state = model.prepare(one.memory, one.languages)
            for count in steps:
                noise = torch.Generator().manual_seed(0)
                (out,) = sampler.sample(state, SamplerOptions(count), noise, pieces=pieces)  # type: ignore[arg-type]
                texts[count].append(vocabulary.decode(t for t, _, _ in collapse(out.canvas)))
        found[f"{lang} {source}"] = [error([c.text for c in clips], texts[n], lang) for n in steps]
        print(f"  {lang}: {clips[0].text[:90]}\n    -> {texts[steps[-1]][0][:90]}", flush=True)
    return found
