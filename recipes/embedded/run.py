"""What every training run does alike: log, running average, checkpoints, resuming, the loop."""

from __future__ import annotations

import copy
import json
import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")
NOTE_EVERY = 50  # steps


@dataclass
class RunOptions:
    """What a run decides apart from its model; stored beside its checkpoints."""

    steps: int = 30_000
    warmup: int = 200
    cooldown: float = 0.2  # last part of the run, over which the rate falls to a twentieth
    ema: float = 0.998
    seed: int = 1
    minutes: float = 1e9  # stop (with a checkpoint) after this time
    save_minutes: float = 5.0
    evaluate_every: int = 1000


def rate(step: int, options: RunOptions) -> float:
    """Warm-up, constant, linear cool-down (relative learning rate)."""
    left = (options.steps - step) / max(1.0, options.cooldown * options.steps)
    return min(1.0, (step + 1) / options.warmup, 0.05 + 0.95 * max(0.0, left))


class Run(ABC, Generic[M, B]):
    """A resumable run of a model ``M`` over batches ``B``; ``master`` is what the optimiser changes."""

    def __init__(self, folder: Path, options: RunOptions, master: M, groups: list[dict[str, Any]]) -> None:
        """``groups`` are the optimiser's, each with its ``base`` learning rate."""
        self.folder, self._limits, self.step, self._weights = folder, options, 0, master
        self.average: M = copy.deepcopy(master).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(groups, weight_decay=0.01, fused=True, betas=(0.9, 0.98))
        folder.mkdir(parents=True, exist_ok=True)
        self.log = (folder / "log.jsonl").open("a", encoding="utf8")
        (folder / "options.json").write_text(json.dumps(asdict(options), indent=1))
        if (folder / "last.pt").exists():
            self._resume()

    def _resume(self) -> None:
        saved = torch.load(self.folder / "last.pt", map_location="cpu", weights_only=True)
        self._weights.load_state_dict(saved["model"])
        self.average.load_state_dict(saved["average"])
        if "optimiser" in saved:
            self.optimiser.load_state_dict(saved["optimiser"])
        self.step = saved["step"]
        torch.manual_seed(self._limits.seed + self.step)
        random.seed(self._limits.seed + self.step)

    @abstractmethod
    def source(self) -> Iterator[B]:
        """Batches of what the caches hold now: they may grow while a run goes on."""

    @abstractmethod
    def update(self, batch: B) -> list[float]:
        """One optimiser step; returns the losses."""

    @abstractmethod
    def evaluate(self) -> None:
        """Note the running average's errors on dev."""

    def set_rates(self) -> None:
        """Each group's learning rate for this step."""
        for group in self.optimiser.param_groups:
            group["lr"] = group["base"] * rate(self.step, self._limits)

    def advance(self) -> None:
        """Clip the gradients, change the weights, and move the running average after them."""
        torch.nn.utils.clip_grad_norm_(self._weights.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(self._limits.ema, 1 - 1 / (self.step + 1))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self._weights.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)

    def save(self) -> None:
        """Write ``last.pt`` whole or not at all."""
        state = {
            "model": self._weights.state_dict(),
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

    def run(self) -> None:
        """Train until the steps or the minutes are used up."""
        limits = self._limits
        began = saved = time.monotonic()
        smooth: list[float] = []
        source = self.source()
        while self.step < limits.steps and time.monotonic() - began < limits.minutes * 60:
            now = self.update(next(source))
            if not all(math.isfinite(x) for x in now):
                raise RuntimeError(f"loss is {now} at step {self.step}")
            alike = len(smooth) == len(now)
            smooth = [0.98 * a + 0.02 * b for a, b in zip(smooth, now, strict=True)] if alike else now
            if self.step % NOTE_EVERY == 0:
                minutes = (time.monotonic() - began) / 60
                self.note(loss=[round(x, 3) for x in smooth], minutes=round(minutes, 2))
            if time.monotonic() - saved > limits.save_minutes * 60:
                self.save()
                saved = time.monotonic()
            if self.step % limits.evaluate_every == 0:
                self.evaluate()
                source = self.source()
        self.save()
        self.evaluate()
