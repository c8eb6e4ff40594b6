"""A small run of the refiner's trainer, from caches and drafts to the log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_asr.refiner import END, EditDenoiser, RefinerConfig
from diffusion_asr.vocabulary import Vocabulary
from recipes.embedded import refining
from recipes.embedded.data import collate
from recipes.embedded.refining import RefineOptions, RefineTrainer, mixed
from tests import tiny
from tests.test_recipe import write_cache

DRAFT = [5, 6, 7]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of 512-wide states with drafts, and a start that needs no Whisper weights."""
    tiny.model(tmp_path / "model")
    write_cache(tmp_path / "cache/dev.jsonl", [{"lang": "de", "text": "ab nie", "frames": 60}])
    rows = [{"lang": "en", "text": "ab the", "frames": 60}, {"lang": "zh", "text": "你好", "frames": 40}]
    write_cache(tmp_path / "cache/one.jsonl", rows)
    for shard in ("dev", "one"):
        line = json.dumps({"offset": 0, "ids": DRAFT}) + "\n"
        (tmp_path / f"cache/{shard}.drafts.jsonl").write_text(line)

    def initial(work: Path, vocabulary: Vocabulary, trained: Tensor) -> EditDenoiser:
        torch.manual_seed(0)
        return EditDenoiser(RefinerConfig(vocabulary=vocabulary.whole, d_model=512, layers=1, heads=2))

    monkeypatch.setattr(refining, "initial_refiner", initial)
    return tmp_path


def trainer(work: Path, steps: int = 30, drafts: float = 0.6) -> RefineTrainer:
    options = RefineOptions(
        model=str(work / "model"), steps=steps, warmup=2, frames=400, lr=1e-3, negatives=50, drafts=drafts
    )
    return RefineTrainer(work, work / "run", options)


def test_a_run_learns_logs_and_resumes(work: Path) -> None:
    made = trainer(work)
    source = made.source()
    losses = [made.update(next(source)) for _ in range(30)]
    assert np.mean([x[0] for x in losses[-5:]]) < 0.6 * np.mean([x[0] for x in losses[:3]])
    made.save()
    again = trainer(work)
    assert again.step == 30
    for name in ("model", "average"):
        expected, found = getattr(made, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(found[k], v) for k, v in expected.items())
    again.run()  # no step is left: it saves and evaluates
    last = json.loads((work / "run/log.jsonl").read_text().splitlines()[-1])
    assert len(last["dev"]["de made"]) == 5
    assert all(x >= 0 for x in last["dev"]["de made"])


def test_drafts_are_found_by_their_clip(work: Path) -> None:
    made = trainer(work, drafts=1.0)
    made.source()
    english, chinese = made.clips([work / "cache/one.jsonl"])
    seen = [made.canvas_of(english) for _ in range(30)]
    assert DRAFT in seen
    assert DRAFT not in [made.canvas_of(chinese) for _ in range(30)]  # it has none


def test_a_teacher_shares_the_targets_of_its_languages(work: Path) -> None:
    options = RefineOptions(model=str(work / "model"), steps=1, negatives=50, teacher=0.75)
    made = RefineTrainer(work, work / "taught", options)
    for clip in made.clips([work / "cache/one.jsonl"]):
        batch, size = collate([clip]), len(clip.ids)
        ids, chances = made.targets([clip], batch, torch.arange(size + 1)[None])
        assert torch.allclose(chances.sum(-1), torch.ones(1, size + 1))
        assert ids[0, :size, 0].tolist() == clip.ids
        assert chances[0, :size, 0].tolist() == [0.25 if clip.lang == "en" else 1.0] * size
        assert ids[0, size, 0] == END  # which is the text's alone
        assert chances[0, size, 0] == 1.0
        source = [clip]
        assert all(np.isfinite(made.update(source)))


def test_weights_are_mixed_but_for_operations_and_new_pieces() -> None:
    whisper = {"embed": torch.tensor([[2.0], [4.0], [6.0]]), "operation": torch.tensor([9.0])}
    trained = {"embed": torch.tensor([[0.0], [0.0]]), "operation": torch.tensor([1.0])}
    found = mixed(whisper, trained, 0.25)
    assert found["embed"].tolist() == [[0.5], [1.0], [6.0]]
    assert found["operation"].tolist() == [1.0]
