"""``.nemo`` files: signed, without pickle, and back to a model folder."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

from nemo.collections.asr.models import ASRModel
from nemo.core.classes import common as nemo_common

from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import DiffusionASRModel, RecognitionError
from tests.support.nemo_helpers import (
    CLIPS,
    assert_same,
    run,
)


def test_archive_holds_no_pickle_and_leaves_the_allow_list(nemo_archive: Path, nemo_model: Any) -> None:
    with tarfile.open(nemo_archive) as tar:
        kinds = {Path(m.name).suffix for m in tar if m.isfile()}
    assert kinds == {".yaml", ".json", ".safetensors"}
    assert not any("diffusion" in prefix for prefix in nemo_common.ALLOWED_TARGET_PREFIXES)
    assert type(nemo_model) is DiffusionASRModel
    with pytest.raises(nemo_common.UnsafeTargetError):  # NeMo's control still refuses other people's classes
        ASRModel.restore_from(str(nemo_archive), map_location="cpu")


def test_corrupt_and_foreign_archives_are_refused(nemo_archive: Path, tmp_path: Path) -> None:
    data = bytearray(nemo_archive.read_bytes())
    with tarfile.open(nemo_archive) as tar:
        data[tar.getmember("./canvas/denoiser.safetensors").offset_data + 1_000_000] ^= 1
    broken = tmp_path / "broken.nemo"
    broken.write_bytes(data)
    with pytest.raises(RecognitionError, match="corrupt: its sha256"):
        DiffusionASRModel.restore_from(str(broken))
    (tmp_path / "model_config.yaml").write_text("sample_rate: 16000\n")
    foreign = tmp_path / "foreign.nemo"
    with tarfile.open(foreign, "w") as tar:
        tar.add(tmp_path / "model_config.yaml", "./model_config.yaml")
    with pytest.raises(RecognitionError, match="no diffusion-asr model"):
        DiffusionASRModel.restore_from(str(foreign))
    assert DiffusionASRModel.from_checkpoint().recognizer.languages  # a failed restore leaves nothing behind


def test_trained_weights_survive_nemo_and_core(nemo_archive: Path, tmp_path: Path) -> None:
    tuned = DiffusionASRModel.restore_from(str(nemo_archive))
    weights = {k: v.float().clone() for k, v in tuned.state_dict().items()}
    weights["canvas.null_bias"] += 0.125
    tuned.load_state_dict(weights)
    tuned.save_to(str(tmp_path / "tuned.nemo"))
    again = DiffusionASRModel.restore_from(str(tmp_path / "tuned.nemo"))
    assert torch.equal(
        again.canvas.null_bias.float(), tuned.canvas.null_bias.to(again.canvas.null_bias.dtype).float()
    )
    again.save_to(str(tmp_path / "tuned.nemo"))  # over the file that it came from
    command = ("unpack", tmp_path / "tuned.nemo", tmp_path / "folder")
    assert run([sys.executable, "-m", "diffusion_asr_nemo", *command]).returncode == 0
    core = Recognizer.from_pretrained(tmp_path / "folder")
    (hypothesis,) = again.transcribe(str(CLIPS[-1]), timestamps=True, verbose=False)
    assert_same(hypothesis, core.transcribe(CLIPS[-1]))
    again.save_folder(tmp_path / "alone", refiner=False)
    alone = Recognizer.from_pretrained(tmp_path / "alone")
    assert isinstance(alone.parts.decoder, DiffusionDecoder)  # the denoiser alone
    assert torch.equal(find_denoiser(alone.parts).null_bias, find_denoiser(core.parts).null_bias)
    with pytest.raises(RecognitionError, match="exists: choose another folder"):
        again.save_folder(tmp_path / "alone")


def test_export_command_and_missing_toolkit(tmp_path: Path) -> None:
    failed = run(
        [sys.executable, "-m", "diffusion_asr_nemo", "export", tmp_path / "x.nemo", "--checkpoint", "nope"]
    )
    assert failed.returncode == 1
    assert "no model 'nope'" in failed.stderr
    assert "Traceback" not in failed.stderr
    code = "import sys; sys.modules['nemo'] = None; import diffusion_asr_nemo"
    assert "pip install 'diffusion-asr[nemo]'" in run([sys.executable, "-c", code]).stderr
