"""Uniform-noise discrete diffusion over the canvas, trained with CTC on unrolled denoising steps.

Step 1 sees pure noise, or the draft's all-null canvas. Step 2 sees what inference will show it: the
model's own canvas re-noised, or the aligned reference corrupted at a random rate (unrolled denoising:
SUNDAE, Savinov et al. 2022; self-conditioning: Chen et al. 2023). Both steps are
trained; the memory is prepared once for both.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.alignment import align_canvas
from diffusion_asr.decoding.denoiser import CanvasDenoiser, DenoiserConfig
from diffusion_asr.decoding.layers import PROMPT
from diffusion_asr.decoding.objective import CONDITIONED, MOST_NOISE, NULL_SHARE
from diffusion_asr.decoding.process import corrupt_canvas, draw_first_canvases
from diffusion_asr.models.canvas import compute_dtype, denoiser_config
from diffusion_asr.models.folder import find_model, load_config
from diffusion_asr.models.packing import unpack_file
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.data import Batch, Clip, batches, collate, load, training_shards
from recipes.embedded.regularise import Regularisation, add_dropout, disturbed
from recipes.embedded.run import Run, RunOptions

WINDOW_FRAMES = 1500  # of the encoder in 30 s
WHISPER_PROMPT = (50258, 50359, 50363)  # start of transcript, transcribe, no timestamps
WHISPER_LANGUAGE = {"en": 50259, "de": 50261, "fr": 50265, "es": 50262, "hi": 50276, "zh": 50260}
SHARES = {"en": 1.0, "de": 1.2, "fr": 1.0, "es": 1.0, "hi": 1.0, "zh": 1.2}


@dataclass
class TrainOptions(RunOptions):
    """Everything that decides a run of the canvas denoiser."""

    frames: int = 4500  # padded encoder frames in a batch: 90 s
    lr: float = 2e-4
    lr_new: float = 6e-4
    unroll_after: int = 400  # second denoising step from this step on
    slot_frames: int = 4
    longest: int = WINDOW_FRAMES  # encoder frames; longer clips are left out
    shards: str = "*.jsonl"  # which caches
    unrolled: float = 1.0  # share of the steps, from then on, that take it
    negatives: int = 4000  # random pieces in each step's softmax
    device: str = "cpu"  # "cuda" computes in bf16 by autocast
    start: str = ""  # go on from this run's or model's denoiser instead of Whisper's decoder
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    regularise: Regularisation = field(default_factory=Regularisation)

    def __post_init__(self) -> None:
        if isinstance(self.regularise, dict):  # as JSON gives it
            self.regularise = Regularisation(**self.regularise)


def initial_denoiser(
    work: Path, vocabulary: Vocabulary, slot_frames: int, longest: int = WINDOW_FRAMES
) -> CanvasDenoiser:
    """A denoiser that starts from Whisper base's decoder.

    Raises:
        ValueError: Slots so short that the longest clip has more than there are positions for.
    """
    config = DenoiserConfig(vocabulary=len(vocabulary), slot_frames=slot_frames)
    if (needed := -(-longest // slot_frames)) > config.max_slots:
        raise ValueError(
            f"{longest / 50:g} s are {needed} slots of {slot_frames} frames; at most {config.max_slots} fit: "
            f"set longest to {config.max_slots * slot_frames} frames"
        )
    model = CanvasDenoiser(config)
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


def continued_denoiser(model: str) -> CanvasDenoiser:
    """A model's denoiser in float32 (``load_parts`` rounds it to bf16 on some CPUs), to be trained on."""
    folder = find_model(model)
    continued = CanvasDenoiser(denoiser_config(load_config(folder)))
    continued.load_state_dict(unpack_file(folder / "denoiser.safetensors", torch.float32))
    return continued


def is_run(work: Path, name: str) -> bool:
    """Whether a run of this name has a checkpoint."""
    return bool(name) and (work / "runs" / name / "last.pt").exists()


def run_average(work: Path, run: str) -> dict[str, Tensor]:
    """A run's running average."""
    state: dict[str, Tensor] = torch.load(
        work / "runs" / run / "last.pt", map_location="cpu", weights_only=True
    )["average"]
    return state


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
        device = targets.device
        if others >= size:
            return cls(torch.arange(size, device=device), torch.zeros(size, device=device))
        needed = torch.zeros(size, dtype=torch.bool, device=device)
        needed[targets.flatten()] = True
        needed[0] = True
        chosen = torch.randperm(size, device=device)[:others]
        weight = torch.zeros(size, device=device)
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
    """What the second step sees: the model's own canvas or the aligned reference, noise in some slots.

    (Fine-tuning in toolkits, ``decoding.objective``, starts from a model whose own canvas is good enough to
    need no reference.)
    """
    clips = len(log_probs)
    targets = torch.searchsorted(pieces.ids, batch.targets)
    clean = pieces.ids[align_canvas(log_probs, slots, targets, batch.counts)]
    own = torch.rand(clips, 1, device=clean.device) < 0.6
    canvas = torch.where(own, pieces.ids[(log_probs - pieces.correction).argmax(-1)], clean)
    rate = torch.rand(clips, 1, device=clean.device)
    noisy, _ = corrupt_canvas(canvas, torch.where(own, rate * MOST_NOISE, rate), size)
    return noisy


def losses(model: CanvasDenoiser, batch: Batch, unroll: bool, others: int) -> list[Tensor]:
    """CTC losses of the first and (if unrolled) the second denoising step.

    As ``decoding.objective.compute_losses``, but for what training from scratch on two cores asks for: some
    pieces stand for all (see ``Pieces``), the reference may be the second canvas (see ``second_canvas``), and
    one draw decides for the whole batch whether step 2 is conditioned, so that half of them are spared it.
    """
    size = model.config.vocabulary
    pieces = Pieces.draw(batch.targets, size, others)
    state = model.prepare(batch.memory, batch.languages)
    slots = state.slot_mask.sum(1)
    clips, length = state.slot_mask.shape
    first_canvas = draw_first_canvases(clips, length, size, NULL_SHARE, state.slot_mask.device)
    hidden = model.hidden(first_canvas, state)
    logits = model.logits(hidden, pieces.ids)
    first, log_probs = ctc(logits, batch, slots, pieces)
    if not unroll:
        return [first]
    with torch.no_grad():
        canvas = second_canvas(log_probs, slots, batch, pieces, size)
    previous = hidden.detach() if random.random() < CONDITIONED else None
    logits = model.logits(model.hidden(canvas, state, previous), pieces.ids)
    return [first, ctc(logits, batch, slots, pieces)[0]]


class Trainer(Run[CanvasDenoiser, Batch]):
    """Trains the canvas denoiser.

    ``model`` computes in bf16 where the CPU has it; ``master`` holds the same weights in float32 for the
    optimiser. Half the memory traffic makes a step about a third cheaper than autocast on two cores; a GPU
    has autocast.
    """

    def __init__(self, work: Path, folder: Path, options: TrainOptions) -> None:
        torch.manual_seed(options.seed)
        random.seed(options.seed)
        self.options = options
        self.vocabulary = Vocabulary.load(work / "model/vocabulary.json")
        self.cache = work / "cache"
        self.dev = self._clips([work / "cache/dev.jsonl"])
        self.master = self._start(work, options).to(options.device)
        parameters: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for name, weight in self.master.named_parameters():
            parameters[name.startswith(("layers", "layer_norm", "embed"))].append(weight)
        groups = [
            {"params": parameters[True], "base": options.lr},
            {"params": parameters[False], "base": options.lr_new},
        ]
        super().__init__(folder, options, self.master, groups)
        self.on_gpu = torch.device(options.device).type == "cuda"
        self.model = copy.deepcopy(self.master)
        if not self.on_gpu:
            self.model.to(compute_dtype())
        add_dropout(self.model, options.regularise.dropout)

    def _start(self, work: Path, options: TrainOptions) -> CanvasDenoiser:
        if options.start and not is_run(work, options.start):
            return continued_denoiser(options.start)
        model = initial_denoiser(work, self.vocabulary, options.slot_frames, options.longest)
        if options.start:
            model.load_state_dict(run_average(work, options.start))
        return model

    def _clips(self, shards: list[Path]) -> list[Clip]:
        clips = load(shards, self.vocabulary, self.options.slot_frames)
        return [clip for clip in clips if clip.frames <= self.options.longest]

    def source(self) -> Iterator[Batch]:
        """Batches of what the caches hold now: they may grow while a run goes on."""
        clips = self._clips(training_shards(self.cache, self.options.shards))
        hours = {x: sum(c.frames for c in clips if c.lang == x) / 180_000 for x in SHARES}
        self.note(clips=len(clips), hours={k: round(v, 2) for k, v in hours.items()})
        drawn = batches(clips, self.options.shares, self.options.frames, random.Random(self.step))
        return map(collate, drawn)

    def losses(self, batch: Batch) -> list[Tensor]:
        """CTC losses of the unrolled steps."""
        unroll = self.step >= self.options.unroll_after and random.random() < self.options.unrolled
        batch = replace(batch, memory=disturbed(batch.memory, self.options.regularise))
        batch = batch.to(self.options.device)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.on_gpu):
            return losses(self.model, batch, unroll, self.options.negatives)

    def update(self, batch: Batch) -> list[float]:
        """See ``Run.update``."""
        self.set_rates()
        parts = self.losses(batch)
        self.model.zero_grad(set_to_none=True)
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        for wide, narrow in zip(self.master.parameters(), self.model.parameters(), strict=True):
            wide.grad = None if narrow.grad is None else narrow.grad.float()
        self.advance()
        with torch.no_grad():
            for narrow, wide in zip(self.model.parameters(), self.master.parameters(), strict=True):
                narrow.copy_(wide)
        return [float(p.detach()) for p in parts]

    def evaluate(self) -> None:
        """Dev errors of the running average."""
        from recipes.embedded.quick_eval import quick_eval

        dtype = torch.bfloat16 if self.on_gpu else compute_dtype()
        narrow = copy.deepcopy(self.average).to(dtype)
        self.note(dev=quick_eval(narrow, self.dev, self.vocabulary, device=self.options.device))
