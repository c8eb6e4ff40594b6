"""Which toolkits diffusion-asr drops into, and which of them are installed. Nothing is imported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

DISTRIBUTION = "diffusion-asr"
GROUP = "diffusion_asr.toolkits"
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
    """

    name: str
    module: str
    toolkit: str
    supported: str
    version: str | None

    @property
    def install_command(self) -> str:
        """What installs the toolkit in a version that fits."""
        return f"pip install '{DISTRIBUTION}[{self.name}]'"


def adapters() -> list[Adapter]:
    """Every adapter that installed distributions declare, in alphabetical order."""
    found = []
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name):
        owner = entry.dist.name if entry.dist else DISTRIBUTION
        toolkit, supported = toolkit_of(entry.name, metadata.requires(owner) or [])
        found.append(Adapter(entry.name, entry.value, toolkit, supported, _version(toolkit)))
    return found


def toolkit_of(extra: str, requirements: Sequence[str]) -> tuple[str, str]:
    """Name and version range of the first requirement of an extra; the extra itself if it has none."""
    for line in requirements:
        match = _REQUIREMENT.match(line)
        if match and match["extra"] == extra:
            return match["name"], match["range"].strip("() ")
    return extra, ""


def _version(toolkit: str) -> str | None:
    try:
        return metadata.version(toolkit)
    except metadata.PackageNotFoundError:
        return None
