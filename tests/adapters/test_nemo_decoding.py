"""How clips are decoded: the section of the configuration, and NeMo's ways of changing it."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

from omegaconf import OmegaConf

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import DiffusionASRModel, RecognitionError
from diffusion_asr_nemo.decoding import decoding_options, decoding_section
from tests.support.nemo_helpers import (
    CLIPS,
    DATA,
    assert_same,
)


def test_options_are_kept_and_used(core: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "noisy.nemo"
    DiffusionASRModel.from_checkpoint(language="en", steps=1, start="noise").save_to(str(path))
    restored = DiffusionASRModel.restore_from(str(path))
    (first,) = restored.transcribe(str(CLIPS[-1]), timestamps=True, verbose=False)
    assert_same(first, core.transcribe(CLIPS[-1], language="en", steps=1, start="noise"))
    (more,) = restored.transcribe(str(CLIPS[-1]), steps=6, timestamps=True, verbose=False)
    expected = core.transcribe(CLIPS[-1], language="en", steps=6, start="noise")
    assert_same(more, expected)
    assert first.text != more.text
    assert restored.decoding.options == DecodingOptions(steps=1, start="noise")
    restored.cfg.decoding.steps = 6  # as NeMo's users change a model's decoding
    assert_same(restored.transcribe(str(CLIPS[-1]), timestamps=True, verbose=False)[0], expected)


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ({"steps": 2, "init": "draft"}, DecodingOptions(steps=2)),
        ({"steps": None, "init": "noise"}, DecodingOptions(start="noise")),
        ({"start": None}, DecodingOptions()),  # hydra's and YAML's bare null
        ({"start": "noise", "seed": 3}, DecodingOptions(start="noise", seed=3)),
        (None, DecodingOptions()),
    ],
)
def test_sections_of_any_version_are_read(section: Any, options: DecodingOptions) -> None:
    assert decoding_options(section) == options
    assert decoding_options(decoding_section(options)) == options


@pytest.mark.parametrize("old", [{"steps": 1, "init": "draft"}, {"steps": 1, "init": "noise"}])
def test_archives_with_the_old_name_of_the_start_still_load(
    nemo_archive: Path, core: Recognizer, tmp_path: Path, old: dict[str, Any]
) -> None:
    with tarfile.open(nemo_archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    config = OmegaConf.load(tmp_path / "unpacked/model_config.yaml")
    config.decoding = old
    OmegaConf.save(config, tmp_path / "unpacked/model_config.yaml")
    (tmp_path / "unpacked/signature.json").unlink()  # which they did not have
    with tarfile.open(tmp_path / "old.nemo", "w") as tar:
        tar.add(tmp_path / "unpacked", ".")
    restored = DiffusionASRModel.restore_from(str(tmp_path / "old.nemo"))
    start = "noise" if old["init"] == "noise" else "null"
    (hypothesis,) = restored.transcribe(str(CLIPS[-1]), source_lang="en", timestamps=True, verbose=False)
    assert_same(hypothesis, core.transcribe(CLIPS[-1], "en", steps=1, start=start))
    assert restored.cfg.decoding.start == start
    assert "init" not in restored.cfg.decoding  # saved again, it has today's name


def test_options_that_make_no_sense_are_told_before_any_work(nemo_model: Any) -> None:
    with pytest.raises(RecognitionError, match="unknown decoding options: beams; there are steps"):
        DiffusionASRModel.from_checkpoint("nope", beams=5)
    with pytest.raises(RecognitionError, match="start must be 'null', 'noise'"):
        DiffusionASRModel.from_checkpoint("nope", start="silence")
    with pytest.raises(RecognitionError, match="steps must be a whole number of passes"):
        nemo_model.transcribe([str(DATA / "no-such.flac")], steps=0, verbose=False)
