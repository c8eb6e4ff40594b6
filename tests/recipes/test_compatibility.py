"""The compatibility table's rows: what counts as good, how they are kept and written."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recipes.compatibility import rows
from recipes.compatibility.__main__ import app
from recipes.compatibility.environment import Environment

ROW = rows.Row(
    extra="nemo",
    python="3.12.1",
    torch="2.14.1",
    toolkits={"nemo": "nemo-toolkit 3.0.0", "transformers": "transformers 5.23.0"},
    tests={"nemo": (20, 0, 6)},
    others={"pyannote": "told", "transformers": "came along"},
    scripts="nemo: unmodified, of a clone",
    machine="Linux x86_64",
    seconds=60.0,
    date="2026-11-24",
)


def test_a_row_is_good_if_tests_passed_and_whatever_is_missing_says_so() -> None:
    assert ROW.good
    assert not replace(ROW, tests={"nemo": (0, 0, 26)}).good
    assert not replace(ROW, tests={"nemo": (20, 1, 5)}).good
    assert not replace(ROW, others={"pyannote": "SILENT"}).good


def test_rows_are_kept_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results")
    rows.record(ROW)
    rows.record(replace(ROW, python="3.11.7"))
    rows.record(replace(ROW, python="3.12.9"))
    assert [row.python for row in rows.read()] == ["3.11.7", "3.12.9"]
    assert rows.read()[1] == replace(ROW, python="3.12.9")


def test_a_row_as_markdown() -> None:
    line = rows.render([ROW]).splitlines()[-1]
    assert line == (
        "| nemo | 3.12.1 | 2.14.1 | nemo-toolkit 3.0.0 | nemo: 20 passed 6 skipped | pyannote told, "
        "transformers came along | nemo: unmodified, of a clone | 2026-11-24 |"
    )
    assert "2 FAILED" in rows.render([replace(ROW, tests={"nemo": (1, 2, 0)})])


def test_an_import_that_fails_must_name_its_command(tmp_path: Path) -> None:
    program = tmp_path / "python"
    said = "diffusion_asr.errors.ToolkitMissingError: NeMo cannot be imported (No module): pip install '{}'"
    for command, expected in (("diffusion-asr[nemo]", "told"), ("nemo", "SILENT")):
        program.write_text(f"#!{sys.executable}\nraise SystemExit({said.format(command)!r})\n")
        program.chmod(0o755)
        assert rows._imported(Environment(program), "nemo") == expected


def test_unknown_extras_and_environments_are_refused(tmp_path: Path) -> None:
    for options, message in (
        (["--extra", "espnet"], "unknown extra"),
        (["--extra", "nemo", "--environment", str(tmp_path)], "no virtual"),
    ):
        result = CliRunner().invoke(app, ["run", *options])
        assert result.exit_code == 2
        assert message in result.output
