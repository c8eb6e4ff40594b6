"""A ``.nemo`` file of ours: NeMo's configuration and a signed model folder, no pickle.

``model_config.yaml`` is NeMo's. ``canvas/`` is a folder of core's format (safetensors, vocabulary,
``config.json`` with a sha256 for each file and itself): nothing in it runs code, and unpacked it loads with
``Recognizer.from_pretrained``. ``signature.json`` holds the sha256 of ``model_config.yaml``; archives of
earlier releases have none and are read all the same.

An archive is looked through before NeMo unpacks it: plain files in two folders, no larger than the archive.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml
from nemo.core.connectors.save_restore_connector import SaveRestoreConnector

from diffusion_asr.errors import ModelError
from diffusion_asr.json_files import MOST_BYTES, Schema, check, parse_json
from diffusion_asr.models.folder import load_config
from diffusion_asr.models.tuned import Source
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_nemo.toolkit import RecognitionError

FOLDER = "canvas"
_CONFIG, _SIGNATURE = "model_config.yaml", "signature.json"
_MOST_DEPTH = 32  # of the configuration
_MOST_FILES = 1000


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
        beside = Path(filepath).parent
        self._saving.save_folder(beside / FOLDER)
        # NeMo writes its configuration before the weights, and does not touch it again.
        signed = {"sha256": hashlib.sha256((beside / _CONFIG).read_bytes()).hexdigest()}
        (beside / _SIGNATURE).write_text(json.dumps(signed) + "\n", encoding="utf8")

    def load_config_and_state_dict(
        self, calling_cls: Any, restore_path: str, *args: Any, **kwargs: Any
    ) -> Any:
        """See ``SaveRestoreConnector.load_config_and_state_dict``.

        Raises:
            RecognitionError: A file that is no archive of ours, or a damaged one.
        """
        if self.model_extracted_dir is None:
            with translate_errors(RecognitionError):
                check_archive(Path(restore_path))
        return super().load_config_and_state_dict(calling_cls, restore_path, *args, **kwargs)

    def _load_state_dict_from_disk(self, model_weights: str, map_location: Any = "cpu") -> dict[str, Any]:
        return {}  # the model's constructor has read its folder

    def load_instance_with_state_dict(self, instance: Any, state_dict: Any, strict: bool) -> None:
        """Nothing is left to load."""
        instance._set_model_restore_state(is_being_restored=False)


class _Signature(Schema):
    sha256: str


def check_archive(archive: Path) -> None:
    """Raise ``ModelError`` unless NeMo can unpack and read this safely."""
    try:
        with tarfile.open(archive, "r:") as tar:
            files = dict(_files(tar, archive))
            config, signature = (_read(tar, files.get(name), archive) for name in (_CONFIG, _SIGNATURE))
    except (OSError, tarfile.TarError, ValueError) as error:
        raise ModelError(f"{archive}: not a readable .nemo file ({error}); fetch it again") from error
    if config is None:
        raise ModelError(f"{archive} is no diffusion-asr model: it holds no {_CONFIG}")
    if signature is not None:
        signed = check(_Signature, parse_json(signature, f"{archive}: {_SIGNATURE}"), archive)
        if hashlib.sha256(config).hexdigest() != signed.sha256:
            raise ModelError(
                f"{archive}: {_CONFIG} is corrupt or was edited: its sha256 is not the one in {_SIGNATURE}. "
                "Changes go into override_config_path, or into the model, which save_to signs anew"
            )
    _check_yaml(config, f"{archive}: {_CONFIG}")


def _files(tar: tarfile.TarFile, archive: Path) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The plain files by name, each once; nothing else is there but folders."""
    seen: set[str] = set()
    for member in tar:
        name = posixpath.normpath(member.name)
        plain = (member.isreg() and not member.issparse()) or member.isdir()
        inside = not name.startswith(("/", "..")) and name.count("/") <= 1
        if not plain or not inside or name in seen or len(seen) >= _MOST_FILES:
            raise ModelError(f"{archive} holds {name[:100]!r}, which no archive of ours does: do not use it")
        seen.add(name)
        if member.isreg():
            yield name, member


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo | None, archive: Path) -> bytes | None:
    """A small file, if it is there."""
    if member is None:
        return None
    data = tar.extractfile(member)
    if data is None or member.size > MOST_BYTES:
        raise ModelError(f"{archive}: {member.name} has {member.size} bytes, expected at most {MOST_BYTES}")
    return data.read()


def _check_yaml(text: bytes, where: str) -> None:
    """Raise ``ModelError`` for what is no YAML, nested without end, or refers to itself."""
    depth = 0
    try:
        for event in yaml.parse(text):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MOST_DEPTH or isinstance(event, yaml.AliasEvent):
                raise ModelError(f"{where}: nested too deeply, or refers to itself")
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ModelError(f"{where}: not readable YAML ({error})") from error


def source_of(archive: Path, unpacked: Path) -> Source:
    """The model folder in a ``.nemo`` file, which NeMo has ``unpacked`` for as long as it restores."""

    def read(name: str) -> bytes:
        try:
            with tarfile.open(archive, "r:") as tar, _member(tar, name) as data:
                return data.read()
        except (OSError, KeyError, tarfile.TarError) as error:
            raise ModelError(
                f"{archive}, from which this model was loaded, no longer holds {name} ({error}); "
                "a model can be saved while its source is there"
            ) from error

    return Source(str(archive), load_config(unpacked), read)


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    data = tar.extractfile(f"./{FOLDER}/{name}")
    if data is None:
        raise KeyError(name)  # a folder by now
    return data
