"""``diffusion-asr adapters``: the toolkits that this recogniser drops into."""

from __future__ import annotations

from diffusion_asr.cli.report import expected_errors
from diffusion_asr.cli.sinks import emit
from diffusion_asr.toolkits import Adapter
from diffusion_asr.toolkits import list_adapters as installed

_HEAD = ("adapter", "toolkit", "installed", "supported", "import")


def adapters() -> None:
    """List the toolkits' adapters, which are installed, and how to install the others.

    [bold]Examples[/bold]
    diffusion-asr adapters
    """
    with expected_errors():
        found = installed()
        rows = [_HEAD, *(_row(adapter) for adapter in found)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        missing = [f"{a.name} is not installed: {a.install_command}" for a in found if a.version is None]
        emit("".join(line.rstrip() + "\n" for line in [*lines, *missing]))


def _row(adapter: Adapter) -> tuple[str, ...]:
    version = adapter.version or "no"
    return (adapter.name, adapter.toolkit, version, adapter.supported, adapter.module)
