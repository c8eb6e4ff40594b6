"""The two networks of the offline diarization, built in code from safetensors: no pickle is ever opened.

- Segmentation: pyannote/segmentation 2022 (CNRS, MIT): 5 s in, activity of up to three speakers out.
- Embedding: the GE2E speaker encoder of Resemblyzer (Resemble AI, Apache-2.0): 256 numbers for a voice.

``offline/NOTICE.md`` tells where the weights come from; ``python -m recipes.diarization convert`` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.errors import ModelError
from diffusion_asr_pyannote import toolkit as _toolkit  # noqa: F401 - telemetry off first

from pyannote.audio.core.model import Model  # isort: skip
from pyannote.audio.core.task import Problem, Resolution, Specifications  # isort: skip
from pyannote.audio.models.segmentation import PyanNet  # isort: skip
from torchaudio.transforms import MelSpectrogram  # isort: skip

OFFLINE = Path(__file__).parent / "offline"
SEGMENTATION = OFFLINE / "segmentation.safetensors"
EMBEDDING = OFFLINE / "embedding.safetensors"
PROJECTION = OFFLINE / "projection.safetensors"

PARTIAL = 160  # frames of 10 ms that GE2E was trained on
HOP = 20  # frames between partials
SHORTEST = 40  # frames: with less speech there is no embedding
LEVEL = 10 ** (-30 / 20)  # quieter speech is raised to -30 dBFS, as in training


def load_weights(path: Path, model: nn.Module) -> None:
    """Fill a model from a file, with every tensor accounted for.

    Raises:
        ModelError: The file is missing, damaged or of another model.
    """
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        model.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(
            f"{path}: not the weights that belong here ({error}); reinstall the package"
        ) from error


def segmentation_model(path: Path = SEGMENTATION) -> Any:
    """The segmentation network, ready for pyannote's ``SpeakerDiarization``."""
    lstm = {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "monolithic": True, "dropout": 0.5}
    model = PyanNet(sincnet={"stride": 10}, lstm=lstm, linear={"hidden_size": 128, "num_layers": 2})
    model.specifications = Specifications(
        problem=Problem.MULTI_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=5.0,
        warm_up=(0.0, 0.0),
        classes=["speaker#1", "speaker#2", "speaker#3"],
        permutation_invariant=True,
    )
    model.build()
    load_weights(path, model)
    return model.eval()


def embedding_model(path: Path = EMBEDDING) -> GE2E:
    """The speaker encoder, ready for pyannote's ``SpeakerDiarization``."""
    model = GE2E()
    load_weights(path, model)
    model.eval()
    return model


class GE2E(Model):  # type: ignore[misc]  # pyannote is untyped
    """Resemblyzer's speaker encoder as a pyannote embedding: masked waveforms in, unit vectors out."""

    def __init__(self, sample_rate: int = SAMPLE_RATE, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        # A constant, not a weight: kept out of the state so that the file holds what was trained.
        self.mel = [
            MelSpectrogram(
                SAMPLE_RATE,
                n_fft=400,
                hop_length=160,
                n_mels=40,
                norm="slaney",
                mel_scale="slaney",
                pad_mode="constant",
            )
        ]
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.hop = HOP

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return 256

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed one speaker of each waveform.

        Args:
            waveforms: (B, 1, samples) at 16 kHz.
            weights: (B, frames) above 0.5 where the speaker is heard; None is everywhere.

        Returns:
            (B, 256) unit vectors; NaN where less than 0.4 s is heard.

        Raises:
            ValueError: A waveform without weights is shorter than 0.4 s.
        """
        voices = [
            self.partials(w[0], None if weights is None else weights[n]) for n, w in enumerate(waveforms)
        ]
        out = waveforms.new_full((len(waveforms), self.dimension), float("nan"))
        counts = [len(v) for v in voices]
        if weights is None and min(counts) == 0:
            raise ValueError("less than 0.4 s of speech has no embedding")  # tells pyannote what is too short
        if not sum(counts):
            return out
        for n, mine in enumerate(torch.split(self.embed(torch.cat(voices)), counts)):
            if len(mine):
                out[n] = F.normalize(mine.mean(0), dim=-1)
        return out

    def embed(self, partials: Tensor) -> Tensor:
        """(partials, 160, 40) mel frames to (partials, 256) unit vectors."""
        _, (hidden, _) = self.lstm(partials)
        units: Tensor = F.normalize(F.relu(self.linear(hidden[-1])), dim=-1)
        return units

    def partials(self, samples: Tensor, weights: Tensor | None) -> Tensor:
        """(partials, 160, 40) mel frames of what the speaker says, short speech repeated to fill one."""
        frames: Tensor = self.mel[0].to(samples.device)(samples * _gain(samples)).T
        if weights is not None:
            mask = F.interpolate(weights[None, None].float(), size=len(frames), mode="nearest")[0, 0] > 0.5
            frames = frames[mask]
        if len(frames) < SHORTEST:
            return frames.new_zeros(0, PARTIAL, 40)
        if len(frames) < PARTIAL:
            frames = frames.repeat(PARTIAL // len(frames) + 1, 1)[:PARTIAL]
        return frames.unfold(0, PARTIAL, self.hop).transpose(1, 2)


def _gain(samples: Tensor) -> Tensor:
    """The factor that raises quiet speech to the level of the training data."""
    return (LEVEL / samples.square().mean().sqrt().clamp_min(1e-8)).clamp_min(1.0)
