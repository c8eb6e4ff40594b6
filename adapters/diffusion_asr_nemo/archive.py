"""A ``.nemo`` file of ours: NeMo's configuration and a signed model folder, no pickle.

``model_config.yaml`` is NeMo's. ``canvas/`` is a folder of core's format (safetensors, vocabulary,
``config.json`` with a sha256 for each file): nothing in it runs code, and unpacked it loads with
``Recognizer.from_pretrained``.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any

from nemo.core.connectors.save_restore_connector import SaveRestoreConnector

from diffusion_asr.checkpoint import load_config, save
from diffusion_asr.errors import ModelError

FOLDER = "canvas"
_DENOISER = "denoiser.safetensors"


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


def write_folder(source: Path, config: dict[str, Any], target: Path, denoiser: dict[str, Any] | None) -> None:
    """Write a model folder.

    Args:
        source: A model folder or a ``.nemo`` file, from which files that training leaves alone are copied.
        config: The ``config.json`` that was loaded from it.
        target: The folder to make.
        denoiser: Trained weights, or None to copy them as well.

    Raises:
        ModelError: ``source`` is gone, or holds another model by now.
    """
    target.mkdir(parents=True)
    for name, digest in config["sha256"].items():
        if name == _DENOISER and denoiser is not None:
            continue
        data = _stored(source, name)
        if hashlib.sha256(data).hexdigest() != digest:
            raise ModelError(
                f"{source} has changed since this model was loaded from it ({name}): load it again"
            )
        (target / name).write_bytes(data)
    if denoiser is None:
        (target / "config.json").write_bytes(_stored(source, "config.json"))
        load_config(target)
    else:
        kept = {k: v for k, v in config.items() if k not in ("format", "sha256")}
        save(target, kept, {"denoiser": denoiser})


def _stored(source: Path, name: str) -> bytes:
    """One file of a model folder or ``.nemo`` file."""
    try:
        if source.is_dir():
            return (source / name).read_bytes()
        with tarfile.open(source, "r:") as tar:
            member = tar.extractfile(f"./{FOLDER}/{name}")
            assert member is not None
            return member.read()
    except (OSError, KeyError, tarfile.TarError) as error:
        raise ModelError(
            f"{source}, from which this model was loaded, no longer holds {name} ({error}); "
            "a model can be saved while its source is there"
        ) from error
