"""The mean of several runs' weights: one model that is better than each, at no cost.

Runs that go on from the same weights stay in one valley of the loss, where the mean of their weights
generalises better than any of them (model soups: Wortsman et al. 2022a), and a mean with the start keeps what
it knew of sounds that the training lacks (WiSE-FT: Wortsman et al. 2022b).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from diffusion_asr.models.folder import REFINER, find_model
from diffusion_asr.models.packing import unpack_file
from recipes.embedded.training import continued_denoiser, is_run, run_average

Weights = Mapping[str, Tensor]


def mean(states: list[tuple[float, Weights]]) -> dict[str, Tensor]:
    """Weighted mean; the weights are scaled to a sum of one."""
    total = sum(weight for weight, _ in states)
    return {name: sum(w / total * state[name] for w, state in states) for name in states[0][1]}  # type: ignore[misc]


def parse(part: str) -> tuple[str, float]:
    """``NAME`` or ``NAME:WEIGHT``.

    Raises:
        ValueError: The weight is no number.
    """
    name, found, weight = part.rpartition(":")
    try:
        return (name, float(weight)) if found else (part, 1.0)
    except ValueError:
        raise ValueError(f"{part!r}: what stands after ':' is no number, but should be a weight") from None


def average(work: Path, run: str, parts: list[str]) -> None:
    """Write the mean of ``parts`` (runs in ``work/runs``, or models) as the run ``run``, which may go on.

    Runs of the denoiser are averaged with models' denoisers, and runs of the refiner with their refiners.

    Raises:
        ValueError: No part is a run.
    """
    weights = dict(map(parse, parts))
    runs = {name: run_average(work, name) for name in weights if is_run(work, name)}
    if not runs:
        raise ValueError(f"none of {', '.join(weights)} is a run in {work / 'runs'}")
    refiners = any("operation.weight" in state for state in runs.values())

    def of_model(name: str) -> Weights:
        if refiners:
            return unpack_file(find_model(name) / REFINER, torch.float32)
        return continued_denoiser(name).state_dict()

    whole = mean([(weight, runs.get(name) or of_model(name)) for name, weight in weights.items()])
    folder = work / "runs" / run
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": whole, "average": whole, "step": 0}, folder / "last.tmp")
    (folder / "last.tmp").replace(folder / "last.pt")
    shutil.copy(work / "runs" / list(runs)[-1] / "options.json", folder / "options.json")
    print(f"{run}: mean of {', '.join(parts)}")
