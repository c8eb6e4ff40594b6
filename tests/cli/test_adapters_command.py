"""``diffusion-asr adapters``: what is installed, and how to get the rest."""

from __future__ import annotations

from importlib import metadata

import pytest
from typer.testing import CliRunner

from diffusion_asr.cli import app


def test_the_command_lists_what_is_there_and_how_to_get_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "nemo-toolkit":
            raise metadata.PackageNotFoundError(name)
        return "9.9" if name == "transformers" else real("typer")

    monkeypatch.setattr(metadata, "version", version)
    result = CliRunner().invoke(app, ["adapters"])
    assert result.exit_code == 0
    rows = {line.split()[0]: line for line in result.output.splitlines()}
    assert " 9.9 " in rows["transformers"]
    assert "nemo is not installed: pip install 'diffusion-asr[nemo]'" in result.output
    assert "transformers is not installed" not in result.output
