"""The examples of README and docs are run as they stand."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile as sf

from diffusion_asr import loading, toolkits
from diffusion_asr.formats import FORMATS
from diffusion_asr.models.folder import EMBEDDED

ROOT = Path(__file__).parent.parent
CLIP = Path(__file__).parent / "data/de-de_rhasspy-0208.flac"
TOOLKITS = ("speechbrain", "nemo", "pyannote.audio", "transformers")
FENCE = re.compile(r"```(\w+)(?: (\S+))?\n(.*?)```", re.DOTALL)  # its language and the file's name, if any

pytestmark = pytest.mark.skipif(
    not (EMBEDDED / "canvas-base/config.json").is_file(), reason="the embedded model is not in this checkout"
)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the recordings are that the examples name."""
    samples, rate = sf.read(CLIP)
    for name in ("talk.wav", "meeting.wav", "talk.flac"):
        sf.write(tmp_path / name, samples, rate)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- README ------------------------------------------------------------------------------------------------


def readme_blocks() -> list[str]:
    found = FENCE.findall((ROOT / "README.md").read_text(encoding="utf8"))
    blocks = [block for language, _, block in found if language == "python"]
    return [part for block in blocks for part in re.split(r"\n\n(?=from )", block)]


@pytest.mark.parametrize("block", readme_blocks())
def test_the_readme_s_python_runs(block: str) -> None:
    # pyannote.metrics, which scoring needs, makes "pyannote" importable without pyannote.audio.
    for toolkit in TOOLKITS:
        if toolkit.partition(".")[0] in block:
            pytest.importorskip(toolkit)
    exec(block, {})


# --- meetings ----------------------------------------------------------------------------------------------


def test_the_python_of_meetings_runs_in_order(folder: Path) -> None:
    pytest.importorskip("pyannote.audio")
    blocks = FENCE.findall((ROOT / "docs/meetings.md").read_text(encoding="utf8"))
    names: dict[str, object] = {}
    for language, _, block in blocks:
        if language == "python":
            exec(compile(block, "docs/meetings.md", "exec"), names)
    for name in ("meeting.srt", "meeting.rttm", "meeting.html"):
        assert (folder / name).stat().st_size > 50
    assert len({name for _, _, name in names["output"].itertracks(yield_label=True)}) == 1  # type: ignore[attr-defined]


# --- scores and model folders ------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["audio", "scoring", "models"])
def test_a_page_s_examples_run_in_order(page: str) -> None:
    pytest.importorskip("jiwer")
    names: dict[str, object] = {}
    for language, _, block in FENCE.findall((ROOT / f"docs/{page}.md").read_text(encoding="utf8")):
        assert language == "python"
        exec(compile(block, f"docs/{page}.md", "exec"), names)
    assert names


# --- extending ---------------------------------------------------------------------------------------------


def chapters() -> dict[str, str]:
    """Text of every chapter by its title."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf8")
    _, *parts = re.split(r"(?m)^## (.+)\n", text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture
def nothing_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules, formats and kinds that an example adds are gone afterwards."""
    before, tables = set(sys.modules), [(table, dict(table)) for table in (FORMATS, loading._LOADERS)]
    monkeypatch.syspath_prepend(folder)
    yield
    for table, entries in tables:
        table.clear()
        table.update(entries)  # type: ignore[arg-type]
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(folder):
            del sys.modules[name]


def install(folder: Path) -> None:
    """What pip writes about the distribution whose ``pyproject.toml`` lies in a folder."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf8"))["project"]
    home = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    home.mkdir()
    extras = [
        f"Requires-Dist: {line}; extra == '{extra}'"
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
    ]
    lines = ["Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}", *extras]
    (home / "METADATA").write_text("\n".join(lines), encoding="utf8")
    points = [f"[{group}]\n{_lines(given)}" for group, given in project["entry-points"].items()]
    (home / "entry_points.txt").write_text("\n".join(points), encoding="utf8")
    importlib.invalidate_caches()


def _lines(entries: dict[str, str]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in entries.items())


@pytest.mark.usefixtures("nothing_stays")
@pytest.mark.parametrize("title", chapters())
def test_a_chapter_s_examples_run_in_order(title: str, folder: Path) -> None:
    """Blocks with a file's name are written there; Python blocks without one are run in one namespace."""
    names: dict[str, object] = {}
    ran = 0
    for language, name, block in FENCE.findall(chapters()[title]):
        if name:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block, encoding="utf8")
            if name == "pyproject.toml":
                install(folder)
        elif language == "python":
            exec(compile(block, f"docs/extending.md: {title}", "exec"), names)
            ran += 1
    assert ran


def test_the_chapters_are_the_three_seams() -> None:
    assert len(chapters()) == 3
    assert toolkits.GROUP in " ".join(chapters().values())
