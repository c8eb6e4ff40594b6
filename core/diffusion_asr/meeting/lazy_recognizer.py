"""A recogniser, or the name of one that is loaded when it is needed: not while others need the memory."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path

import torch

from diffusion_asr.audio.speech import SpeechDetector
from diffusion_asr.audio.windows import Detector
from diffusion_asr.languages import find_language
from diffusion_asr.loading import is_adapter
from diffusion_asr.models.folder import find_model, hash_file, load_config
from diffusion_asr.recognizer import Recognizer


class LazyRecognizer:
    """See above.

    Raises:
        ModelError: Unknown name, or a folder that is missing or damaged.
    """

    def __init__(self, given: Recognizer | str | os.PathLike[str]) -> None:
        self._given = given
        # An adapter of a DiffusionGemma has no such config; what it knows is only known when it is loaded.
        self._config = (
            {} if isinstance(given, Recognizer) or is_adapter(given) else load_config(find_model(given))
        )

    @cached_property
    def recognizer(self) -> Recognizer:
        """The recogniser itself."""
        return self._given if isinstance(self._given, Recognizer) else Recognizer.from_pretrained(self._given)

    @cached_property
    def detector(self) -> Detector:
        """What finds speech: the recogniser's, if it is there already."""
        return self._given.detector if isinstance(self._given, Recognizer) else SpeechDetector()

    def check_language(self, language: str | None) -> str | None:
        """The code, as ``Recognizer.check_language`` finds it, if possible without loading."""
        if "denoiser" in self._config:
            return find_language(language, self._config["denoiser"].get("languages", ()))
        return self.recognizer.check_language(language)

    @property
    def digest(self) -> str:
        """Tells a model from one with other weights."""
        found = hashlib.blake2b(digest_size=16)
        if not isinstance(self._given, Recognizer):
            told = self._config or _files(self._given)  # a config holds every file's sha256
            found.update(json.dumps(told, sort_keys=True).encode())
            return found.hexdigest()
        parts = self._given.parts
        found.update(f"{parts.name} {parts.version}".encode())
        for module in parts.modules:
            for name, value in module.state_dict().items():
                if isinstance(value, torch.Tensor):  # packed int8 layers are something else
                    found.update(name.encode())
                    found.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()


def _files(adapter: str | os.PathLike[str]) -> dict[str, str]:
    """What is in an adapter's folder; of one on a hub only the name is known."""
    folder = Path(adapter)
    files = sorted(p for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    return {p.name: hash_file(p) for p in files} or {"name": str(adapter)}
