"""Train the letter canvas by CTC on cached states; resumable, on a CPU thread or on CUDA."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.models.packing import unpack_file
from recipes.embedded.data import Batch, Clip, batches, collate, load, training_shards
from recipes.embedded.features import ENCODER
from recipes.letters.alphabet import Alphabet
from recipes.letters.evaluate import error_rates
from recipes.letters.model import PAIR, LowerEncoder, TrainedLetterCanvas, numbers_of

WEIGHTS = "weights.safetensors"  # of an exported run
SHARES = {"en": 1.1, "de": 1.0, "fr": 0.9, "es": 1.0, "hi": 1.1, "zh": 1.3}


@dataclass(frozen=True)
class LetterOptions:
    """A run. ``hours`` of padded audio are heard in all: the schedule follows them, not the clock.

    ``rate`` is the learning rate of Whisper's own layers, ``new_rate`` of the rest; ``masked`` is the share
    of a clip's states that stretches of silence may take. ``evaluate_every`` and ``save_every`` are minutes.
    ``start`` is the folder of an exported run that this one goes on from, with its alphabet.
    """

    hours: float = 25.0
    seconds: float = 40.0  # of padded audio a batch
    rate: float = 3e-4
    new_rate: float = 1e-3
    warmup: int = 60  # steps
    masked: float = 0.09
    seed: int = 1
    sources: str = "*.jsonl"
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))
    evaluate_every: float = 15.0
    save_every: float = 5.0
    reload_every: float = 10.0
    average: float = 0.998  # of the weights that are evaluated and kept, by step
    device: str = "cpu"
    start: str | None = None


class LetterTrainer:
    """A run in its folder: ``options.json``, ``log.jsonl``, ``last.pt`` and ``alphabet.json``."""

    def __init__(self, work: Path, run: str, options: LetterOptions) -> None:
        self.cache, self.folder, self.options = work / "letters/cache", work / "letters/runs" / run, options
        self.folder.mkdir(parents=True, exist_ok=True)
        begun = Path(options.start) if options.start else None
        self.alphabet = Alphabet.load((begun or work / "letters") / "alphabet.json")
        self.alphabet.save(self.folder / "alphabet.json")
        (self.folder / "options.json").write_text(json.dumps(asdict(options), indent=1))
        torch.manual_seed(options.seed)
        self.rng = random.Random(options.seed)
        encoder = load_whisper_encoder(work / "weights/whisper/model.safetensors")
        sizes = len(self.alphabet.letters), len(self.alphabet.hanzi)
        self.model = TrainedLetterCanvas(encoder, *sizes)
        if begun:
            fill_canvas(self.model, begun)
        self.model = self.model.to(options.device).train()
        self.mean = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        grown = [p for n, p in self.model.named_parameters() if n.startswith(("layers", "norm"))]
        new = [p for n, p in self.model.named_parameters() if not n.startswith(("layers", "norm"))]
        groups = [{"params": grown, "top": options.rate}, {"params": new, "top": options.new_rate}]
        self.optimiser = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01)
        self.step, self.seen, self.minutes = 0, 0.0, 0.0
        self._resume()
        self.dev = self._load([self.cache / "dev.jsonl"])

    def run(self) -> None:
        """Until ``hours`` are heard."""
        stream, loaded = None, -math.inf
        begin, saved, judged = time.time() - self.minutes * 60, self.minutes, self.minutes
        total, recent = self.options.hours * 3600, []
        while self.seen < total:
            if stream is None or self.minutes - loaded > self.options.reload_every:
                clips = self._load(training_shards(self.cache, self.options.sources))
                hours = sum(c.frames for c in clips) / 180_000
                print(f"{len(clips)} clips, {hours:.1f} h", flush=True)
                stream = batches(clips, self.options.shares, int(self.options.seconds * 50), self.rng)
                loaded = self.minutes
            recent.append(self._learn(collate(next(stream))))
            self.minutes = (time.time() - begin) / 60
            if self.step % 50 == 0:
                loss = sum(recent) / len(recent)
                print(
                    f"{self.step} {self.minutes:.1f} min {self.seen / 3600:.2f} h loss {loss:.3f}", flush=True
                )
            if self.minutes - judged > self.options.evaluate_every or self.seen >= total:
                self._judge(sum(recent) / len(recent))
                judged, recent = self.minutes, []
            if self.minutes - saved > self.options.save_every or self.seen >= total:
                self._save()
                saved = self.minutes

    def _learn(self, batch: Batch) -> float:
        for group in self.optimiser.param_groups:
            done = min(1.0, self.seen / (self.options.hours * 3600))
            warm = min(1.0, (self.step + 1) / self.options.warmup)
            group["lr"] = group["top"] * warm * (0.51 + 0.49 * math.cos(math.pi * done))
        loss = self._loss(batch)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.seen += batch.memory.states.shape[0] * batch.memory.states.shape[1] / 50
        keep = min(self.options.average, self.step / (self.step + 10))
        for name, value in self.model.state_dict().items():
            self.mean[name].lerp_(value, 1 - keep)
        return float(loss.detach())

    def _loss(self, batch: Batch) -> Tensor:
        device = self.options.device
        states = self._masked(batch.memory.states, batch.memory.lengths).to(device)
        mask = None if bool(batch.memory.mask.all()) else batch.memory.mask.to(device)
        with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
            hidden = self.model.hidden(states, numbers_of(batch.languages).to(device), mask)
            rows = self.model.letters(hidden).float().log_softmax(-1)
        slots = (batch.memory.lengths + 1) // PAIR
        targets = [row[:count] for row, count in zip(batch.targets, batch.counts.tolist(), strict=True)]
        loss = ctc(rows, slots, targets)
        mandarin = [n for n, code in enumerate(batch.languages) if code == "zh"]
        if mandarin:
            hanzi = [
                torch.tensor(self.alphabet.encode_hanzi(batch.texts[n]), dtype=torch.long) for n in mandarin
            ]
            scores = self.model.hanzi(hidden[mandarin]).float().log_softmax(-1)
            loss = loss + len(mandarin) / len(targets) * ctc(scores, slots[mandarin], hanzi)
        return loss

    def _masked(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Stretches of up to 0.6 s are silent (SpecAugment's time masks, Park et al. 2019)."""
        states = states.clone()
        for row, size in enumerate(lengths.tolist()):
            for _ in range(max(1, round(size * self.options.masked / 17.5))):
                width = self.rng.randint(5, 30)
                start = self.rng.randint(0, max(0, size - width))
                states[row, start : start + width] = 0
        return states

    def _judge(self, loss: float) -> None:
        own = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.mean)
        rates = error_rates(self.model.eval(), self.alphabet, self.dev, self.options.device)
        self.model.load_state_dict(own)
        self.model.train()
        row: dict[str, Any] = {"step": self.step, "minutes": round(self.minutes, 1)}
        row |= {"hours": round(self.seen / 3600, 2), "loss": round(loss, 4), "dev": rates}
        with (self.folder / "log.jsonl").open("a", encoding="utf8") as log:
            log.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "mean": self.mean,
            "optimiser": self.optimiser.state_dict(),
            "at": (self.step, self.seen, self.minutes),
        }
        torch.save(state, self.folder / "next.pt")
        (self.folder / "next.pt").replace(self.folder / "last.pt")

    def _resume(self) -> None:
        if not (self.folder / "last.pt").exists():
            return
        state = torch.load(self.folder / "last.pt", map_location=self.options.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.mean = state["mean"]
        self.step, self.seen, self.minutes = state["at"]
        self.rng.seed(self.options.seed + self.step)

    def _load(self, shards: Sequence[Path]) -> list[Clip]:
        return [c for c in load(shards, Numbers(self.alphabet), PAIR) if c.ids or not c.text]


class Numbers:
    """The alphabet as ``load`` wants it: a text that cannot be written gets no numbers."""

    def __init__(self, alphabet: Alphabet) -> None:
        self.alphabet = alphabet

    def encode(self, text: str, language: str) -> list[int]:
        return self.alphabet.encode(text, language) or []


def ctc(rows: Tensor, slots: Tensor, targets: Sequence[Tensor]) -> Tensor:
    """Mean CTC loss per symbol over a batch, each clip alike."""
    counts = torch.tensor([len(t) for t in targets])
    flat = torch.cat(list(targets)).long()
    losses = F.ctc_loss(rows.transpose(0, 1).cpu(), flat, slots, counts, reduction="none", zero_infinity=True)
    return (losses / counts.clamp(min=1)).mean()


def fill_canvas(model: TrainedLetterCanvas, folder: Path) -> None:
    """Load an exported run's weights; an output for Hanzi that was left out stays as it is."""
    path = folder / WEIGHTS
    missing, unexpected = model.load_state_dict(unpack_file(path, torch.float32), strict=False)
    if unexpected or any(not name.startswith("hanzi.") for name in missing):
        raise ValueError(f"{path} is of another canvas: {[*missing, *unexpected][:3]}")


def load_whisper_encoder(weights: Path) -> LowerEncoder:
    """Whisper base's encoder in float32."""
    from safetensors.torch import load_file

    encoder = LowerEncoder(ENCODER).eval()
    encoder.load_state_dict({k[8:]: v for k, v in load_file(weights).items() if k.startswith("encoder.")})
    return encoder
