"""Ctrl-C at any moment: one line, exit code 130, nothing left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import cli_helpers
from tests.support.cli_helpers import process

files = cli_helpers.files
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

# Sends itself Ctrl-C when a module is looked for.
HOOKED = """
import os, signal, sys
class Hook:
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Hook())
from diffusion_asr.cli import main
main()
"""


@pytest.mark.parametrize(
    "name", ["diffusion_asr.cli.interrupts", "typer", "diffusion_asr.cli.batch", "torch", "numpy.linalg"]
)
def test_ctrl_c_while_modules_are_imported(
    name: str, files: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    child = process("transcribe", "-", code=HOOKED.format(name=name), stdin=subprocess.PIPE)
    out, err = child.communicate(b"sound")
    assert (child.returncode, out, err) == (130, b"", b"interrupted\n")
    assert list(tmp_path.iterdir()) == []
