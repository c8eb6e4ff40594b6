"""A recogniser, or the name of one that is loaded when it is needed: not while others need the memory."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property

import torch

from diffusion_asr.checkpoint import load_config
from diffusion_asr.errors import LanguageError
from diffusion_asr.pretrained import model_folder
from diffusion_asr.recognizer import AUTO, Recognizer


class Model:
    """See above.

    Raises:
        ModelError: Unknown name, or a folder that is missing or damaged.
    """

    def __init__(self, given: Recognizer | str | os.PathLike[str]) -> None:
        self._given = given
        self._config = {} if isinstance(given, Recognizer) else load_config(model_folder(given))

    @cached_property
    def recognizer(self) -> Recognizer:
        """The recogniser itself."""
        return self._given if isinstance(self._given, Recognizer) else Recognizer.from_pretrained(self._given)

    def check_language(self, code: str | None) -> None:
        """Raise ``LanguageError`` as ``Recognizer.check_language`` does, if possible without loading."""
        if isinstance(self._given, Recognizer) or "denoiser" not in self._config:
            self.recognizer.check_language(code)
            return
        languages = self._config["denoiser"].get("languages", ())
        if code not in (None, AUTO, *languages):
            known = ", ".join(languages)
            raise LanguageError(f"unknown language {code!r}; this model knows {known}, or auto to detect")

    @property
    def digest(self) -> str:
        """Tells a model from one with other weights."""
        found = hashlib.blake2b(digest_size=16)
        if not isinstance(self._given, Recognizer):
            found.update(json.dumps(self._config, sort_keys=True).encode())  # with every file's sha256
            return found.hexdigest()
        parts = self._given.parts
        found.update(f"{parts.name} {parts.version}".encode())
        for module in (parts.encoder, parts.denoiser, parts.language, parts.refiner):
            for name, value in module.state_dict().items() if module is not None else ():
                if isinstance(value, torch.Tensor):  # packed int8 layers are something else
                    found.update(name.encode())
                    found.update(value.detach().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()
