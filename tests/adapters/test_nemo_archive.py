"""``.nemo`` files: signed, without pickle, and back to a model folder."""

from __future__ import annotations

import io
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
from tests.support import tiny
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


def repacked(archive: Path, target: Path, **changes: bytes | tarfile.TarInfo | None) -> Path:
    """A copy with other files in it; None leaves one out."""
    names = {"config": "./model_config.yaml", "signature": "./signature.json"}
    changed = {names.get(name, name): change for name, change in changes.items()}
    with tarfile.open(archive) as old, tarfile.open(target, "w") as new:
        for member in old:
            if member.name not in changed:
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
        for name, change in changed.items():
            if isinstance(change, tarfile.TarInfo):
                new.addfile(change)
            elif change is not None:
                member = tarfile.TarInfo(name)
                member.size = len(change)
                new.addfile(member, io.BytesIO(change))
    return target


def link(name: str, target: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, target
    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a tiny model."""
    folder = tmp_path_factory.mktemp("small")
    DiffusionASRModel.from_checkpoint(tiny.model(folder / "tiny")).save_to(str(folder / "tiny.nemo"))
    return folder / "tiny.nemo"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"config": b"checkpoint: other\n"}, r"model_config.yaml is corrupt or was edited"),
        ({"config": None}, "no diffusion-asr model: it holds no model_config.yaml"),
        ({"config": b"[" * 5000, "signature": None}, "nested too deeply|not readable YAML"),
        ({"config": b"a: &a [1]\nb: *a\n", "signature": None}, "refers to itself"),
        ({"config": b"a: [", "signature": None}, "not readable YAML"),
        ({"config": b"\xff\xfe\x00", "signature": None}, "not readable YAML"),
        ({"config": b"#" * (2 << 20), "signature": None}, "2097152 bytes, expected at most"),
        ({"signature": b"[" * 100_000}, "nested too deeply"),
        ({"signature": b"{}"}, "sha256: field required"),
        ({"../escaped": b"x"}, "holds '../escaped', which no archive of ours does"),
        ({"./canvas/more": link("./canvas/more", "/etc/passwd")}, "holds 'canvas/more', which no archive"),
        ({"./canvas/a/b": b"x"}, "holds 'canvas/a/b'"),
        ({"canvas//vocabulary.json": b"{}"}, "holds 'canvas/vocabulary.json'"),
    ],
)
def test_archives_that_are_not_as_we_write_them_are_refused(
    small: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    """Before NeMo unpacks anything."""
    broken = repacked(small, tmp_path / "broken.nemo", **changes)
    with pytest.raises(RecognitionError, match=problem) as error:
        DiffusionASRModel.restore_from(str(broken))
    assert str(broken) in str(error.value)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("size", [0, 100, 600, 5000, 60_000])
def test_archives_that_were_cut_off_are_refused(small: Path, tmp_path: Path, size: int) -> None:
    broken = tmp_path / "broken.nemo"
    broken.write_bytes(small.read_bytes()[:size])
    with pytest.raises(RecognitionError, match=r"broken\.nemo"):
        DiffusionASRModel.restore_from(str(broken))


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
