"""docs/cli.md says what the command line does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_asr import formats
from diffusion_asr.cli.inputs import find_inputs
from diffusion_asr.languages import find_language
from tests.support import cli_helpers
from tests.support.cli_helpers import ROOT, Fake, run

fake, files = cli_helpers.fake, cli_helpers.files
PAGE = (ROOT / "docs/cli.md").read_text(encoding="utf8")


def test_the_document_is_the_one_that_is_written(fake: Fake, files: Callable[..., list[str]]) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (read,) = formats.parse(shown, "json")
    assert read.text == "Guten Tag."
    written = run("transcribe", *files("de.wav"), "--format", "json").stdout
    assert keys(json.loads(shown)) == keys(json.loads(written))


def keys(value: Any) -> Any:
    """A document's keys in their order."""
    if isinstance(value, dict):
        return [(name, keys(inner)) for name, inner in value.items()]
    return keys(value[0]) if isinstance(value, list) and value else None


def test_options_and_names_are_those_that_there_are() -> None:
    known = run("transcribe", "--help").stdout + run("meeting", "--help").stdout
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)):
        assert option in known or option == "--help", option
    (languages,) = re.findall(r"in Python and the adapters: (.*?)\. Without", PAGE, re.DOTALL)
    for name in re.findall(r"`([^`]+)`", languages):
        assert find_language(name) in ("de", "zh")


def test_patterns_of_the_page_are_searched(files: Callable[..., list[str]]) -> None:
    files("talks/a/b.mp3", "talks/c.mp3")
    (pattern,) = re.findall(r"transcribe '(.*?)'", PAGE)
    found = find_inputs([Path(pattern)], recursive=False)
    assert [one.name for one in found] == ["talks/a/b.mp3", "talks/c.mp3"]
