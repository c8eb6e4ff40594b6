"""pyannote's own ``SpeakerDiarization`` in our pipeline: an object, and folders laid out like the gated ones.

community-1 and 3.1 need an account. Their configurations are written here as they are published (community-1:
one folder, ``$model/…``, VBx with a PLDA; 3.1: agglomerative clustering, paths to checkpoints), around this
package's offline networks saved as pyannote checkpoints; nothing is ours but the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file

pytest.importorskip("pyannote.audio", reason="pip install 'diffusion-asr[pyannote]'")

import diffusion_asr_pyannote as adapter
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_pyannote import models

from pyannote.audio import Audio, Pipeline, __version__  # isort: skip
from pyannote.audio import sample as sample_package  # isort: skip
from pyannote.audio.core.plda import PLDA  # isort: skip
from pyannote.audio.core.task import Problem, Resolution, Specifications  # isort: skip
from pyannote.audio.pipelines import SpeakerDiarization  # isort: skip
from pyannote.database.util import load_rttm  # isort: skip
from pyannote.metrics.diarization import DiarizationErrorRate  # isort: skip

SAMPLE = Path(sample_package.__file__).parent / "sample.wav"
A_VOICE = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0)
AGGLOMERATIVE = {
    "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
    "clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.7},
}
VBX = {
    "segmentation": {"threshold": 0.5, "min_duration_off": 0.0},
    "clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
}


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.from_pretrained()


@pytest.fixture(scope="module")
def words(recognizer: Recognizer) -> list[tuple[str, float, float]]:
    return [(w.text, w.start, w.end) for w in recognizer.transcribe(SAMPLE, "en").words]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as community-1's: segmentation, embedding, plda."""
    folder = tmp_path_factory.mktemp("community")
    for name, model in (
        ("segmentation", models.segmentation_model()),
        ("embedding", models.embedding_model()),
    ):
        (folder / name).mkdir()
        _save_as_pyannote_does(model, folder / name / "pytorch_model.bin")
    (folder / "plda").mkdir()
    matrix = load_file(models.PROJECTION)["matrix"]
    size = matrix.shape[1]
    np.savez(
        folder / "plda/xvec_transform.npz",
        mean1=np.zeros(256),
        mean2=np.zeros(size),
        lda=matrix.astype(float),
    )
    np.savez(folder / "plda/plda.npz", mu=np.zeros(size), tr=np.eye(size), psi=np.linspace(2.0, 0.5, size))
    return folder


def _save_as_pyannote_does(model: Any, path: Path) -> None:
    """A checkpoint for ``Model.from_pretrained``, as pyannote's training writes them."""
    kind = type(model)
    about = {
        "versions": {"torch": torch.__version__, "pyannote.audio": __version__},
        "architecture": {"module": kind.__module__, "class": kind.__name__},
        "specifications": getattr(model, "_specifications", A_VOICE),
    }
    torch.save(
        {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "pytorch-lightning_version": "2.4.0",
            "pyannote.audio": about,
        },
        path,
    )


def community(parts: Path) -> str:
    params = {
        "clustering": "VBxClustering",
        "segmentation": "$model/segmentation",
        "segmentation_batch_size": 16,
        "embedding": "$model/embedding",
        "embedding_batch_size": 16,
        "embedding_exclude_overlap": True,
        "plda": "$model/plda",
    }
    return _written(parts / "config.yaml", params, VBX, str(parts))


def three_one(parts: Path) -> str:
    params = {
        "clustering": "AgglomerativeClustering",
        "segmentation": str(parts / "segmentation/pytorch_model.bin"),
        "segmentation_batch_size": 16,
        "embedding": str(parts / "embedding/pytorch_model.bin"),
        "embedding_batch_size": 16,
        "embedding_exclude_overlap": True,
        "plda": {"checkpoint": str(parts / "plda")},
    }
    path = parts / "three-one.yaml"
    return _written(path, params, AGGLOMERATIVE, str(path))


def _written(path: Path, params: dict[str, Any], tuned: dict[str, Any], answer: str) -> str:
    whole = {
        "dependencies": {"pyannote.audio": "4.0.0"},
        "pipeline": {"name": "pyannote.audio.pipelines.SpeakerDiarization", "params": params},
        "params": tuned,
    }
    path.write_text(yaml.safe_dump(whole), encoding="utf8")
    return answer


def stock(parts: Path, legacy: bool) -> Any:
    """Built in code; a legacy one returns an ``Annotation`` alone, as 3.1's did."""
    pipeline = SpeakerDiarization(
        legacy=legacy,
        segmentation=models.segmentation_model(),
        embedding=models.embedding_model(),
        embedding_exclude_overlap=True,
        plda=PLDA(parts / "plda/xvec_transform.npz", parts / "plda/plda.npz"),
        clustering="AgglomerativeClustering",
        segmentation_batch_size=16,
        embedding_batch_size=16,
    )
    return pipeline.instantiate(AGGLOMERATIVE)


GIVEN: dict[str, Callable[[Path], Any]] = {
    "community-1's folder": community,
    "3.1's YAML file": three_one,
    "a configuration": lambda parts: yaml.safe_load(Path(three_one(parts)).read_text(encoding="utf8")),
    "an object": lambda parts: stock(parts, legacy=False),
    "a legacy object": lambda parts: stock(parts, legacy=True),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_stock_diarizations_give_a_transcript_with_speakers(
    kind: str, parts: Path, recognizer: Recognizer, words: list[tuple[str, float, float]]
) -> None:
    pipeline = adapter.SpeakerAttributedTranscription(GIVEN[kind](parts), recognizer, order="decode-first")
    assert type(pipeline.diarization) is SpeakerDiarization
    out = pipeline(SAMPLE, num_speakers=2, language="en")
    assert [(w.text, w.start, w.end) for w in out.words] == words != []
    assert {w.speaker for w in out.words} - {None} == {"SPEAKER_00", "SPEAKER_01"}
    single = adapter.turns_of(out.exclusive_speaker_diarization)
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(single))
    (reference,) = load_rttm(SAMPLE.with_suffix(".rttm")).values()
    assert DiarizationErrorRate()(reference, out.speaker_diarization) < 0.25


def test_the_meetings_yaml_can_name_a_stock_diarization(
    parts: Path, words: list[tuple[str, float, float]], tmp_path: Path
) -> None:
    config = yaml.safe_load((adapter.MEETING / "config.yaml").read_text(encoding="utf8"))
    config["pipeline"]["params"] |= {"diarization": community(parts), "order": "decode-first"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf8")
    pipeline = Pipeline.from_pretrained(tmp_path)
    assert type(pipeline.diarization) is SpeakerDiarization
    samples, rate = Audio()(SAMPLE)
    out = pipeline({"waveform": samples, "sample_rate": rate}, min_speakers=2, max_speakers=3, language="en")
    assert [text for text, _, _ in words] == [w.text for w in out.words]
    assert len({w.speaker for w in out.words} - {None}) in (2, 3)
