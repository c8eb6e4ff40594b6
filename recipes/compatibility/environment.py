"""Virtual environments to test in."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
ADAPTERS = ("speechbrain", "nemo", "pyannote", "transformers")
EXTRAS = (*ADAPTERS, "all")
TEST_TOOLS = ("pytest", "pytest-timeout", "hypothesis", "jiwer")  # what the adapters' tests import besides


@dataclass(frozen=True)
class Environment:
    """One that exists; ``python`` is its interpreter."""

    python: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its interpreter in the project's folder, with the project's sources on the path."""
        paths = os.pathsep.join(str(ROOT / part) for part in ("core", "adapters"))
        surroundings = os.environ | {"PYTHONPATH": paths}
        command = [str(self.python), *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=surroundings, text=True, capture_output=True, check=False
        )


@contextmanager
def fresh(python: str, extra: str, uv: str | None = None) -> Iterator[Environment]:
    """An environment with one extra, in the versions of ``requirements.lock``; deleted afterwards.

    Args:
        python: An interpreter.
        extra: One of ``EXTRAS``.
        uv: This program installs instead of pip; from its cache it links files instead of copying gigabytes.

    Raises:
        SystemExit: The interpreter is missing, or the installation fails; the installer's words are in it.
    """
    with tempfile.TemporaryDirectory(prefix="compatibility-") as name:
        _say(f"{name}: {python} with [{extra}] …")
        made = Environment(Path(name) / "bin/python")
        what = ["-c", "requirements.lock", "-e", f".[{extra}]", *TEST_TOOLS]
        if uv is None:
            _checked([python, "-m", venv.__name__, name])
            # Compiling tens of thousands of modules that no test imports takes longer than unpacking them.
            _checked([str(made.python), "-m", "pip", "install", "-q", "--no-compile", *what])
        else:
            _checked([uv, "venv", "-q", "--clear", "--python", python, name])
            _checked([uv, "pip", "install", "-q", "--python", str(made.python), *what])
        yield made


def _checked(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SystemExit(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
