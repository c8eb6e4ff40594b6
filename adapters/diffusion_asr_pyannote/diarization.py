"""Speaker diarization that needs no account, no download and no pickle: pyannote's pipeline, our files.

>>> from pyannote.audio import Pipeline
>>> from diffusion_asr_pyannote import OFFLINE_DIARIZATION
>>> diarization = Pipeline.from_pretrained(OFFLINE_DIARIZATION)
>>> diarization("meeting.wav", num_speakers=3).exclusive_speaker_diarization
"""

from __future__ import annotations

from typing import Any

import yaml

from diffusion_asr_pyannote import models
from diffusion_asr_pyannote.clustering import ProjectedClustering

from pyannote.audio.core.plda import PLDA  # isort: skip
from pyannote.audio.pipelines import SpeakerDiarization  # isort: skip

LONG = 1200.0  # seconds


class _NoPLDA(PLDA):  # type: ignore[misc]  # pyannote is untyped
    """``SpeakerDiarization`` wants one even for the clusterings that never look at it."""

    def __init__(self) -> None:
        """Nothing to load."""


class OfflineDiarization(SpeakerDiarization):  # type: ignore[misc]
    """pyannote's ``SpeakerDiarization`` with the segmentation and the embedding of this package.

    ``offline/config.yaml`` holds the tuned thresholds, ``offline/NOTICE.md`` tells where weights are from.
    Called as any pyannote diarization: ``num_speakers``, ``min_speakers``, ``max_speakers``, ``hook``.
    """

    def __init__(
        self,
        segmentation_step: float = 0.1,
        segmentation_batch_size: int = 16,
        embedding_batch_size: int = 16,
        token: object = None,
        cache_dir: object = None,
    ) -> None:
        """``token`` and ``cache_dir`` come from ``Pipeline.from_pretrained`` and have no use here."""
        super().__init__(
            segmentation=models.segmentation_model(),
            segmentation_step=segmentation_step,
            embedding=models.embedding_model(),
            embedding_exclude_overlap=True,
            plda=_NoPLDA(),
            clustering="AgglomerativeClustering",
            segmentation_batch_size=segmentation_batch_size,
            embedding_batch_size=embedding_batch_size,
        )
        self.clustering = ProjectedClustering(models.PROJECTION)

    def get_segmentations(self, file: Any, hook: Any = None) -> Any:
        """As in pyannote; long recordings with windows every second, which halves memory and time."""
        long = self._audio.get_duration(file) > LONG
        self._segmentation.step = (
            (2.0 if long else 1.0) * self.segmentation_step * self._segmentation.duration
        )
        return super().get_segmentations(file, hook=hook)

    def default_parameters(self) -> dict[str, Any]:
        """The tuned ones, from ``offline/config.yaml``."""
        config = yaml.safe_load((models.OFFLINE / "config.yaml").read_text(encoding="utf8"))
        params: dict[str, Any] = config["params"]
        return params
