"""Which toolkits diffusion-asr drops into, which of them are installed, and what every adapter needs.

No toolkit is imported here, and nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata

from diffusion_asr.errors import DiffusionASRError

DISTRIBUTION = "diffusion-asr"
GROUP = "diffusion_asr.adapters"  # of entry points: anybody's distribution may declare some
# A requirement of an extra as wheels write it: speechbrain<1.2,>=1.1; extra == 'speechbrain'
_REQUIREMENT = re.compile(
    r"""(?P<name>[\w.-]+)(\[[^]]*\])?\s*(?P<range>[^;]*?)\s*;.*extra\s*==\s*["'](?P<extra>[\w-]+)["']"""
)


@dataclass(frozen=True, slots=True)
class Adapter:
    """One toolkit's adapter.

    Attributes:
        name: Entry point and extra, e.g. "nemo".
        module: What to import.
        toolkit: The toolkit's distribution on PyPI.
        supported: Versions that the extra allows, e.g. "<3.1,>=3.0".
        version: Installed version of the toolkit, or None.
        install_command: What installs the toolkit, by its extra in whose distribution the adapter is.
    """

    name: str
    module: str
    toolkit: str
    supported: str
    version: str | None
    install_command: str


def list_adapters() -> list[Adapter]:
    """Every adapter that installed distributions declare, in alphabetical order."""
    entries = sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name)
    return [_adapter(entry) for entry in entries]


def _adapter(entry: metadata.EntryPoint) -> Adapter:
    owner = entry.dist.name if entry.dist else DISTRIBUTION
    required = find_toolkit(entry.name, metadata.requires(owner) or [])
    toolkit, supported = required or (entry.name, "")
    install = f"pip install '{owner}[{entry.name}]'" if required else f"pip install {toolkit}"
    return Adapter(entry.name, entry.value, toolkit, supported, _version(toolkit), install)


def find_toolkit(extra: str, requirements: Sequence[str]) -> tuple[str, str] | None:
    """Name and version range of the first requirement of an extra; None where there is no such extra."""
    for line in requirements:
        match = _REQUIREMENT.match(line)
        if match and _normal(match["extra"]) == _normal(extra):
            return match["name"], match["range"].strip("() ")
    return None


def _normal(extra: str) -> str:
    """An extra as pip compares them: wheels write ``my-kit`` for a project's ``my_kit``."""
    return re.sub(r"[-_.]+", "-", extra).lower()


def _version(toolkit: str) -> str | None:
    try:
        return metadata.version(toolkit)
    except metadata.PackageNotFoundError:
        return None


@contextmanager
def translate_errors(kind: type[DiffusionASRError], *others: type[Exception]) -> Iterator[None]:
    """Raise this package's errors as the ``kind`` that a toolkit's callers catch, in the same words.

    Args:
        kind: An adapter's own error, which is one of the toolkit's kind as well.
        others: Further exceptions to translate, where nothing but our own checks can raise them.

    Raises:
        DiffusionASRError: Of ``kind``.

    Example:
        >>> with translate_errors(RecognitionError):
        ...     recognizer.transcribe(path)
    """
    ours: tuple[type[Exception], ...] = (DiffusionASRError, *others)
    try:
        yield
    except kind:
        raise
    except ours as error:
        raise kind(str(error)) from error
