"""NeMo's manifests: one JSON object a line, and the sound of its entries, in files or in tar archives."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo.collections.asr.data.audio_to_text import expand_sharded_filepaths

from diffusion_asr.errors import AudioError

Paths = str | Path | Iterable[Any]


def read_entries(manifest: str | Path, folder: Path | None = None) -> list[dict[str, Any]]:
    """A NeMo manifest's lines; relative paths are relative to ``folder``, by default the manifest's.

    Raises:
        AudioError: It cannot be read, or an entry has no ``audio_filepath``.
    """
    manifest = Path(manifest)
    entries = _objects(manifest)
    for entry in entries:
        entry["audio_filepath"] = str(
            (folder or manifest.parent) / Path(entry["audio_filepath"]).expanduser()
        )
    return entries


def _objects(manifest: Path) -> list[dict[str, Any]]:
    try:
        lines = manifest.expanduser().read_text(encoding="utf-8-sig").splitlines()
        entries = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise AudioError(
            f"{manifest}: not a readable manifest ({error}); give one JSON object a line"
        ) from error
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("audio_filepath"), str):
            raise AudioError(f"{manifest}: entry {number} has no audio_filepath")
    return entries


def data_entries(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The entries of a data set's configuration, in which ``audio_filepath`` is a path or a ``Packed``.

    ``manifest_filepath`` is one path, several with commas, or a list; where ``is_tarred`` is set, the sound
    is in the archives ``tarred_audio_filepaths`` (with NeMo's braces: ``audio__OP_0..7_CL_.tar``).

    Raises:
        AudioError: An unreadable manifest or archive, or an entry whose sound no archive holds.
    """
    manifests = _flat(config["manifest_filepath"])
    if not config.get("is_tarred"):
        return [entry for path in manifests for entry in read_entries(path)]
    archives = _flat(config.get("tarred_audio_filepaths") or [])
    packed = _members(
        [path for given in archives for path in expand_sharded_filepaths(given, "replicate", 1, 0)]
    )
    entries = [entry for path in manifests for entry in _objects(Path(path))]
    for entry in entries:
        name = entry["audio_filepath"]
        found = packed.get(name) or packed.get(_key(name))
        if found is None:
            raise AudioError(
                f"{', '.join(manifests)}: {name} is in none of {', '.join(archives) or 'no archive'}"
            )
        entry["audio_filepath"] = found
    return entries


class Packed:
    """A sound file within a tar archive."""

    def __init__(self, archive: Path, name: str, offset: int, size: int) -> None:
        self.archive, self.name, self.offset, self.size = archive, name, offset, size

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"

    def read(self) -> bytes:
        """The file's bytes.

        Raises:
            AudioError: The archive is gone or cut short.
        """
        try:
            with self.archive.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise AudioError(f"{self}: {error}") from error
        if len(data) < self.size:
            raise AudioError(f"{self}: the archive is cut short")
        return data


def _members(archives: Sequence[str]) -> dict[str, Packed]:
    """What the archives hold, by full name and, as NeMo does, by file name without its ending."""
    found: dict[str, Packed] = {}
    for path in archives:
        try:
            with tarfile.open(path, "r:") as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    one = Packed(Path(path), member.name, member.offset_data, member.size)
                    found.setdefault(_key(member.name), one)
                    found[member.name] = found[member.name.removeprefix("./")] = one
        except (OSError, tarfile.TarError) as error:
            raise AudioError(f"{path}: not a readable tar archive ({error})") from error
    return found


def _key(name: str) -> str:
    return Path(name).stem


def _flat(paths: Paths) -> list[str]:
    """Paths in NeMo's ways of giving several: with commas, in a list, in lists of a bucket each."""
    if isinstance(paths, str | Path):
        return [one.strip() for one in str(paths).split(",") if one.strip()]
    return [one for path in paths for one in _flat(path)]
