"""Clustering for voices that are hard to tell apart: pyannote's agglomerative clustering on better distances.

Three things differ from ``AgglomerativeClustering``, because GE2E embeddings are coarser than those that
pyannote's pipelines are made for:

- embeddings are projected to where speakers differ and rooms do not (linear discriminant analysis);
- speakers whom the segmentation tells apart within a window never go to the same cluster;
- speech too short for an embedding is left out instead of falling to the first speaker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from diffusion_asr.errors import ModelError
from diffusion_asr_pyannote import toolkit as _toolkit  # noqa: F401 - telemetry off first

from pyannote.audio.pipelines.clustering import AgglomerativeClustering  # isort: skip

Array = NDArray[Any]
MOST = 4000  # embeddings that found clusters: memory grows with the square
UNUSED = -2  # pyannote's mark for "in no cluster"


class ProjectedClustering(AgglomerativeClustering):  # type: ignore[misc]  # pyannote is untyped
    """``AgglomerativeClustering`` of projected embeddings; parameters as there.

    Args:
        projection: Safetensors file with "mean" (256,) and "matrix" (256, dimensions).
        min_active: Share of a window that a speaker must fill alone to found a cluster.

    Raises:
        ModelError: The file is missing or damaged.
    """

    def __init__(self, projection: Path, min_active: float = 0.35) -> None:
        super().__init__(metric="cosine", constrained_assignment=True)
        try:
            tensors = load_file(projection)
            self._mean, self._matrix = tensors["mean"], tensors["matrix"]
        except (OSError, SafetensorError, KeyError) as error:
            raise ModelError(f"{projection}: not a projection ({error}); reinstall the package") from error
        self.min_active = min_active

    def filter_embeddings(self, embeddings: Array, segmentations: Any = None) -> tuple[Array, Array, Array]:
        """Those that are long enough to found clusters; evenly spread ones of very many."""
        found: tuple[Array, Array, Array] = super().filter_embeddings(
            embeddings, segmentations, min_active_ratio=self.min_active
        )
        if len(found[0]) <= MOST:
            return found
        kept = np.linspace(0, len(found[0]) - 1, MOST).round().astype(int)
        return found[0][kept], found[1][kept], found[2][kept]

    def __call__(
        self, embeddings: Array, segmentations: Any = None, **options: Any
    ) -> tuple[Array, Array, Array]:
        """As ``BaseClustering``: cluster of each (window, speaker), its scores, and the centroids."""
        known = ~np.isnan(embeddings).any(axis=2)
        projected = (embeddings - self._mean) @ self._matrix
        projected /= np.maximum(np.linalg.norm(projected, axis=2, keepdims=True), 1e-8)
        if not len(self.filter_embeddings(projected, segmentations)[0]):
            return _one_speaker(projected)
        hard, soft, centroids = super().__call__(projected, segmentations, **options)
        hard[~known] = UNUSED
        return hard, soft, centroids

    def constrained_argmax(self, soft_clusters: Array) -> Array:
        """One cluster for each speaker of a window; NaN (silence) competes with nobody."""
        lowest = float(np.nanmin(soft_clusters)) - 1.0
        found: Array = super().constrained_argmax(np.nan_to_num(soft_clusters, nan=lowest))
        return found


def _one_speaker(embeddings: Array) -> tuple[Array, Array, Array]:
    """All speech in one cluster, when nobody talks for long enough to tell a voice."""
    windows, speakers, dimension = embeddings.shape
    hard = np.zeros((windows, speakers), np.int8)
    return hard, np.ones((windows, speakers, 1)), np.zeros((1, dimension))
