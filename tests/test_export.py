"""A model folder from the parts of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusion_asr import Recognizer
from diffusion_asr.encoder import sinusoids
from diffusion_asr.pretrained import load_parts
from recipes.embedded.export import join
from recipes.embedded.training import continued_denoiser
from tests.tiny import ROOT

CLIP = ROOT / "tests/data/en-arctic_a0239_1592711579.flac"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe's folder with a run whose denoiser is canvas-base's."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("runs/made", "model"):
        (folder / name).mkdir(parents=True)
    state = continued_denoiser("canvas-base").state_dict()
    torch.save({"average": state | {"null_bias": state["null_bias"] + 0.5}}, folder / "runs/made/last.pt")
    return folder


def test_a_model_with_the_denoiser_of_a_run(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "joined"
    join(work, out, "canvas-base", "9", denoiser="made")
    old, new = load_parts("canvas-base"), load_parts(out)
    assert new.version == "9"
    assert new.calibration == old.calibration
    assert len(new.vocabulary) == len(old.vocabulary)
    assert new.denoiser.null_bias.item() == pytest.approx(old.denoiser.null_bias.item() + 0.5, abs=0.01)
    positions = new.encoder.embed_positions.weight
    torch.testing.assert_close(positions, sinusoids(1500, 512).to(positions.dtype))  # bf16 on some CPUs
    assert not [k for k in load_file(out / "encoder.safetensors") if k.startswith("embed_positions")]
    assert sum(file.stat().st_size for file in out.iterdir()) <= 100_000_000
    assert Recognizer.from_pretrained(out).transcribe(CLIP, "en").text.startswith("He cried in such genuine")


def test_what_was_fitted_last_is_written(work: Path, tmp_path: Path) -> None:
    fitted = work / "model/calibration.json"
    fitted.write_text(json.dumps({"a": 0.5, "b": 0.25, "lag": 0.125}))
    join(work, tmp_path / "again", "canvas-base", "9")
    fitted.unlink()
    calibration = load_parts(tmp_path / "again").calibration
    assert (calibration.a, calibration.b, calibration.lag) == (0.5, 0.25, 0.125)


def test_positions_are_whispers() -> None:
    table = sinusoids(3, 4)  # rates 1 and 1 / 10,000
    angles = torch.tensor([[0.0, 0.0], [1.0, 1e-4], [2.0, 2e-4]])
    torch.testing.assert_close(table, torch.cat([angles.sin(), angles.cos()], dim=1))
