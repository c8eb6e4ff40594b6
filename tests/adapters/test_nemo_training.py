"""Fine-tuning: from manifests or tar archives to a model that has learnt."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")


from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import DiffusionASRModel, RecognitionError
from tests.support.nemo_helpers import (
    CLIPS,
    DATA,
    ROOT,
    entry,
    errors,
    run,
    write_manifest,
)


@pytest.mark.timeout(900)
def test_fine_tuning_lowers_the_loss_and_transcribes(
    nemo_archive: Path, core: Recognizer, tmp_path: Path
) -> None:
    clip = DATA / "en-arctic_a0095_1592746305.flac"
    manifest = write_manifest(tmp_path / "train.json", [entry(clip, lang="en")] * 2)
    tuned, log = tmp_path / "tuned.nemo", tmp_path / "logs"
    options = [
        f"init_from={nemo_archive}", f"output={tuned}", f"log_dir={log}",
        f"train_ds.manifest_filepath={manifest}",
        f"validation_ds.manifest_filepath={manifest}", "train_ds.batch_size=2", "validation_ds.batch_size=2",
        "optim.lr=1e-4", "trainer.max_steps=8", "trainer.log_every_n_steps=1",
        "+trainer.enable_progress_bar=false",
    ]  # fmt: skip
    done = run([sys.executable, ROOT / "recipes/nemo/finetune.py", *options], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    with next(log.rglob("metrics.csv")).open() as lines:
        rows = list(csv.DictReader(lines))
    losses = [float(r["val_loss"]) for r in rows if r["val_loss"]]
    assert losses[-1] < 0.5 * losses[0], losses
    restored = DiffusionASRModel.restore_from(str(tuned))
    # A matrix: in bf16, a single number may round to what it was.
    assert not torch.equal(restored.canvas.inject.weight, find_denoiser(core.parts).inject.weight)
    reference = entry(clip)["text"]
    # The draft shows it: settled, the shipped model makes no error in this clip.
    drafts = (asr.transcribe(clip, "en", steps=1).text for asr in (core, restored.recognizer))
    before, after = (errors(draft, reference) for draft in drafts)
    assert after < before
    assert errors(heard(restored, clip), reference) <= errors(core.transcribe(clip, "en").text, reference)


def heard(nemo_model: Any, clip: Path) -> str:
    return str(nemo_model.transcribe(str(clip), source_lang="en", verbose=False)[0].text)


def test_training_needs_texts_and_languages(nemo_archive: Path, tmp_path: Path) -> None:
    model = DiffusionASRModel.restore_from(str(nemo_archive))
    empty = write_manifest(tmp_path / "a.json", [entry(CLIPS[0]) | {"text": ""}])
    with pytest.raises(RecognitionError, match="no entry with a text"):
        model.setup_training_data({"manifest_filepath": str(empty)})
    nameless = write_manifest(tmp_path / "b.json", [entry(CLIPS[0])])
    with pytest.raises(RecognitionError, match="training needs lang, one of en"):
        model.setup_training_data({"manifest_filepath": str(nameless)})
