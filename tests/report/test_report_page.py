"""How the page behaves in a real browser: playing, keys, sizes, addresses, without scripts."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusion_asr import formats
from diffusion_asr.meeting import MeetingResult
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.report import write_report
from diffusion_asr.transcript import Segment, Transcript
from tests.support.report_helpers import (
    EVIL,
    NAMES,
    PHONE,
    assert_quiet,
    downloaded,
    edit,
    evenly,
    find,
    focused_text,
    opened,
    press,
    wait,
)

SMALL = """
const kinds = "button, a[href], input, select, summary, [role=slider], #map, .w[tabindex]";
return [...document.querySelectorAll(kinds)]
  .filter((each) => each.checkVisibility() && !each.matches(".skip"))
  .map((each) => [each, each.getBoundingClientRect()])
  .filter(([each, box]) => box.height < 24 || (box.width < 24 && !each.matches(".w")))
  .map(([each, box]) => `${each.outerHTML.slice(0, 80)} ${box.width} ${box.height}`);
"""  # a word is as wide as it is: a target in a sentence


def test_clicking_a_word_plays_from_it(page: Any, meeting: tuple[MeetingResult, Path]) -> None:
    word = meeting[0].transcript.segments[1].words[2]
    node = find(page, "article:nth-of-type(2) p .w:nth-of-type(3)")
    assert node.text == word.text
    node.click()
    wait(page, f"player.playing && player.time > {word.start} && player.time < {word.end + 5}")
    wait(page, "document.querySelector('.w.now') !== null")
    button = find(page, "#play")
    assert button.get_attribute("aria-label") == "Pause"
    button.click()
    wait(page, "!player.playing")
    evil = find(page, "article:nth-of-type(2) p .w:last-of-type")
    assert evil.text == EVIL
    assert evil.value_of_css_property("text-decoration-style") == "dashed"
    assert find(page, "article:nth-of-type(2) .name").text == NAMES[1]


def test_keyboard_alone_is_enough(page: Any, meeting: tuple[MeetingResult, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    first, second = (segment.words for segment in meeting[0].transcript.segments[:2])
    assert page.execute_script("return document.querySelectorAll('.w[tabindex]').length") == 1
    page.execute_script("document.querySelector('.w[tabindex]').focus()")
    press(page, Keys.ARROW_RIGHT)
    assert focused_text(page) == first[1].text
    assert page.execute_script("return document.activeElement.getAttribute('role')") == "button"
    assert first[1].text in page.execute_script("return document.activeElement.ariaLabel")
    assert page.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(page, Keys.ARROW_DOWN)
    assert focused_text(page) == second[0].text
    press(page, Keys.SPACE)
    wait(page, f"player.playing && player.time >= {second[0].start}")
    press(page, Keys.SPACE)
    wait(page, "!player.playing")
    press(page, Keys.ARROW_UP, Keys.END)
    assert focused_text(page) == first[-1].text
    press(page, "/")
    assert page.execute_script("return document.activeElement.id") == "query"
    press(page, "<IMG/src")
    wait(page, "document.querySelector('#found').textContent === '1 of 3'")
    press(page, Keys.ENTER)
    assert find(page, "#found").text == "2 of 3"
    assert [each.text for each in page.find_elements("css selector", ".hit")] == [EVIL] * 3
    press(page, Keys.ESCAPE, "/", f"{second[0].text} {second[1].text[:2]}".upper())
    wait(page, "document.querySelector('#found').textContent === '1 of 1'")
    assert [each.text for each in page.find_elements("css selector", ".hit")] == [w.text for w in second[:2]]
    press(page, Keys.ESCAPE)
    wait(page, "document.querySelectorAll('.hit').length === 0")
    track = find(page, "#track")
    track.send_keys(Keys.HOME)
    assert track.get_attribute("aria-valuenow") == "0"
    track.send_keys(Keys.ARROW_RIGHT)
    wait(page, "document.querySelector('#track').ariaValueNow === '5'")


def test_slider_replays_from_noise_to_text(page: Any, meeting: tuple[MeetingResult, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    steps = meeting[0].traces[0].steps
    slider = find(page, "#step")
    assert find(page, "#canvas").text == steps[-1]
    slider.send_keys(Keys.HOME)
    assert find(page, "#canvas").text == steps[0]
    assert find(page, "#step-label").text == "Step 0 of 2"
    assert find(page, "#canvas b").text == EVIL  # the last step has it too: what stays stands out
    slider.send_keys(Keys.ARROW_RIGHT)
    assert find(page, "#canvas").text == steps[1].strip()
    find(page, "#later").click()
    assert find(page, "#canvas").text == meeting[0].traces[1].steps[-1]
    find(page, "#replay-play").click()
    wait(page, "replay.timer === 0 && document.querySelector('#step').value === '2'")


def test_speakers_and_themes(page: Any) -> None:
    shares = [each.text for each in page.find_elements("css selector", "#speakers .share")]
    assert len(shares) == 2
    assert all(re.fullmatch(r"\d+ % · 0:\d\d", each) for each in shares)
    find(page, "#speakers li:nth-child(2) button").click()
    assert len(page.find_elements("css selector", "article.dim")) == 2
    light = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    button = find(page, "#theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") != light
    drawn = page.execute_script(
        "const c = document.querySelector('#wave');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return new Set(Array.from({length: d.length / 4}, (_, n) => d.slice(4 * n, 4 * n + 4).join())).size"
    )
    assert drawn > 3  # two speakers and the ground


def test_a_time_in_the_address_is_gone_to_and_times_are_links(
    browser: Any, meeting: tuple[MeetingResult, Path], tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", *meeting)
    start = meeting[0].transcript.segments[1].start
    opened(browser, tmp_path / "report.html")
    link = find(browser, "article:nth-of-type(2) .at")
    assert link.tag_name == "a"
    address = link.get_attribute("href")
    assert address == f"{(tmp_path / 'report.html').as_uri()}#t={float(f'{start:.2f}'):g}"
    browser.get("about:blank")
    browser.get(address)
    wait(browser, f"Math.abs(player.time - {start}) < 0.02 && !player.playing")
    link = find(browser, "article:nth-of-type(3) .at")
    link.click()
    wait(browser, f"player.playing && player.time >= {meeting[0].transcript.segments[2].start} - 0.02")
    assert browser.current_url.endswith(link.get_attribute("href").partition("#")[2])
    assert_quiet(browser)


def test_fits_a_phone(phone: Any) -> None:
    assert phone.execute_script("return document.documentElement.scrollWidth") == 360
    tops = phone.execute_script("return [...document.querySelectorAll('article')].map(a => a.offsetTop)")
    assert tops[0] < 740


def test_names_can_be_read_on_a_phone(phone: Any) -> None:
    """Whole, large enough, above their own lane."""
    edit(phone, 1, "Dr. Kathleen Ferguson-Montgomery")
    for label in phone.find_elements("css selector", "#lanes span"):
        assert phone.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", label)
        assert float(label.value_of_css_property("font-size").removesuffix("px")) >= 12
    heights = phone.execute_script(
        "return [byId('lanes').offsetHeight, byId('wave').offsetHeight, timeline.rows.size * timeline.lane]"
    )
    assert heights[0] == heights[1]
    assert heights[2] == sum(
        each.size["height"] for each in phone.find_elements("css selector", "#lanes span")
    )


def test_targets_are_large_enough(page: Any) -> None:
    for size in (None, PHONE):
        if size is not None:
            page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        page.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
        find(page, "#speakers .edit").click()
        page.execute_script("timeline.zoom(0.5)")  # shows the map
        assert page.execute_script("return byId('map').checkVisibility()")
        assert page.execute_script(SMALL) == []
        page.execute_script("people.list()")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_scripts_the_text_is_there(
    browser: Any, meeting: tuple[MeetingResult, Path], tmp_path: Path
) -> None:
    write_report(tmp_path / "report.html", *meeting)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get((tmp_path / "report.html").as_uri())
        shown = find(browser, "body").text
        for segment in meeting[0].transcript.segments:
            assert f"{segment.speaker}\n" in shown
            assert segment.text in " ".join(shown.split())
        assert find(browser, "#facts").text.endswith("2 speakers")
        assert not any(each.is_displayed() for each in browser.find_elements("css selector", "button, input"))
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_page_without_speakers_has_no_trace_of_them(
    browser: Any, meeting: tuple[MeetingResult, Path], tmp_path: Path
) -> None:
    segments = tuple(
        replace(s, speaker=None, words=evenly(s.text, s.start, s.end, None))
        for s in meeting[0].transcript.segments
    )
    plain = Transcript(segments, meeting[0].duration, str(meeting[1]))
    write_report(tmp_path / "report.html", plain, meeting[1])
    page = opened(browser, tmp_path / "report.html")
    for hidden in ("#people", "#lanes", "#replay", "#legend-over", "article .who"):
        assert not find(page, hidden).is_displayed()
    left = page.execute_script(
        "return [byId('track'), byId('play')].map((each) => each.getBoundingClientRect().left)"
    )
    assert left[0] == left[1]
    assert "Unknown" not in find(page, "body").text
    find(page, "article:nth-of-type(2) .w").click()
    wait(page, f"player.playing && player.time >= {segments[1].start}")
    (found,) = formats.read(downloaded(page, "txt", tmp_path / "saved"))
    assert [(s.speaker, s.text) for s in found.segments] == [(None, s.text) for s in segments]
    assert_quiet(page)


def test_linked_sound_plays(browser: Any, meeting: tuple[MeetingResult, Path], tmp_path: Path) -> None:
    result, sound = meeting
    shutil.copy(sound, tmp_path / "it's 5 % #1.flac")
    write_report(tmp_path / "report.html", result, tmp_path / "it's 5 % #1.flac", embed_limit=0)
    page = opened(browser, tmp_path / "report.html")
    find(page, "#play").click()
    wait(page, "player.playing && player.time > 0.1")
    assert_quiet(page)


def test_hour_of_talk_opens_and_is_searched(browser: Any, tmp_path: Path) -> None:
    """Ten thousand words: one stop for the Tab key, one node a word, the last one found and reached."""
    segments = []
    for n in range(1000):
        start = 3.6 * n
        name = f"S{n % 4}"
        segments.append(
            Segment(start, start + 3.5, "", evenly(f"w{n} " * 10, start, start + 3.5, name), "en", name)
        )
    turns = tuple(Turn(s.start, s.end, s.speaker or "") for s in segments)
    write_report(tmp_path / "long.html", MeetingResult(Transcript(tuple(segments)), turns, turns, 3600.0))
    page = opened(browser, tmp_path / "long.html")
    assert page.execute_script("return document.querySelectorAll('.w[tabindex]').length") == 1
    assert page.execute_script("return words.length") == 10_000
    find(page, "#query").send_keys("w999 w999 w999")
    wait(page, "document.querySelector('#found').textContent === '1 of 3'")
    top, height = page.execute_script(
        "return [document.querySelector('.chosen').getBoundingClientRect().top, innerHeight]"
    )
    assert 0 < top < height
    assert_quiet(page)


def test_the_transcript_follows_who_goes_elsewhere_while_it_is_paused(browser: Any, tmp_path: Path) -> None:
    segments = tuple(
        Segment(
            10.0 * n,
            10.0 * n + 6,
            "",
            evenly(f"w{n} " * 20, 10.0 * n, 10.0 * n + 6, f"S{n % 2}"),
            "en",
            f"S{n % 2}",
        )
        for n in range(300)
    )
    write_report(tmp_path / "long.html", Transcript(segments, 3000.0))
    page = opened(browser, tmp_path / "long.html")
    seen = "((box) => box.top > 0 && box.bottom < innerHeight)(%s.getBoundingClientRect())"
    for time, word in ((2001.0, "w200"), (2998.0, "w299"), (0.0, "w0"), (1508.5, "w150")):
        page.execute_script(f"player.seek({time})")
        if time % 10 < 6:
            wait(
                page,
                f"document.querySelector('.w.now')?.textContent === '{word}' && "
                + seen % "document.querySelector('.w.now')",
            )
        else:  # a pause: what was said before it
            wait(page, seen % f"words.findLast((each) => each.text === '{word}').node")
    track = find(page, "#track")
    from selenium.webdriver import ActionChains

    ActionChains(page).move_to_element(track).click().perform()
    wait(page, "document.querySelector('.w.now') === null || " + seen % "document.querySelector('.w.now')")
    assert page.execute_script("return player.time") > 0
    assert_quiet(page)
