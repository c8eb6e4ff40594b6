"""Models that several files of tests share: each is loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffusion_asr.recognizer import Recognizer
from diffusion_asr.transcript import Transcript
from tests.support.utterances import Samples, made_clips, real_clips


@pytest.fixture(scope="session")
def core() -> Recognizer:
    return Recognizer.from_pretrained()


@pytest.fixture(scope="session")
def heard_by_core(core: Recognizer) -> list[tuple[str, Samples, Transcript]]:
    """Language, samples and core's transcript of every clip on which an adapter may part from it."""
    clips = (real_clips() | made_clips()).values()
    return [(code, samples, core.transcribe(samples, code)) for code, samples in clips]


@pytest.fixture(scope="session")
def nemo_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """canvas-base as a ``.nemo`` file."""
    adapter = pytest.importorskip("diffusion_asr_nemo", exc_type=ImportError)
    path = tmp_path_factory.mktemp("nemo") / "canvas-base.nemo"
    adapter.DiffusionASRModel.from_checkpoint().save_to(str(path))
    return path


@pytest.fixture(scope="session")
def nemo_model(nemo_archive: Path) -> Any:
    """The model of that file; tests that change one load their own."""
    adapter = pytest.importorskip("diffusion_asr_nemo", exc_type=ImportError)
    return adapter.DiffusionASRModel.restore_from(str(nemo_archive), map_location="cpu")
