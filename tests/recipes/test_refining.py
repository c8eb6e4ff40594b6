"""A small run of the refiner's trainer, from caches and drafts to the log."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_asr.decoding.causal.fronts import MARGIN, SlotTimes
from diffusion_asr.decoding.causal.model import END, EditDenoiser, RefinerConfig
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded import refining
from recipes.embedded.data import Clip, collate
from recipes.embedded.refining import Drafted, RefineOptions, RefineTrainer, front_rows, mixed
from tests.support import tiny
from tests.support.recipe_helpers import write_cache

DRAFT = [259, 261, 259]  # the ab the
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

    def initial(work: Path, vocabulary: Vocabulary, trained: Tensor) -> EditDenoiser:
        torch.manual_seed(0)
        return EditDenoiser(RefinerConfig(vocabulary=len(vocabulary), d_model=512, layers=1, heads=2))

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
    assert len(last["dev"]["de made"]) == 3
    assert all(x >= 0 for x in last["dev"]["de made"])


def test_drafts_are_found_by_their_clip(work: Path) -> None:
    made = trainer(work, drafts=1.0)
    made.source()
    english, chinese = made.clips([work / "cache/one.jsonl"])
    (row,) = made.rows([english])
    assert DRAFT in [made.canvas_of(row) for _ in range(30)]
    (row,) = made.rows([chinese])
    assert DRAFT not in [made.canvas_of(row) for _ in range(30)]  # it has none


def test_fronts_share_out_text_and_states(tmp_path: Path) -> None:
    vocabulary = tiny.vocabulary(tmp_path)
    ids = vocabulary.encode("ab the nie ab nie", "en")
    starts = [n for n, token in enumerate(ids) if vocabulary.bytes_of(token).startswith(b" ")]
    assert len(starts) > 3
    runs = [(token, 4 * n, 4 * n) for n, token in enumerate(ids)]
    clip = Clip(np.zeros((200, 512), np.float16), 7, 16 * len(ids), "", "en", "made", ids)
    rows = front_rows(clip, 0, Drafted(runs, [run[1] for run in runs]), vocabulary, SlotTimes(4), 3)
    assert len(rows) > 1
    assert [token for row in rows for token in row.clip.ids] == ids
    assert [token for row in rows for token in row.draft or []] == ids
    assert all(row.clip.ids == row.draft for row in rows)
    for row in rows:
        assert ids[row.first : row.first + len(row.clip.ids)] == row.clip.ids
        assert row.first in starts
    ends = [(row.clip.offset, row.clip.offset + row.clip.frames) for row in rows]
    assert ends[0][0] == 7
    assert ends[-1][1] == 7 + clip.frames
    assert all(after[0] == before[1] - 2 * MARGIN for before, after in pairwise(ends))
    rows = front_rows(clip, 0, Drafted(runs, [run[1] + 99 for run in runs]), vocabulary, SlotTimes(4), 3)
    assert [row.clip.ids for row in rows] == [*[[]] * (len(rows) - 1), ids]  # all said after the draft's end


def test_a_teacher_reads_the_whole_clip_of_a_front(work: Path) -> None:
    options = RefineOptions(
        model=str(work / "model"), steps=1, negatives=50, teacher=0.75, cut=1.0, fronts=(2,)
    )
    made = RefineTrainer(work, work / "cut", options)
    made.source()
    (english, _) = made.clips([work / "cache/one.jsonl"])
    whole = collate([english])
    taught, _ = made.teacher.says(whole) if made.teacher else (None, None)
    rows = made.rows([english])
    assert len(rows) > 1
    batch = collate([row.clip for row in rows])
    longest = batch.targets.shape[1]
    ids, chances = made.targets(rows, [english], batch, torch.arange(longest + 1).expand(len(rows), -1))
    assert taught is not None
    for row, found, shares in zip(rows, ids, chances, strict=True):
        size = len(row.clip.ids)
        assert found[:size, 0].tolist() == row.clip.ids
        assert torch.equal(found[:size, 1:], taught[0, row.first : row.first + size])
        assert (found[size, 0], shares[size, 0]) == (END, 1.0)


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
