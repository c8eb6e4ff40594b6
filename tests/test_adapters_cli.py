"""Discovery of adapters: entry points, the extras' requirements, the command."""

from __future__ import annotations

from importlib import metadata

import pytest
from typer.testing import CliRunner

from diffusion_asr import adapters
from diffusion_asr.cli import app
from diffusion_asr.errors import DiffusionASRError, ToolkitMissingError

NAMES = ["nemo", "pyannote", "speechbrain", "transformers"]


def test_a_toolkit_is_the_extras_first_requirement() -> None:
    lines = [
        "torch>=2.10",
        "nemo-toolkit[asr]<3.1,>=3.0; extra == 'nemo'",
        'pyannote.audio>=4.0.7; extra == "pyannote"',
        'torchaudio; extra == "pyannote"',
    ]
    assert adapters.toolkit_of("nemo", lines) == ("nemo-toolkit", "<3.1,>=3.0")
    assert adapters.toolkit_of("pyannote", lines) == ("pyannote.audio", ">=4.0.7")
    assert adapters.toolkit_of("other", lines) == ("other", "")


def test_all_adapters_are_found_with_their_versions() -> None:
    found = adapters.adapters()
    assert [a.name for a in found] == NAMES
    assert all(a.module == f"diffusion_asr_{a.name}" and a.supported for a in found)
    for adapter in found:
        try:
            expected: str | None = metadata.version(adapter.toolkit)
        except metadata.PackageNotFoundError:
            expected = None
        assert adapter.version == expected


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


def test_a_missing_toolkit_is_an_import_error_of_ours() -> None:
    assert issubclass(ToolkitMissingError, ImportError)
    assert issubclass(ToolkitMissingError, DiffusionASRError)
