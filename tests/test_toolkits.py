"""Discovery of adapters: entry points and the extras' requirements; and their errors."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusion_asr import toolkits
from diffusion_asr.cli import app
from diffusion_asr.errors import AudioError, DiffusionASRError, ToolkitMissingError

NAMES = ["nemo", "pyannote", "speechbrain", "transformers"]


def test_a_toolkit_is_the_extras_first_requirement() -> None:
    lines = [
        "torch>=2.10",
        "nemo-toolkit[asr]<3.1,>=3.0; extra == 'nemo'",
        'pyannote.audio>=4.0.7; extra == "pyannote"',
        'torchaudio; extra == "pyannote"',
    ]
    assert toolkits.find_toolkit("nemo", lines) == ("nemo-toolkit", "<3.1,>=3.0")
    assert toolkits.find_toolkit("pyannote", lines) == ("pyannote.audio", ">=4.0.7")
    assert toolkits.find_toolkit("other", lines) is None
    assert toolkits.find_toolkit("my_kit", ["kit>=2; extra == 'my-kit'"]) == (
        "kit",
        ">=2",
    )  # as wheels write it


def test_all_adapters_are_found_with_their_versions() -> None:
    found = toolkits.list_adapters()
    assert [a.name for a in found] == NAMES
    assert all(a.module == f"diffusion_asr_{a.name}" and a.supported for a in found)
    assert all(a.install_command == f"pip install 'diffusion-asr[{a.name}]'" for a in found)
    for adapter in found:
        try:
            expected: str | None = metadata.version(adapter.toolkit)
        except metadata.PackageNotFoundError:
            expected = None
        assert adapter.version == expected


def test_a_missing_toolkit_is_an_import_error_of_ours() -> None:
    assert issubclass(ToolkitMissingError, ImportError)
    assert issubclass(ToolkitMissingError, DiffusionASRError)


def distribution(folder: Path, name: str, point: str, *lines: str) -> None:
    """Metadata of an installed distribution that declares an adapter."""
    home = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines])
    )
    (home / "entry_points.txt").write_text(f"[{toolkits.GROUP}]\n{point} = {point}_asr\n")


def test_another_partys_adapter_names_its_own_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = ("Provides-Extra: espnet", "Requires-Dist: espnet-core>=202511; extra == 'espnet'")
    distribution(tmp_path, "their-espnet", "espnet", *extra)
    distribution(tmp_path, "their-wenet", "wenet", "Requires-Dist: numpy")
    monkeypatch.syspath_prepend(tmp_path)
    found = {a.name: a for a in toolkits.list_adapters()}
    assert found.keys() == {*NAMES, "espnet", "wenet"}
    assert found["espnet"].install_command == "pip install 'their-espnet[espnet]'"
    assert (found["espnet"].toolkit, found["espnet"].supported) == ("espnet-core", ">=202511")
    assert found["wenet"].install_command == "pip install wenet"
    result = CliRunner().invoke(app, ["adapters"])
    assert "espnet is not installed: pip install 'their-espnet[espnet]'" in result.output


class KitError(DiffusionASRError, ValueError):
    """As an adapter's."""


def test_errors_are_translated_to_an_adapters_kind_once_and_in_the_same_words() -> None:
    with pytest.raises(KitError, match=r"^no such file$") as caught, toolkits.translate_errors(KitError):
        raise AudioError("no such file")
    assert isinstance(caught.value.__cause__, AudioError)
    own = KitError("mine")
    with pytest.raises(KitError) as caught, toolkits.translate_errors(KitError):
        raise own
    assert caught.value is own


def test_other_peoples_errors_stay_unless_they_are_named() -> None:
    with pytest.raises(ZeroDivisionError), toolkits.translate_errors(KitError, TypeError):
        raise ZeroDivisionError
    with pytest.raises(KitError, match="steps"), toolkits.translate_errors(KitError, TypeError):
        raise TypeError("unknown: steps")


def test_the_module_that_every_adapter_imports_is_light() -> None:
    code = (
        "import sys, diffusion_asr.toolkits; print(sorted({'torch', 'numpy', 'typer'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
