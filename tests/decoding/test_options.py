"""Decoding options: what makes no sense is refused with the fix, and they need no torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from diffusion_asr.decoding.options import DecodingOptions
from tests.support.tiny import ROOT


@pytest.mark.parametrize("name", ["steps", "max_steps"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "4"])
def test_no_steps_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be a whole number of passes, 1 or more .*{wrong!r}"):
        DecodingOptions(**{name: wrong})


@pytest.mark.parametrize("name", ["entropy_bound", "temperature"])
@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_impossible_numbers_are_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number of 0 or more"):
        DecodingOptions(**{name: wrong})


def test_wrong_starts_are_refused() -> None:
    with pytest.raises(ValueError, match="'null', 'noise' or canvases of token ids, not 'nois'"):
        DecodingOptions(start="nois")  # type: ignore[arg-type]


def test_the_limit_is_the_steps_or_the_most_or_the_decoders_own() -> None:
    assert DecodingOptions().limit(8) == 8
    assert DecodingOptions(max_steps=3).limit(8) == 3
    assert DecodingOptions(steps=20, max_steps=3).limit(8) == 20


def test_changes_are_checked_as_well() -> None:
    options = DecodingOptions(steps=4, seed=3)
    assert options.changed() == options
    assert options.changed(start="noise") == DecodingOptions(steps=4, seed=3, start="noise")
    with pytest.raises(TypeError, match="unknown decoding options: init, sead; there are steps, max_steps"):
        options.changed(sead=1, init="noise")
    with pytest.raises(ValueError, match="steps must be"):
        options.changed(steps=0)


def test_they_are_light() -> None:
    code = "import sys, diffusion_asr.decoding.options; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "core")})
