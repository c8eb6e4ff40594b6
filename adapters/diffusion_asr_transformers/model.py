"""Configuration and model for transformers' Auto classes: a recogniser's modules under one roof.

A saved model is transformers' ``config.json`` and, in ``recognizer/``, a signed folder of core's format
(safetensors, vocabulary, a sha256 for each file), which ``Recognizer.from_pretrained`` reads too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from diffusion_asr.models.tuned import Source, copy_model, find_denoiser, write_tuned
from diffusion_asr.recognizer import Recognizer

FOLDER = "recognizer"


class DiffusionASRConfig(PreTrainedConfig):  # type: ignore[misc]
    """Points to a recogniser.

    Attributes:
        checkpoint: Name of an embedded model, or a model folder; a saved model holds its own.
        languages: Codes that the model writes.
    """

    model_type = "diffusion_asr"

    def __init__(self, checkpoint: str = "canvas-base", languages: Sequence[str] = (), **kwargs: Any) -> None:
        self.checkpoint = checkpoint
        self.languages = list(languages)
        super().__init__(**kwargs)


class DiffusionASRForSpeech(PreTrainedModel):  # type: ignore[misc]
    """A recogniser's encoder, denoiser and language posterior as a transformers model.

    Example:
        >>> model = DiffusionASRForSpeech.from_pretrained("canvas-base")
        >>> model.recognizer.transcribe("talk.flac").text
    """

    config_class = DiffusionASRConfig
    base_model_prefix = "recognizer"
    main_input_name = "input_values"

    def __init__(self, config: DiffusionASRConfig, recognizer: Recognizer | None = None) -> None:
        """Load ``config.checkpoint`` unless a recogniser is given.

        Raises:
            ModelError: No such model, or a corrupt one.
        """
        recognizer = recognizer or Recognizer.from_pretrained(config.checkpoint)
        config.languages = list(recognizer.languages)
        super().__init__(config)
        self.recognizer = recognizer
        parts = recognizer.parts
        self.encoder, self.denoiser, self.language = parts.encoder, parts.denoiser, parts.language
        self._loaded = self._state()

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str] = "canvas-base", *args: Any, **kwargs: Any
    ) -> DiffusionASRForSpeech:
        """The embedded model by name, a folder that ``save_pretrained`` wrote, or a folder of core's format.

        Nothing is fetched. ``dtype`` and ``device_map`` are left to core: it computes on the CPU, in bf16
        where the CPU has it.

        Raises:
            ModelError: No such model, or a corrupt one.
        """
        folder, config = Path(name), kwargs.get("config")
        if not isinstance(config, DiffusionASRConfig):
            ours = _model_type(folder) == cls.config_class.model_type
            config = DiffusionASRConfig.from_pretrained(folder) if ours else DiffusionASRConfig(str(name))
        if (folder / FOLDER).is_dir():
            config.checkpoint = str(folder / FOLDER)
        model = cls(config)
        return model.eval()  # type: ignore[no-any-return]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write ``config.json`` and ``recognizer/``; trained denoiser weights are stored as float32.

        Raises:
            ModelError: What this model was loaded from is gone, or the target holds a model already.
        """
        source, target = Source.of(self.config.checkpoint), Path(save_directory) / FOLDER
        if self._state() != self._loaded:
            write_tuned(source, target, find_denoiser(self.recognizer.parts).state_dict())
        else:
            copy_model(source, target)
        config = DiffusionASRConfig(FOLDER, self.config.languages, architectures=[type(self).__name__])
        config.save_pretrained(save_directory)

    def forward(
        self,
        input_values: Tensor,
        lengths: Tensor | None = None,
        language: Sequence[str | None] | str | None = None,
        canvas: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """One parallel pass of the denoiser, with gradients if it has them.

        Args:
            input_values: (B, samples) float32 at 16 kHz, at most 30 s.
            lengths: (B,) samples of each clip.
            language: One code for all clips or one for each; None detects it.
            canvas: (B, slots) token ids; None is all null.

        Returns:
            ``logits`` (B, slots, pieces); id 0 is null.

        Raises:
            AudioError: Wrong shape, too long or not finite.
            LanguageError: Unknown language.
            ModelError: A model without a canvas denoiser.
        """
        denoiser = find_denoiser(self.recognizer.parts)
        memory = self.recognizer.encode(input_values, lengths)
        state = denoiser.prepare(memory, self.recognizer.choose_languages(memory, language))
        hidden = denoiser.hidden(denoiser.null_canvas(state) if canvas is None else canvas, state)
        return CausalLMOutput(logits=denoiser.logits(hidden))

    def _state(self) -> int:
        """Changes whenever a weight of the denoiser is written to (torch counts each write)."""
        return 0 if self.denoiser is None else sum(p._version for p in self.denoiser.parameters())


def _model_type(folder: Path) -> str | None:
    """What transformers' ``config.json`` in a folder says; None without one."""
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf8"))["model_type"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
