"""A small run of the refiner's trainer, from caches and drafts to the log."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_asr.decoding.causal.model import END, CausalRefiner, RefinerConfig, apply_edits
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded import refining
from recipes.embedded.data import collate
from recipes.embedded.refining import RefineOptions, RefineTrainer, align, corrupt, mixed
from tests.support import tiny
from tests.support.recipe_helpers import write_cache

DRAFT = [259, 261, 259]  # the ab the
TOKENS = st.lists(st.integers(1, 9), max_size=12)
RUNS = [[token, 3 * n, 3 * n + 1] for n, token in enumerate(DRAFT)]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of 512-wide states with drafts, and a start that needs no Whisper weights."""
    tiny.model(tmp_path / "model")
    write_cache(tmp_path / "cache/dev.jsonl", [{"lang": "de", "text": "ab nie", "frames": 60}])
    rows = [{"lang": "en", "text": "ab the", "frames": 60}, {"lang": "zh", "text": "你好", "frames": 40}]
    write_cache(tmp_path / "cache/one.jsonl", rows)
    vocabulary = Vocabulary.load(tmp_path / "model/vocabulary.json")
    for shard, text, lang in (("dev", "ab nie", "de"), ("one", "ab the", "en")):
        slots = [2 * n for n, _ in enumerate(vocabulary.encode(text, lang))]
        line = json.dumps({"offset": 0, "runs": RUNS, "text": slots}) + "\n"
        (tmp_path / f"cache/{shard}.drafts.jsonl").write_text(line)

    def initial(work: Path, vocabulary: Vocabulary, trained: Tensor) -> CausalRefiner:
        torch.manual_seed(0)
        return CausalRefiner(RefinerConfig(vocabulary=len(vocabulary), d_model=512, layers=1, heads=2))

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
    assert len(last["dev"]["de made"]) == 2  # the draft, and after all passes
    assert all(x >= 0 for x in last["dev"]["de made"])


def test_drafts_are_found_by_their_clip(work: Path) -> None:
    made = trainer(work, drafts=1.0)
    made.source()
    english, chinese = made.clips([work / "cache/one.jsonl"])
    (row,) = made.rows([english])
    assert DRAFT in [made.canvas_of(row) for _ in range(30)]
    (row,) = made.rows([chinese])
    assert DRAFT not in [made.canvas_of(row) for _ in range(30)]  # it has none


def test_a_teacher_shares_the_targets_of_its_languages(work: Path) -> None:
    options = RefineOptions(model=str(work / "model"), steps=1, negatives=50, teacher=0.75)
    made = RefineTrainer(work, work / "taught", options)
    for clip in made.clips([work / "cache/one.jsonl"]):
        batch, size = collate([clip]), len(clip.ids)
        ids, chances = made.targets(made.rows([clip]), [clip], batch, torch.arange(size + 1)[None])
        assert torch.allclose(chances.sum(-1), torch.ones(1, size + 1))
        assert ids[0, :size, 0].tolist() == clip.ids
        assert chances[0, :size, 0].tolist() == [0.25 if clip.lang == "en" else 1.0] * size
        assert ids[0, size, 0] == END  # which is the text's alone
        assert chances[0, size, 0] == 1.0
        source = [clip]
        assert all(np.isfinite(made.update(source)))


def test_weights_are_mixed_but_for_operations() -> None:
    whisper = {"embed": torch.tensor([[2.0], [4.0]]), "operation": torch.tensor([9.0])}
    trained = {"embed": torch.tensor([[0.0], [0.0]]), "operation": torch.tensor([1.0])}
    found = mixed(whisper, trained, 0.25)
    assert found["embed"].tolist() == [[0.5], [1.0]]
    assert found["operation"].tolist() == [1.0]


# --- edits -------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(TOKENS, TOKENS)
def test_the_right_edits_lead_to_the_text(canvas: list[int], text: list[int]) -> None:
    for _ in range(len(text) + 2):
        operations, places = align(canvas, text)
        canvas = apply_edits(canvas, [[*text, END][place] for place in places], operations)
    assert canvas == text


@settings(max_examples=100, deadline=None)
@given(TOKENS, st.integers(0, 999))
def test_corruption_keeps_to_its_rate(text: list[int], seed: int) -> None:
    rng = random.Random(seed)
    assert corrupt(text, 0.0, [1], rng) == text
    assert all(token in (1, *text) for token in corrupt(text, 1.0, [1], rng))
