"""A ``.nemo`` file of ours: NeMo's configuration and a signed model folder, no pickle.

``model_config.yaml`` is NeMo's. ``canvas/`` is a folder of core's format (safetensors, vocabulary,
``config.json`` with a sha256 for each file): nothing in it runs code, and unpacked it loads with
``Recognizer.from_pretrained``.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

from nemo.core.connectors.save_restore_connector import SaveRestoreConnector

from diffusion_asr.errors import ModelError
from diffusion_asr.models.folder import load_config
from diffusion_asr.models.tuned import Source

FOLDER = "canvas"


class FolderConnector(SaveRestoreConnector):  # type: ignore[misc]
    """Writes and reads our folder where NeMo would pickle a state dict."""

    _saving: Any = None

    def save_to(self, model: Any, save_path: str) -> None:
        """See ``SaveRestoreConnector.save_to``."""
        self._saving = model
        try:
            super().save_to(model, save_path)
        finally:
            self._saving = None

    def _save_state_dict_to_disk(self, state_dict: Any, filepath: str) -> None:
        self._saving.save_folder(Path(filepath).with_name(FOLDER))

    def _load_state_dict_from_disk(self, model_weights: str, map_location: Any = "cpu") -> dict[str, Any]:
        return {}  # the model's constructor has read its folder

    def load_instance_with_state_dict(self, instance: Any, state_dict: Any, strict: bool) -> None:
        """Nothing is left to load."""
        instance._set_model_restore_state(is_being_restored=False)


def source_of(archive: Path, unpacked: Path) -> Source:
    """The model folder in a ``.nemo`` file, which NeMo has ``unpacked`` for as long as it restores."""

    def read(name: str) -> bytes:
        try:
            with tarfile.open(archive, "r:") as tar:
                member = tar.extractfile(f"./{FOLDER}/{name}")
                assert member is not None
                return member.read()
        except (OSError, KeyError, tarfile.TarError) as error:
            raise ModelError(
                f"{archive}, from which this model was loaded, no longer holds {name} ({error}); "
                "a model can be saved while its source is there"
            ) from error

    return Source(str(archive), load_config(unpacked), read)
