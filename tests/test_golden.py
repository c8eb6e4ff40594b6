"""The shipped model's exact answers: structure may change, these may not (``tests/support/golden.py``)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffusion_asr import Recognizer
from tests.support.golden import CLIPS, RECORD, WAYS, decode_clip, precision, run_command

GOLDEN: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def asr() -> Recognizer:
    found = Recognizer.from_pretrained()
    if precision(found) != GOLDEN["precision"]:
        pytest.skip(f"recorded in {GOLDEN['precision']}, this machine computes in {precision(found)}")
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: str(clip.stem))
def test_a_clip_is_decoded_as_recorded(asr: Recognizer, clip: Any, way: str) -> None:
    found, expected = decode_clip(asr, clip, way), GOLDEN["decoded"][f"{clip.name}, {way}"]
    assert found["text"] == expected["text"]
    assert found["passes"] == expected["passes"]
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=2e-3)
    for (word, start, end, sure), (theirs, begin, finish, chance) in zip(
        found["words"], expected["words"], strict=True
    ):
        assert word == theirs
        assert (start, end) == (begin, finish)
        assert sure == pytest.approx(chance, abs=2e-3)


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: str(clip.stem))
def test_the_command_writes_the_recorded_document(asr: Recognizer, clip: Any) -> None:
    assert _without_confidence(run_command(clip)) == _without_confidence(GOLDEN["command"][clip.name])


def _without_confidence(value: Any) -> Any:
    """Confidences are compared above, with the tolerance that other processors need."""
    if isinstance(value, dict):
        return {k: _without_confidence(v) for k, v in value.items() if k != "confidence"}
    return [_without_confidence(each) for each in value] if isinstance(value, list) else value
