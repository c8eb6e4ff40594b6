"""Configuration: which recogniser a transformers model is made of."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from diffusion_asr.errors import ModelError
from diffusion_asr.json_files import read_json
from diffusion_asr.models.folder import find_model

FOLDER = "recognizer"
"""In a saved model: the signed folder of core's format."""


class DiffusionASRConfig(PreTrainedConfig):  # type: ignore[misc]
    """Points to a recogniser.

    Attributes:
        checkpoint: Name of an embedded model, or a model folder; a saved model holds its own.
        languages: Codes that the model writes.
        vocab_size: Pieces of text, the null token among them; None until the model is loaded.
        pad_token_id: Of the null token, which stands for no text.
    """

    model_type = "diffusion_asr"

    def __init__(
        self,
        checkpoint: str = "canvas-base",
        languages: Sequence[str] = (),
        vocab_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.checkpoint = checkpoint
        self.languages = list(languages)
        self.vocab_size = vocab_size
        self.pad_token_id = kwargs.pop("pad_token_id", 0)
        super().__init__(**kwargs)

    def find_checkpoint(self) -> str:
        """The recogniser's name or folder; one that a saved model holds is looked for where it was saved."""
        home = self.name_or_path
        own = Path(home) / self.checkpoint if home else None
        return str(own) if own is not None and own.is_dir() else self.checkpoint


def read_config(name: str | os.PathLike[str]) -> DiffusionASRConfig | None:
    """The configuration in a saved model's folder; None where a name or folder is another thing."""
    try:
        stated = read_json(Path(name) / "config.json")
        ours = stated["model_type"] == DiffusionASRConfig.model_type
    except (ModelError, LookupError, TypeError):
        return None
    return DiffusionASRConfig.from_pretrained(name, name_or_path=os.fspath(name)) if ours else None


def find_recognizer(name: str | os.PathLike[str]) -> Path:
    """The folder of core's format that a name, a saved model or a folder stands for.

    Raises:
        ModelError: There is none.
    """
    config = read_config(name)
    return find_model(name if config is None else config.find_checkpoint())
