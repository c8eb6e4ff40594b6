"""The embedded model's recipe: a few training steps, and quick evaluation."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.models.canvas import compute_dtype
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded import training
from recipes.embedded.averaging import average
from recipes.embedded.data import load
from recipes.embedded.quick_eval import decode, error
from recipes.embedded.training import Trainer, TrainOptions, initial_denoiser, run_average
from tests.support import recipe_helpers, tiny
from tests.support.recipe_helpers import TEXTS, synthetic, write_cache

own_generators = recipe_helpers.own_generators


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    tiny.vocabulary(folder / "model")
    texts = {"en": "ab the", "de": "die", "zh": "你好"}
    rows = [{"lang": x, "text": t, "frames": 60 + n} for n, (x, t) in enumerate(texts.items())]
    write_cache(folder / "cache/dev.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def vocabulary(work: Path) -> Vocabulary:
    return Vocabulary.load(work / "model/vocabulary.json")


# --- training ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers start from a tiny denoiser: the real one is 512 wide and needs Whisper's weights."""

    def initial(work: Path, vocabulary: Vocabulary, slot_frames: int, longest: int) -> CanvasDenoiser:
        return CanvasDenoiser(tiny.denoiser_config(len(vocabulary)))

    monkeypatch.setattr(training, "initial_denoiser", initial)


def trainer(work: Path, folder: Path) -> Trainer:
    options = TrainOptions(steps=80, lr=1e-2, lr_new=1e-2, warmup=5, unroll_after=10, negatives=50, ema=0.9)
    return Trainer(work, folder, options)


def test_slots_that_do_not_fit_are_refused(vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="set longest to 760 frames"):
        initial_denoiser(tmp_path, vocabulary, slot_frames=2)


@pytest.mark.usefixtures("small")
def test_longer_clips_are_left_out(work: Path, tmp_path: Path) -> None:
    made = Trainer(work, tmp_path, TrainOptions(longest=61))
    assert sorted(clip.frames for clip in made.dev) == [60, 61]


@pytest.mark.usefixtures("small")
def test_training_lowers_the_loss_and_resumes(work: Path, tmp_path: Path) -> None:
    made = trainer(work, tmp_path)
    batch = synthetic(TEXTS)
    history = [made.update(batch) for _ in range(80)]
    assert [len(x) for x in history] == [1] * 10 + [2] * 70
    assert np.mean([x[0] for x in history[-5:]]) < 0.6 * np.mean([x[0] for x in history[:3]])
    for wide, narrow in zip(made.master.parameters(), made.model.parameters(), strict=True):
        assert torch.equal(wide.to(compute_dtype()), narrow)
    assert not any(p.requires_grad for p in made.average.parameters())
    made.save()
    again = trainer(work, tmp_path)
    assert again.step == 80
    assert not (tmp_path / "last.tmp").exists()
    for name in ("master", "model", "average"):
        expected, found = getattr(made, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(found[k], v) for k, v in expected.items())
    assert again.optimiser.state_dict()["state"].keys() == made.optimiser.state_dict()["state"].keys()


@pytest.mark.usefixtures("small")
def test_a_trainer_reads_its_caches_but_not_dev(tmp_path: Path) -> None:
    tiny.vocabulary(tmp_path / "model")
    write_cache(tmp_path / "cache/dev.jsonl", [{"lang": "de", "text": "nie", "frames": 60}])
    write_cache(tmp_path / "cache/one.jsonl", [{"lang": "en", "text": "ab the", "frames": 60}])
    made = trainer(tmp_path, tmp_path / "run")
    assert [clip.text for clip in made.dev] == ["nie"]
    assert set(next(made.source()).texts) == {"ab the"}
    write_cache(tmp_path / "cache/two.jsonl", [{"lang": "zh", "text": "你好", "frames": 60}])
    texts = {text for batch in itertools.islice(made.source(), 20) for text in batch.texts}
    assert texts == {"ab the", "你好"}
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["clips"] for line in log] == [1, 2]
    assert json.loads((tmp_path / "run/options.json").read_text())["negatives"] == 50


# --- quick evaluation --------------------------------------------------------------------------------------


def test_error_rates() -> None:
    assert error(["a b c d"], ["A, b x d!"], "en") == 25.0
    assert error(["你好"], ["你 好。"], "zh") == 0.0
    assert error(["की"], ["का"], "hi") == 50.0


def test_decode_gives_a_text_for_each_clip_and_step(work: Path, vocabulary: Vocabulary) -> None:
    clips = load([work / "cache/dev.jsonl"], vocabulary, 4)
    sizes = tiny.denoiser_config(len(vocabulary))
    wide = type(sizes)(vocabulary=sizes.vocabulary, d_model=512, layers=1, heads=2)
    found = decode(tiny.randomised(CanvasDenoiser(wide), 0), clips, vocabulary)
    assert sorted(found) == [1, 2, 4]
    assert all(len(texts) == len(clips) for texts in found.values())
    assert found == decode(tiny.randomised(CanvasDenoiser(wide), 0), clips, vocabulary)


@pytest.mark.usefixtures("small")
def test_the_mean_of_runs_is_a_run_that_goes_on(work: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    batch = synthetic(TEXTS)
    for name, steps in (("one", 2), ("two", 5)):
        made = trainer(work, work / "runs" / name)
        for _ in range(steps):
            made.update(batch)
        made.save()
    average(work, "both", ["one:3", "two"])
    one, two, both = (run_average(work, name) for name in ("one", "two", "both"))
    for name, value in both.items():
        assert torch.allclose(value, 0.75 * one[name] + 0.25 * two[name], atol=1e-6)
    options = TrainOptions(start="both", steps=80, warmup=5, negatives=50)
    again = Trainer(work, tmp_path, options)
    for name, value in again.master.state_dict().items():
        assert torch.equal(value, both[name])
    with pytest.raises(ValueError, match="none of three, four is a run"):
        average(work, "broken", ["three", "four:2"])
    with pytest.raises(ValueError, match=r"one:much.*should be a weight"):
        average(work, "broken", ["one:much"])
