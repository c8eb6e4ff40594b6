"""Uniform-noise discrete diffusion over the canvas, trained with CTC on unrolled denoising steps.

Step 1 sees pure noise, or the draft's all-null canvas. Step 2 sees what inference will show it: the
model's own canvas re-noised, or the aligned reference corrupted at a random rate (unrolled denoising:
SUNDAE, Savinov et al. 2022; self-conditioning: Chen et al. 2023). Both steps are
trained; the memory is prepared once for both.
"""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.alignment import forced_canvas
from diffusion_asr.denoiser import PROMPT, CanvasDenoiser, DenoiserConfig
from diffusion_asr.pretrained import compute_dtype
from diffusion_asr.vocabulary import Vocabulary
from recipes.embedded.data import Batch, batches, collate, load, training_shards

WHISPER_PROMPT = (50258, 50359, 50363)  # start of transcript, transcribe, no timestamps
WHISPER_LANGUAGE = {"en": 50259, "de": 50261, "fr": 50265, "es": 50262, "hi": 50276, "zh": 50260}
SHARES = {"en": 1.0, "de": 1.2, "fr": 1.0, "es": 1.0, "hi": 1.0, "zh": 1.2}


@dataclass
class TrainOptions:
    """Everything that decides a run; stored beside its checkpoints."""

    steps: int = 30_000
    frames: int = 4500  # padded encoder frames in a batch: 90 s
    lr: float = 2e-4
    lr_new: float = 6e-4
    warmup: int = 200
    cooldown: float = 0.2  # last part of the run, over which the rate falls to a twentieth
    unroll_after: int = 400  # second denoising step from this step on
    slot_frames: int = 4
    shards: str = "*.jsonl"  # which caches
    negatives: int = 4000  # random pieces in each step's softmax
    seed: int = 1
    ema: float = 0.998
    minutes: float = 1e9  # stop (with a checkpoint) after this time
    save_minutes: float = 5.0
    evaluate_every: int = 1000
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))


def initial_denoiser(work: Path, vocabulary: Vocabulary, slot_frames: int) -> CanvasDenoiser:
    """A denoiser that starts from Whisper base's decoder."""
    model = CanvasDenoiser(DenoiserConfig(vocabulary=len(vocabulary), slot_frames=slot_frames))
    whisper = load_file(work / "weights/whisper/model.safetensors")
    own = {k[8:]: v for k, v in whisper.items() if k.startswith("decoder.")}
    table = own.pop("embed_tokens.weight")
    own["embed_positions.weight"] = own["embed_positions.weight"][: model.config.max_slots + PROMPT]
    own["embed_tokens.weight"] = load_file(work / "model/embedding.safetensors")["pieces"]
    ids = [*WHISPER_PROMPT, *(WHISPER_LANGUAGE[name] for name in model.config.languages)]
    own["embed_prompt.weight"] = table[ids]
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected, unexpected
    torch.nn.init.normal_(model.inject.weight, std=0.02)
    torch.nn.init.zeros_(model.condition.weight)
    torch.nn.init.zeros_(model.condition.bias)
    print(f"new parameters: {', '.join(missing)}")
    return model


@dataclass(frozen=True)
class Pieces:
    """The part of the vocabulary that a step scores: the batch's tokens and random others.

    ``correction`` (S,) makes the sum over the random ones an unbiased estimate of the sum over all
    that were left out; without it the softmax over 29 k pieces takes half of each step.
    """

    ids: Tensor  # (S,) sorted; null first
    correction: Tensor

    @classmethod
    def draw(cls, targets: Tensor, size: int, others: int) -> Pieces:
        if others >= size:
            return cls(torch.arange(size), torch.zeros(size))
        needed = torch.zeros(size, dtype=torch.bool)
        needed[targets.flatten()] = True
        needed[0] = True
        chosen = torch.randperm(size)[:others]
        weight = torch.zeros(size)
        left_out, drawn = size - int(needed.sum()), int((~needed[chosen]).sum())
        weight[chosen] = math.log(max(1, left_out) / max(1, drawn))
        weight[needed] = 0.0
        used = needed.clone()
        used[chosen] = True
        ids = used.nonzero().flatten()
        return cls(ids, weight[ids])


def ctc(logits: Tensor, batch: Batch, slots: Tensor, pieces: Pieces) -> tuple[Tensor, Tensor]:
    """Mean CTC loss per token, and the log-probabilities (B, L, S)."""
    log_probs = (logits.float() + pieces.correction).log_softmax(-1)
    targets = torch.searchsorted(pieces.ids, batch.targets)
    losses = F.ctc_loss(
        log_probs.transpose(0, 1), targets, slots, batch.counts, reduction="none", zero_infinity=True
    )
    return losses.sum() / batch.counts.sum().clamp(min=1), log_probs


def second_canvas(log_probs: Tensor, slots: Tensor, batch: Batch, pieces: Pieces, size: int) -> Tensor:
    """What the second step sees: the model's own canvas or the aligned reference, noise in some slots."""
    clips, length, _ = log_probs.shape
    targets = torch.searchsorted(pieces.ids, batch.targets)
    clean = pieces.ids[forced_canvas(log_probs, slots, targets, batch.counts)]
    own = torch.rand(clips, 1) < 0.6
    canvas = torch.where(own, pieces.ids[(log_probs - pieces.correction).argmax(-1)], clean)
    rate = torch.rand(clips, 1)
    rate = torch.where(own, rate * 0.4, rate)
    return torch.where(torch.rand(clips, length) < rate, torch.randint(0, size, (clips, length)), canvas)


def losses(model: CanvasDenoiser, batch: Batch, unroll: bool, others: int) -> list[Tensor]:
    """CTC losses of the first and (if unrolled) the second denoising step."""
    size = model.config.vocabulary
    pieces = Pieces.draw(batch.targets, size, others)
    state = model.prepare(batch.memory, batch.languages)
    slots = state.slot_mask.sum(1)
    noise = torch.randint(0, size, state.slot_mask.shape)
    first_canvas = torch.where(torch.rand(len(noise), 1) < 0.35, 0, noise)  # all null: the draft
    hidden = model.hidden(first_canvas, state)
    logits = model.logits(hidden, pieces.ids)
    first, log_probs = ctc(logits, batch, slots, pieces)
    if not unroll:
        return [first]
    with torch.no_grad():
        canvas = second_canvas(log_probs, slots, batch, pieces, size)
    previous = hidden.detach() if random.random() < 0.5 else None
    logits = model.logits(model.hidden(canvas, state, previous), pieces.ids)
    return [first, ctc(logits, batch, slots, pieces)[0]]


def rate(step: int, options: TrainOptions) -> float:
    """Warm-up, constant, linear cool-down (relative learning rate)."""
    left = (options.steps - step) / max(1.0, options.cooldown * options.steps)
    return min(1.0, (step + 1) / options.warmup, 0.05 + 0.95 * max(0.0, left))


class Trainer:
    """Model, running average, optimiser and their checkpoint.

    ``model`` computes in bf16 where the CPU has it; ``master`` holds the same weights in float32 for the
    optimiser. Half the memory traffic makes a step about a third cheaper than autocast on two cores.
    """

    def __init__(self, work: Path, folder: Path, options: TrainOptions) -> None:
        torch.manual_seed(options.seed)
        random.seed(options.seed)
        self.folder, self.options, self.step = folder, options, 0
        folder.mkdir(parents=True, exist_ok=True)
        self.vocabulary = Vocabulary.load(work / "model/vocabulary.json")
        self.cache = work / "cache"
        self.dev = load([work / "cache/dev.jsonl"], self.vocabulary, options.slot_frames)
        self.master = initial_denoiser(work, self.vocabulary, options.slot_frames)
        self.average = copy.deepcopy(self.master).eval().requires_grad_(False)
        self.model = copy.deepcopy(self.master).to(compute_dtype())
        known = [
            p for n, p in self.master.named_parameters() if n.startswith(("layers", "layer_norm", "embed"))
        ]
        fresh = [
            p
            for n, p in self.master.named_parameters()
            if not n.startswith(("layers", "layer_norm", "embed"))
        ]
        groups = [{"params": known, "base": options.lr}, {"params": fresh, "base": options.lr_new}]
        self.optimiser = torch.optim.AdamW(groups, weight_decay=0.01, fused=True, betas=(0.9, 0.98))
        self.log = (folder / "log.jsonl").open("a", encoding="utf8")
        (folder / "options.json").write_text(json.dumps(asdict(options), indent=1))
        if (folder / "last.pt").exists():
            self._resume()

    def _resume(self) -> None:
        saved = torch.load(self.folder / "last.pt", weights_only=True)
        self.master.load_state_dict(saved["model"])
        self.model.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        if "optimiser" in saved:
            self.optimiser.load_state_dict(saved["optimiser"])
        self.step = saved["step"]
        torch.manual_seed(self.options.seed + self.step)
        random.seed(self.options.seed + self.step)

    def source(self) -> Iterator[Batch]:
        """Batches of what the caches hold now: they may grow while a run goes on."""
        shards = training_shards(self.cache, self.options.shards)
        clips = load(shards, self.vocabulary, self.options.slot_frames)
        hours = {x: sum(c.frames for c in clips if c.lang == x) / 180_000 for x in SHARES}
        self.note(clips=len(clips), hours={k: round(v, 2) for k, v in hours.items()})
        drawn = batches(clips, self.options.shares, self.options.frames, random.Random(self.step))
        return map(collate, drawn)

    def save(self) -> None:
        """Write ``last.pt`` whole or not at all."""
        state = {
            "model": self.master.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        torch.save(state, self.folder / "last.tmp")
        (self.folder / "last.tmp").replace(self.folder / "last.pt")

    def note(self, **values: Any) -> None:
        """One line of the log, also printed."""
        line = json.dumps({"step": self.step, **values})
        self.log.write(line + "\n")
        self.log.flush()
        print(line, flush=True)

    def losses(self, batch: Batch) -> list[Tensor]:
        """CTC losses of the unrolled steps."""
        return losses(self.model, batch, self.step >= self.options.unroll_after, self.options.negatives)

    def update(self, batch: Batch) -> list[float]:
        """One optimiser step; returns the losses."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * rate(self.step, self.options)
        parts = self.losses(batch)
        self.model.zero_grad(set_to_none=True)
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        for wide, narrow in zip(self.master.parameters(), self.model.parameters(), strict=True):
            wide.grad = None if narrow.grad is None else narrow.grad.float()
        torch.nn.utils.clip_grad_norm_(self.master.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(self.options.ema, 1 - 1 / (self.step + 1))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.master.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
            for narrow, wide in zip(self.model.parameters(), self.master.parameters(), strict=True):
                narrow.copy_(wide)
        return [float(p.detach()) for p in parts]

    def evaluate(self) -> None:
        """Dev errors of the running average."""
        from recipes.embedded.quick_eval import quick_eval

        narrow = copy.deepcopy(self.average).to(compute_dtype())
        self.note(dev=quick_eval(narrow, self.dev, self.vocabulary))

    def run(self) -> None:
        """Train until the steps or the minutes are used up."""
        began = saved = time.monotonic()
        smooth: list[float] = []
        source = self.source()
        while self.step < self.options.steps and time.monotonic() - began < self.options.minutes * 60:
            now = self.update(next(source))
            if not all(math.isfinite(x) for x in now):
                raise RuntimeError(f"loss is {now} at step {self.step}")
            smooth = (
                [0.98 * a + 0.02 * b for a, b in zip(smooth, now, strict=True)]
                if len(smooth) == len(now)
                else now
            )
            if self.step % 50 == 0:
                self.note(
                    loss=[round(x, 3) for x in smooth], minutes=round((time.monotonic() - began) / 60, 2)
                )
            if time.monotonic() - saved > self.options.save_minutes * 60:
                self.save()
                saved = time.monotonic()
            if self.step % self.options.evaluate_every == 0:
                self.evaluate()
                source = self.source()
        self.save()
        self.evaluate()
