"""Speakers who are renamed and merged in the page, and the files that it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diffusion_asr import formats
from diffusion_asr.meeting import MeetingResult
from tests.support.report_helpers import EVIL, NAMES, downloaded, edit, find, names_on


def test_speakers_are_renamed_everywhere_and_for_the_next_time(page: Any) -> None:
    edit(page, 1, "  Kate  <b>  Moss ")
    assert names_on(page) == ["Kate <b> Moss", NAMES[1], "Kate <b> Moss"]
    assert [each.text for each in page.find_elements("css selector", "#speakers .who")] == [
        "Kate <b> Moss",
        NAMES[1],
    ]
    assert find(page, "#lanes span").text == "Kate <b> Moss"
    assert "Kate <b> Moss" in find(page, "article .at").get_attribute("aria-label")
    word = find(page, "article .w")
    page.execute_script("arguments[0].dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))", word)
    assert "Kate <b> Moss" in find(page, "#detail").text
    page.refresh()
    assert names_on(page)[0] == "Kate <b> Moss"
    find(page, "#forget").click()
    assert names_on(page) == list(NAMES)
    page.refresh()
    assert names_on(page) == list(NAMES)
    assert not find(page, "#forget").is_displayed()


@pytest.mark.parametrize("way", ["by name", "by choice"])
def test_two_speakers_are_made_one(page: Any, way: str, meeting: tuple[MeetingResult, Path]) -> None:
    assert find(page, "article .over").text == EVIL
    edit(page, 2, **({"name": NAMES[0]} if way == "by name" else {"same": NAMES[0]}))
    assert len(page.find_elements("css selector", "#speakers li")) == 1
    share = find(page, "#speakers .share").text
    assert share.startswith("100 % · ")
    seconds = max(turn.end for turn in meeting[0].turns)  # where the turns overlapped counts once
    assert share.endswith(f"0:{int(seconds):02d}")
    assert find(page, "#facts").text.split(" · ")[1] == "1 speaker"
    assert len(page.find_elements("css selector", "#lanes span")) == 1
    # one name above three blocks
    assert [each.is_displayed() for each in page.find_elements("css selector", "article .who")] == [
        True,
        False,
        False,
    ]
    assert (
        page.execute_script(
            "return new Set([...document.querySelectorAll('article')].map(a => a.className[1])).size"
        )
        == 1
    )
    assert page.find_elements("css selector", "article .over") == []  # nobody talks over himself
    find(page, "#forget").click()
    assert names_on(page) == list(NAMES)
    assert find(page, "article .over").text == EVIL


@pytest.mark.parametrize("kind", ["txt", "srt", "json"])
def test_what_the_page_saves_is_read_again_with_the_new_names(
    page: Any, kind: str, meeting: tuple[MeetingResult, Path], tmp_path: Path
) -> None:
    edit(page, 1, "Kate [chair]")
    (found,) = formats.read(downloaded(page, kind, tmp_path / "saved"))
    segments = meeting[0].transcript.segments
    name = NAMES[1]
    assert list(dict.fromkeys(s.speaker for s in found.segments)) == [
        "Kate [chair]" if kind == "json" else "Kate (chair)",
        name,
    ]
    assert found.text.split() == meeting[0].transcript.text.split()
    if kind == "txt":
        return
    if kind == "srt":
        written = formats.parse(formats.render(meeting[0].transcript, "vtt"), "vtt")[0]
        assert [(s.start, s.end, s.text) for s in found.segments] == [
            (s.start, s.end, s.text) for s in written.segments
        ]
        return
    rounded = [
        (w.text, round(w.start, 3), round(w.end, 3), w.confidence, w.speaker_confidence, w.overlapped)
        for w in meeting[0].transcript.words
    ]
    assert [
        (w.text, w.start, w.end, w.confidence, w.speaker_confidence, w.overlapped) for w in found.words
    ] == rounded
    assert [(s.language, s.text) for s in found.segments] == [(s.language, s.text) for s in segments]
    assert [s.start for s in found.segments] == [round(s.start, 3) for s in segments]
    assert [s.end for s in found.segments] == [round(s.end, 3) for s in segments]
