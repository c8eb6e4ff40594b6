"""Adapt a DiffusionGemma backbone to speech with Hugging Face Accelerate: one process or many.

Only the projector and the LoRA on both stacks are trained; backbone and acoustic encoder stay as they are.
A checkpoint holds just what is trained, with optimiser, schedule and random states, and every save is also an
adapter in the published layout that ``Recognizer.from_pretrained`` loads.

    accelerate launch -m recipes.diffusion_gemma finetune OUT MANIFEST… --backbone DIR --encoder DIR
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from diffusion_asr.diffusion_gemma import lora
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.loading import Base, LoadOptions, Settings, load_base, save_adapter
from diffusion_asr.diffusion_gemma.objective import LossOptions, TokenBatch, compute_losses
from diffusion_asr.diffusion_gemma.projector import AudioProjector, make_published
from recipes.diffusion_gemma.speech import Clips, Collate, SpeechBatch, memory_of

TRAINED = "trained.safetensors"


@dataclass
class FinetuneOptions:
    """Everything that decides a run; the defaults follow what is known of the reference system."""

    rank: int = 16
    alpha: float = 32.0
    hidden: int = 1280  # of the projector
    canvas: int = 192
    batch: int = 8
    accumulate: int = 1
    steps: int = 10_000
    warmup: int = 200
    lr: float = 1e-4  # of the LoRA
    lr_projector: float = 3e-4
    clip: float = 1.0
    seed: int = 1
    save_every: int = 500
    note_every: int = 10
    checkpointing: bool = True  # recompute the decoder's activations instead of keeping them
    precision: str = "no"  # or "bf16", "fp16"
    losses: dict[str, float] = field(default_factory=dict)  # changes to LossOptions


class Trainee(nn.Module):
    """All losses in one ``forward``, as DDP and FSDP need it."""

    def __init__(self, denoiser: DiffusionGemmaDenoiser, options: LossOptions) -> None:
        super().__init__()
        self.denoiser, self.options = denoiser, options

    def forward(self, batch: SpeechBatch) -> dict[str, Tensor]:
        """Weighted losses by name."""
        texts = TokenBatch(batch.canvas.cpu(), batch.counts.cpu())
        return compute_losses(self.denoiser, memory_of(batch), batch.languages, texts, self.options)

    def trained(self) -> dict[str, Tensor]:
        """Names and values of what is trained."""
        return {name: w.detach().cpu() for name, w in self.named_parameters() if w.requires_grad}


def new_trainee(base: Base, options: FinetuneOptions) -> Trainee:
    """Projector and LoRA at their start, on a frozen backbone."""
    width = base.backbone.config.get_text_config().hidden_size
    lora.add_adapters(base.backbone, options.rank, options.alpha)
    projector = AudioProjector(make_published(base.encoder.config.d_model, options.hidden, width))
    projector.to(base.backbone.lm_head.weight.device)
    model = DiffusionGemmaDenoiser(base.backbone, projector, base.prompt, "token")
    if options.checkpointing:
        base.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    return Trainee(model, LossOptions(blank=base.settings.blank, **options.losses))


class Finetuner:
    """A resumable run in ``folder``."""

    def __init__(
        self, folder: Path, manifests: Sequence[Path], load: LoadOptions, options: FinetuneOptions
    ) -> None:
        self.folder, self.options, self.step = folder, options, 0
        self.accelerator = Accelerator(
            mixed_precision=options.precision, gradient_accumulation_steps=options.accumulate
        )
        set_seed(options.seed)
        base = load_base(Settings(**dict(load.settings or {})), load)
        self.settings = base.settings
        text = base.backbone.config.get_text_config()
        end = text.eos_token_id[0] if isinstance(text.eos_token_id, list) else text.eos_token_id
        clips = Clips(manifests, base.vocabulary, options.canvas)
        collate = Collate(
            base.encoder, base.vocabulary, options.canvas, int(end), int(text.pad_token_id or 0),
            base.settings.padded,
        )  # fmt: skip
        self.order = torch.Generator().manual_seed(options.seed)
        data = DataLoader(
            clips, options.batch, shuffle=True, collate_fn=collate, generator=self.order,
            drop_last=len(clips) > options.batch,
        )  # fmt: skip
        self.trainee = new_trainee(base, options)
        optimiser = torch.optim.AdamW(self._groups(), weight_decay=0.01, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        self.model, self.optimiser, self.data, self.schedule = self.accelerator.prepare(
            self.trainee, optimiser, data, schedule
        )
        self.accelerator.register_save_state_pre_hook(self._save_trained)
        self.accelerator.register_load_state_pre_hook(self._load_trained)
        folder.mkdir(parents=True, exist_ok=True)
        if self.accelerator.is_main_process:
            (folder / "options.json").write_text(json.dumps(asdict(options), indent=1), encoding="utf8")
        self._resume()

    def _groups(self) -> list[dict[str, Any]]:
        projector = [w for n, w in self.trainee.named_parameters() if w.requires_grad and ".projector." in n]
        low = [w for n, w in self.trainee.named_parameters() if w.requires_grad and ".projector." not in n]
        return [
            {"params": projector, "lr": self.options.lr_projector}, {"params": low, "lr": self.options.lr}
        ]  # fmt: skip

    def _rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to a twentieth; Accelerate counts a step for every process."""
        step = step // self.accelerator.num_processes
        if step < self.options.warmup:
            return (step + 1) / self.options.warmup
        left = (step - self.options.warmup) / max(1, self.options.steps - self.options.warmup)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, left)))

    def _save_trained(self, models: list[nn.Module], weights: list[Any], folder: str) -> None:
        """Instead of the whole backbone."""
        if self.accelerator.is_main_process:
            save_file(self._unwrapped().trained(), Path(folder) / TRAINED)
        weights.clear()

    def _load_trained(self, models: list[nn.Module], folder: str) -> None:
        self._unwrapped().load_state_dict(load_file(Path(folder) / TRAINED), strict=False)
        models.clear()

    def _unwrapped(self) -> Trainee:
        return self.accelerator.unwrap_model(self.model)  # type: ignore[no-any-return]

    def _resume(self) -> None:
        """From the newest whole checkpoint: ``last`` names it once it is written."""
        pointer = self.folder / "last"
        if pointer.exists():
            self.step = int(pointer.read_text())
            self.accelerator.load_state(str(self.folder / f"step-{self.step}"))

    def save(self) -> None:
        """A checkpoint, and the adapter that it is."""
        where = self.folder / f"step-{self.step}"
        self.accelerator.save_state(str(where))
        if self.accelerator.is_main_process:
            save_adapter(self.folder / "adapter", self._unwrapped().denoiser, self.settings)
            temporary = self.folder / "last.tmp"
            temporary.write_text(str(self.step))
            temporary.replace(self.folder / "last")
        self.accelerator.wait_for_everyone()

    def _batches(self) -> Iterator[SpeechBatch]:
        """Endless; a resumed run goes on in the epoch where it stopped."""
        size = len(self.data)
        epoch, skip = divmod(self.step * self.options.accumulate, size)
        while True:
            self.order.manual_seed(self.options.seed * 1000 + epoch)
            yield from self.accelerator.skip_first_batches(self.data, skip) if skip else self.data
            epoch, skip = epoch + 1, 0

    def run(self, most: int | None = None) -> list[float]:
        """Train to the end, or ``most`` steps; returns the summed losses."""
        limit = self.options.steps if most is None else min(self.options.steps, self.step + most)
        self.model.train()
        batches, told, began = self._batches(), [], time.monotonic()
        while self.step < limit:
            batch = next(batches)
            with self.accelerator.accumulate(self.model):
                parts = self.model(batch)
                total = torch.stack(list(parts.values())).sum()
                self.accelerator.backward(total)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip)
                self.optimiser.step()
                self.schedule.step()
                self.optimiser.zero_grad()
            if not self.accelerator.sync_gradients:
                continue
            self.step += 1
            told.append(float(total.detach()))
            if not math.isfinite(told[-1]):
                raise RuntimeError(f"loss is {told[-1]} at step {self.step}")
            if self.step % self.options.note_every == 0:
                self._note({k: round(float(v.detach()), 3) for k, v in parts.items()}, began)
            if self.step % self.options.save_every == 0:
                self.save()
        if self.step % self.options.save_every:
            self.save()
        return told

    def _note(self, parts: dict[str, float], began: float) -> None:
        if not self.accelerator.is_main_process:
            return
        line = json.dumps({"step": self.step, **parts, "minutes": round((time.monotonic() - began) / 60, 2)})
        with (self.folder / "log.jsonl").open("a", encoding="utf8") as log:
            log.write(line + "\n")
        print(line, flush=True)
