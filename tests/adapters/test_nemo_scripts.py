"""NeMo's own scripts, unmodified.

They are not in NeMo's wheel: DIFFUSION_ASR_NEMO_CLONE names a clone of NeMo, whose scripts in examples/asr
are run as they are. Without it the functions of the installed package that they consist of are run.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")


import lightning.pytorch as pl
import torch
from nemo.collections.asr.models import ASRModel
from nemo.collections.asr.modules import SpectrogramAugmentation
from nemo.core.classes import common as nemo_common
from omegaconf import OmegaConf

from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import accept_archives
from diffusion_asr_nemo.scripts import is_ours
from tests.support.nemo_helpers import (
    CLIPS,
    entry,
    language,
    run,
    transcribe_like_the_script,
    write_manifest,
)

CLONE = os.environ.get("DIFFUSION_ASR_NEMO_CLONE", "")
LEADERBOARD = os.environ.get("DIFFUSION_ASR_LEADERBOARD_CLONE", "")


@pytest.mark.timeout(900)
def test_nemos_scripts_transcribe_and_score(
    nemo_archive: Path, core: Recognizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(which: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nNeMo scripts: {which}\n")

    manifest = write_manifest(tmp_path / "m.json", [entry(c, lang=language(c)) for c in CLIPS])
    out = tmp_path / "out.json"
    if CLONE:
        say(f"unmodified scripts of {CLONE}")
        scripts = Path(CLONE) / "examples/asr"
        common = [
            f"model_path={nemo_archive}",
            f"dataset_manifest={manifest}",
            f"output_filename={out}",
            "batch_size=2",
        ]
        scored = run([sys.executable, scripts / "speech_to_text_eval.py", *common], tmp_path)
        assert scored.returncode == 0, scored.stderr[-2000:]
        assert "Dataset WER/CER" in scored.stderr + scored.stdout
        more = ["timestamps=True", "compute_langs=True", "amp=True"]
        done = run([sys.executable, scripts / "transcribe_speech.py", *common, *more], tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        say("DIFFUSION_ASR_NEMO_CLONE is not set: the scripts' functions from the installed package")
        transcribe_like_the_script(nemo_archive, manifest, out)
    rows = [json.loads(line) for line in out.read_text(encoding="utf8").splitlines()]
    assert len(rows) == len(CLIPS)
    for clip, row in zip(CLIPS, rows, strict=True):
        transcript = core.transcribe(clip, language=language(clip))
        assert row["pred_text"] == transcript.text
        assert row["pred_lang"] == language(clip)
        assert [(w["word"], w["start"]) for w in row["word"]] == [(w.text, w.start) for w in transcript.words]
        assert 0 <= row["wer"] < 1.5


@pytest.fixture
def accepting() -> Iterator[None]:
    """``ASRModel`` takes our models, as in scripts started by ``python -m diffusion_asr_nemo run``."""
    accept_archives()
    yield
    del ASRModel.restore_from, ASRModel.from_pretrained  # what it inherits is NeMo's own


def finetune_config(archive: Path, manifest: Path, out: Path) -> list[str]:
    return [
        f"init_from_nemo_model={archive}", f"exp_manager.exp_dir={out}", "trainer.max_steps=2",
        *(f"model.{name}_ds.manifest_filepath={manifest}" for name in ("train", "validation", "test")),
        *(f"model.{name}_ds.num_workers=0" for name in ("train", "validation", "test")),
        "trainer.devices=1", "trainer.accelerator=cpu", "model.train_ds.batch_size=2",
        "model.optim.sched.warmup_steps=1",
    ]  # fmt: skip


def finetune_like_the_script(archive: Path, manifest: Path, out: Path) -> None:
    """What examples/asr/speech_to_text_finetune.py calls, in its order, with its own configuration's keys."""
    data = {"manifest_filepath": str(manifest), "sample_rate": 16_000, "batch_size": 2, "num_workers": 0}
    train = {**data, "max_duration": 20, "min_duration": 0.1, "is_tarred": False, "shuffle_n": 2048}
    optim = {
        "name": "adamw",
        "lr": 1e-4,
        "sched": {"name": "CosineAnnealing", "warmup_steps": 1, "min_lr": 5e-6},
    }
    trainer = pl.Trainer(
        devices=1, accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, num_sanity_val_steps=0, precision="bf16-mixed",
    )  # fmt: skip
    model = ASRModel.restore_from(restore_path=str(archive))
    model.set_trainer(trainer)
    model.setup_training_data(OmegaConf.create(train))
    model.setup_multiple_validation_data(OmegaConf.create(data))
    model.setup_multiple_test_data(OmegaConf.create(data))
    model.setup_optimization(OmegaConf.create(optim))
    model.spec_augment = SpectrogramAugmentation(freq_masks=2, time_masks=10, freq_width=27, time_width=0.05)
    trainer.fit(model)
    (told,) = trainer.test(model, verbose=False)
    assert 0 <= float(told["test_wer"]) < 1
    assert float(told["test_loss"]) > 0
    out.mkdir()
    model.save_to(str(out / "Speech_To_Text_Finetuning.nemo"))


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("accepting")
def test_nemos_script_fine_tunes(nemo_archive: Path, core: Recognizer, tmp_path: Path) -> None:
    english = [clip for clip in CLIPS if language(clip) == "en"]
    manifest = write_manifest(tmp_path / "m.json", [entry(clip, lang="en") for clip in english])
    if CLONE:
        script = Path(CLONE) / "examples/asr/speech_to_text_finetune.py"
        options = finetune_config(nemo_archive, manifest, tmp_path / "exp")
        done = run([sys.executable, "-m", "diffusion_asr_nemo", "run", script, *options], tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    else:
        finetune_like_the_script(nemo_archive, manifest, tmp_path / "exp")
    (saved,) = (tmp_path / "exp").rglob("Speech_To_Text_Finetuning.nemo")
    tuned = ASRModel.restore_from(str(saved))
    # A matrix: in bf16, a single number may round to what it was.
    assert not torch.equal(tuned.canvas.inject.weight, find_denoiser(core.parts).inject.weight)
    assert tuned.transcribe(str(english[0]), source_lang="en", verbose=False)[0].text


METRIC = """
import jiwer


class Metric:
    def compute(self, references, predictions):
        return jiwer.wer(references, predictions)


def load(name):
    return Metric()
"""
NUMBERS = """
def num2words(number, lang="en"):
    return str(number)
"""
# Of what the leaderboard's script would fetch from a hub, or what only normalises numbers.
STUBS = {"evaluate.py": METRIC, "num2words.py": NUMBERS}


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("accepting")
def test_the_leaderboards_script(nemo_archive: Path, core: Recognizer, tmp_path: Path) -> None:
    """nemo_asr/run_eval.py of huggingface/open_asr_leaderboard, from DIFFUSION_ASR_LEADERBOARD_CLONE."""
    english = [clip for clip in CLIPS if language(clip) == "en"]
    expected = {clip.stem: core.transcribe(clip).text for clip in english}
    if not LEADERBOARD:
        assert heard_like_the_leaderboard(str(nemo_archive), english) == list(expected.values())
        assert heard_like_the_leaderboard("canvas-base", english[:1]) == [expected[english[0].stem]]
        return
    datasets = pytest.importorskip("datasets")
    rows = {
        "audio": list(map(str, english)),
        "text": [entry(c)["text"] for c in english],
        "id": list(expected),
    }
    (tmp_path / "ds").mkdir()
    datasets.Dataset.from_dict(rows).cast_column("audio", datasets.Audio()).to_parquet(
        tmp_path / "ds/test.parquet"
    )
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
    script = Path(LEADERBOARD) / "nemo_asr/run_eval.py"
    options = ["--model_id", nemo_archive, "--dataset_path", "ds", "--dataset", "default", "--batch_size", 2]
    more = [str(tmp_path), LEADERBOARD]
    done = run([sys.executable, "-m", "diffusion_asr_nemo", "run", script, *options], tmp_path, more)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (tmp_path / "results").glob("*.jsonl")
    found = [json.loads(line)["pred_text"] for line in results.read_text(encoding="utf8").splitlines()]
    assert sorted(found) == sorted(expected.values())


def heard_like_the_leaderboard(model_id: str, clips: list[Path]) -> list[str]:
    """What the script calls, in its order."""
    load = ASRModel.restore_from if model_id.endswith(".nemo") else ASRModel.from_pretrained
    asr_model = load(model_id, map_location=torch.device("cpu"))
    asr_model.to(torch.float32)
    asr_model.eval()
    if asr_model.cfg.decoding.strategy != "beam":
        asr_model.cfg.decoding.strategy = "greedy_batch"
        asr_model.change_decoding_strategy(asr_model.cfg.decoding)
    with torch.inference_mode(), torch.no_grad():
        found = asr_model.transcribe(list(map(str, clips)), batch_size=2, verbose=False, num_workers=1)
    return [hypothesis.text for hypothesis in found]


def test_other_files_go_nemos_way(nemo_archive: Path, accepting: None, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.nemo"
    (tmp_path / "model_config.yaml").write_text("target: subprocess.Popen\n")
    with tarfile.open(foreign, "w") as tar:
        tar.add(tmp_path / "model_config.yaml", "./model_config.yaml")
    assert is_ours(nemo_archive)
    assert not is_ours(foreign)
    with pytest.raises(nemo_common.UnsafeTargetError):
        ASRModel.restore_from(str(foreign))
    with pytest.raises(FileNotFoundError, match="was not found"):
        ASRModel.from_pretrained("canvas-huge")
    assert not any("diffusion" in prefix for prefix in nemo_common.ALLOWED_TARGET_PREFIXES)


def test_a_script_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "diffusion_asr_nemo", "run", tmp_path / "none.py", "--x", 1])
    assert done.returncode == 1
    assert done.stderr.strip().endswith("none.py: no such script")
