"""The house: which way arrows point, and that its seams hold for code that lives elsewhere."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

from tests.support import tiny
from tests.support.tiny import ROOT

CORE = ROOT / "core/diffusion_asr"
MODULES = {path.relative_to(CORE).as_posix(): path for path in sorted(CORE.rglob("*.py"))}
# Imports inside functions that are meant: what needs transformers is loaded when it is asked for.
LATE = {
    ("audio/files.py", "diffusion_asr.audio.containers"),  # PyAV: a tenth of a second, for few files
    ("loading.py", "diffusion_asr.diffusion_gemma.decoder"),
    ("loading.py", "diffusion_asr.diffusion_gemma.folder"),
}


def environment(*folders: Path) -> dict[str, str]:
    paths = os.pathsep.join(str(path) for path in (*folders, ROOT / "core", ROOT))
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


# --- arrows ------------------------------------------------------------------------------------------------


def test_the_contracts_of_import_linter_hold() -> None:
    pytest.importorskip("importlinter")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " 0 broken" in done.stdout
    assert " 0 kept" not in done.stdout


def late_imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Modules of this project that functions import when they are called."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    inside = [node for each in ast.walk(tree) if isinstance(each, functions) for node in ast.walk(each)]
    for node in inside:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [resolve_name("." * node.level + (node.module or ""), package)]
        yield from (name for name in names if name.split(".")[0] == "diffusion_asr")


def test_late_imports_are_seen() -> None:
    code = "import diffusion_asr.a\ndef f():\n  import os, diffusion_asr.b\n  def g():\n    from ..c import d"
    assert set(late_imports(ast.parse(code), "diffusion_asr.x.y")) == {"diffusion_asr.b", "diffusion_asr.x.c"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_is_imported_inside_a_function_but_on_purpose(name: str) -> None:
    """An import in a function hides an arrow. The command line starts fast by them."""
    folder = Path("diffusion_asr", name).parent.as_posix().replace("/", ".")
    found = {(name, module) for module in late_imports(ast.parse(MODULES[name].read_text("utf8")), folder)}
    assert name.startswith("cli/") or found <= LATE


def test_what_may_be_imported_late_is_imported_late() -> None:
    """The list is no longer than it needs to be."""
    for name, module in LATE:
        assert module in set(late_imports(ast.parse(MODULES[name].read_text("utf8")), "diffusion_asr"))


def test_tests_mirror_the_folders_of_core() -> None:
    """What is tested of ``core/diffusion_asr/x`` is tested in ``tests/x``."""
    packages = {path.parent.relative_to(CORE) for path in MODULES.values() if path.name == "__init__.py"}
    for package in packages:
        assert list((ROOT / "tests" / package).glob("test_*.py")), package


# --- seams -------------------------------------------------------------------------------------------------

DECODER = '''
"""A decoder of another package: it hears nothing and writes one letter into every third slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.decoder import Decoded, Decoder, DecodingOptions, check_languages
from diffusion_asr.loading import load_parts, register_kind
from diffusion_asr.models.parts import Parts


class LetterDecoder:
    languages = ("en", "it")

    def __init__(self, letter: int) -> None:
        self.letter = letter

    def decode(
        self, memory: AcousticMemory, languages: Sequence[str], options: DecodingOptions
    ) -> list[Decoded]:
        check_languages(languages, self.languages, len(memory))
        return [self._decode(float(seconds)) for seconds in memory.seconds]

    def _decode(self, seconds: float) -> Decoded:
        slots = max(1, round(seconds / 0.1))
        canvas = torch.zeros(slots, dtype=torch.long)
        canvas[::3] = self.letter
        times = torch.arange(slots) * 0.1 + 0.05
        return Decoded(canvas, torch.full((slots,), 0.75), times, 0.1, parallel_passes=1)


def with_letters(parts: Parts, letter: str) -> Parts:
    decoder: Decoder = LetterDecoder(parts.vocabulary.encode(letter, "en")[-1])
    return replace(parts, decoder=decoder, denoiser=None, language=None)


def load(folder: Path, config: Mapping[str, Any]) -> Parts:
    return with_letters(load_parts(folder / "base"), config["denoiser"]["letter"])


register_kind("letters", load)
'''
USE = """
import sys
from diffusion_asr import Recognizer
from diffusion_asr.errors import LanguageError, ModelError
from diffusion_asr.loading import load_parts, register_kind
from tests.support.tiny import AlwaysSpeech, noise
import letters

base = load_parts(sys.argv[1] + "/base")
by_hand = Recognizer(letters.with_letters(base, "x"), detector=AlwaysSpeech())
assert by_hand.languages == ("en", "it")
found = by_hand.transcribe(noise(2.0), language="it")
assert set(found.text) == {"x"}, found.text
assert {segment.language for segment in found.segments} == {"it"}

loaded = Recognizer.from_pretrained(sys.argv[1])
assert type(loaded.parts.decoder) is letters.LetterDecoder
memory = loaded.encode(__import__("torch").from_numpy(noise(0.5))[None])
assert set(loaded.decode(memory, "en")[0].text) == {"y"}
try:
    loaded.decode(memory, "de")
except LanguageError as error:
    assert "this model knows en, it" in str(error)
else:
    raise SystemExit("de is none of its languages")
try:
    register_kind("letters", letters.load)
except ModelError as error:
    assert "'letters'" in str(error)
else:
    raise SystemExit("a kind is registered once")
print("done")
"""


def test_a_decoder_of_another_package_needs_no_change_here(tmp_path: Path) -> None:
    from diffusion_asr.models.folder import save_folder

    package, model = tmp_path / "package", tmp_path / "model"
    package.mkdir()
    (package / "letters.py").write_text(DECODER, encoding="utf8")
    save_folder(
        model, {"name": "letters", "version": "1", "denoiser": {"kind": "letters", "letter": "y"}}, {}
    )
    tiny.model(model / "base")
    done = subprocess.run(
        [sys.executable, "-c", USE, str(model)],
        cwd=tmp_path, env=environment(package), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


ADAPTER = """
import sys
from importlib import metadata
from diffusion_asr.toolkits import list_adapters
(found,) = [adapter for adapter in list_adapters() if adapter.name == "espnet"]
print(found.module, found.version, found.install_command)
"""


def test_an_adapter_of_another_distribution_is_listed_with_its_own_install_hint(tmp_path: Path) -> None:
    home = tmp_path / "their_espnet-1.0.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-espnet\nVersion: 1.0\nProvides-Extra: espnet\n"
        "Requires-Dist: espnet-core>=202511; extra == 'espnet'\n"
    )
    (home / "entry_points.txt").write_text("[diffusion_asr.adapters]\nespnet = their_espnet\n")
    done = subprocess.run(
        [sys.executable, "-c", ADAPTER], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout == "their_espnet None pip install 'their-espnet[espnet]'\n"
