"""Rows of the compatibility table: measured, kept as JSON, written as Markdown."""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from diffusion_asr.toolkits import list_adapters
from recipes.compatibility.environment import ADAPTERS, ROOT, Environment

RESULTS = Path(__file__).parent / "results"
TESTS = "tests/adapters/test_{}*.py"
_HEAD = (
    "| extra | Python | torch | toolkit | tests | other adapters | scripts | seen |\n"
    "|---|---|---|---|---|---|---|---|"
)
_VERSIONS = """
import json, platform
from importlib import metadata
from diffusion_asr.toolkits import list_adapters
found = {a.name: f"{a.toolkit} {a.version}" for a in list_adapters() if a.version}
versions = {"python": platform.python_version(), "torch": metadata.version("torch")}
print(json.dumps(versions | {"toolkits": found}))
"""


@dataclass(frozen=True)
class Row:
    """What was seen in one environment.

    Attributes:
        extra: What was installed.
        python: Its version, as the others.
        torch: As ``python``.
        toolkits: Adapter to its toolkit and version.
        tests: Adapter to the numbers that passed, failed and were skipped.
        others: Adapter that was not asked for to what importing it did: "told" (its error names the install
            command), "came along" (its toolkit is there as somebody's dependency) or "SILENT".
        scripts: What the tests said of SpeechBrain's and NeMo's scripts.
        machine: Where.
        seconds: That the tests took.
        date: Of the measurement.
    """

    extra: str
    python: str
    torch: str
    toolkits: dict[str, str]
    tests: dict[str, tuple[int, int, int]]
    others: dict[str, str]
    scripts: str
    machine: str
    seconds: float
    date: str

    @property
    def good(self) -> bool:
        """All tests ran, none failed, and whatever is missing says how to install it."""
        counts = self.tests.values()
        return all(p and not f for p, f, _ in counts) and "SILENT" not in self.others.values()


def measure(environment: Environment, extra: str) -> Row:
    """Run an extra's tests, and import the adapters that it does not bring.

    Raises:
        SystemExit: The environment lacks diffusion-asr.
    """
    wanted = ADAPTERS if extra == "all" else (extra,)
    versions = environment("-c", _VERSIONS)
    if versions.returncode:
        raise SystemExit(f"{environment.python} has no diffusion-asr:\n{versions.stderr[-1500:]}")
    seen = json.loads(versions.stdout)
    began = time.perf_counter()
    counts, scripts = {}, set()
    for name in wanted:
        counts[name], said = _tested(environment, name)
        scripts |= said
    return Row(
        extra,
        **seen,
        tests=counts,
        others={name: _imported(environment, name) for name in ADAPTERS if name not in wanted},
        scripts="; ".join(sorted(scripts)),
        machine=f"{platform.system()} {platform.machine()}",
        seconds=round(time.perf_counter() - began, 1),
        date=datetime.now(UTC).date().isoformat(),
    )


def _tested(environment: Environment, name: str) -> tuple[tuple[int, int, int], set[str]]:
    """Numbers of tests that passed, failed (or broke) and were skipped, and which scripts were run."""
    options = ("-rfE", "-p", "no:cacheprovider")  # the project says -q; twice hides the numbers
    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(TESTS.format(name)))
    files += ["tests/test_toolkits.py", "tests/cli/test_adapters_command.py"]
    done = environment("-m", "pytest", *files, *options)
    total = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)}
    failed = total.get("failed", 0) + total.get("error", 0)
    if done.returncode:
        failed = max(failed, 1)
        sys.stderr.write(done.stdout[-6000:] + done.stderr[-2000:])
    return (total.get("passed", 0), failed, total.get("skipped", 0)), _scripts(name, done.stdout)


def _scripts(name: str, said: str) -> set[str]:
    """Whether SpeechBrain's or NeMo's tests ran the scripts of a clone."""
    if name not in ("speechbrain", "nemo"):
        return set()
    cloned = re.search(r"scripts of /", said) is not None
    return {f"{name}: {'unmodified, of a clone' if cloned else 'their calls, installed package'}"}


def _imported(environment: Environment, name: str) -> str:
    """See ``Row.others``."""
    done = environment("-c", f"import diffusion_asr_{name}")
    if not done.returncode:
        return "came along"
    command = next(a.install_command for a in list_adapters() if a.name == name)
    return "told" if f"ToolkitMissingError: {command}" in _joined(done.stderr) else "SILENT"


def _joined(trace: str) -> str:
    """The last line of a traceback, with the reason in brackets left out."""
    return re.sub(r"ToolkitMissingError: .*: pip", "ToolkitMissingError: pip", trace.strip().splitlines()[-1])


def record(row: Row) -> None:
    """Keep a row; an older one of the same extra and Python is replaced."""
    RESULTS.mkdir(exist_ok=True)
    minor = ".".join(row.python.split(".")[:2])
    text = json.dumps(asdict(row), indent=1, ensure_ascii=False) + "\n"
    (RESULTS / f"{row.extra}-{minor}.json").write_text(text, encoding="utf8")


def read() -> list[Row]:
    """Every row that was recorded, by Python and extra."""
    rows = [_row(json.loads(path.read_text(encoding="utf8"))) for path in RESULTS.glob("*.json")]
    return sorted(rows, key=lambda row: (row.python.split(".")[:2], row.extra))


def _row(stored: dict[str, Any]) -> Row:
    counts = {name: (numbers[0], numbers[1], numbers[2]) for name, numbers in stored["tests"].items()}
    return Row(**stored | {"tests": counts})


def render(rows: Sequence[Row]) -> str:
    """Markdown."""
    return "\n".join([_HEAD, *map(_line, rows)])


def _line(row: Row) -> str:
    tested = ", ".join(f"{name}: {_count(n)}" for name, n in row.tests.items())
    toolkits = ", ".join(v for name, v in row.toolkits.items() if name in row.tests)
    others = ", ".join(f"{name} {what}" for name, what in row.others.items()) or "all tested"
    cells = (row.extra, row.python, row.torch, toolkits, tested, others, row.scripts or "-", row.date)
    return f"| {' | '.join(cells)} |"


def _count(numbers: tuple[int, int, int]) -> str:
    passed, failed, skipped = numbers
    words = [
        f"{passed} passed",
        f"{failed} FAILED" if failed else "",
        f"{skipped} skipped" if skipped else "",
    ]
    return " ".join(word for word in words if word)
