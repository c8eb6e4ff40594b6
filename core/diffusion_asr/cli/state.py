"""What a batch has done so far, on disk beside its outputs, so that the same command goes on after a kill.

Of each recording there is a journal of its windows (``meeting.journal``) while it is worked on, and a record
of what is written, made just before. Both are hidden files, gone when the batch is over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_asr.cli.inputs import Input
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.formats.files import write_text

_VERSION = 1
_LONGEST = 60  # bytes of a name; a hash stands for a longer one, which could be too long for the disk
_LARGEST = 1 << 20  # bytes of a record


@dataclass(frozen=True)
class FileState:
    """The state of one recording's outputs.

    Attributes:
        stem: The state files' path without their endings.
        about: What the outputs depend on beside the recording, by words for a message.
    """

    stem: Path
    about: Mapping[str, Any]

    @classmethod
    def of(cls, one: Input, folder: Path, about: Mapping[str, Any]) -> FileState:
        """The state of an input whose outputs go below ``folder``."""
        name = Path(one.name).name
        encoded = name.encode(errors="surrogateescape")
        if len(encoded) > _LONGEST:
            name = hashlib.blake2b(encoded, digest_size=8).hexdigest()
        return cls(folder / one.below / f".{name}.transcribe", about)

    @property
    def journal(self) -> Path:
        """Its windows so far."""
        return self.stem.with_name(self.stem.name + ".jsonl")

    @property
    def record(self) -> Path:
        """Its outputs."""
        return self.stem.with_name(self.stem.name + ".json")

    def written(self, sound: Path) -> set[Path]:
        """Outputs (absolute) that a killed run of the same command has written, and nobody has changed."""
        try:
            if not self.record.is_file() or self.record.stat().st_size > _LARGEST:
                return set()
            told = json.loads(self.record.read_bytes())
            if told["version"] != _VERSION or told["about"] != describe_run(sound, self.about):
                return set()
            outputs = told["outputs"].items()
            return {Path(path) for path, content in outputs if _is_as_told(Path(path), content)}
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return set()

    def record_outputs(self, sound: Path, contents: Mapping[Path, str | None]) -> None:
        """Keep what is about to be written; None is content that nobody knows yet.

        Raises:
            DiffusionASRError: Something else has the record's name.
        """
        if self.record.is_symlink() or (self.record.exists() and not self.record.is_file()):
            raise DiffusionASRError(f"{self.record}: not the state of a run; move it away")
        outputs = {
            str(path.absolute()): None if text is None else hashlib.sha256(text.encode()).hexdigest()
            for path, text in contents.items()
        }
        told = {"version": _VERSION, "about": describe_run(sound, self.about), "outputs": outputs}
        write_text(self.record, json.dumps(told), overwrite=True)

    def forget(self) -> None:
        """The batch is over."""
        for path in (self.journal, self.record):
            if path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)


def describe_run(sound: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """All that a run depends on: the recording, and what else there is."""
    with sound.open("rb") as file:
        return {"recording": hashlib.file_digest(file, "sha256").hexdigest(), **about}


def _is_as_told(path: Path, content: str | None) -> bool:
    """Whether a file holds what a record says."""
    if not path.is_file():
        return False
    return content is None or hashlib.sha256(path.read_bytes()).hexdigest() == content
