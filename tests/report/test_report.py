"""The report page: what is in it, and how it behaves in a real browser (skipped where there is none)."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from diffusion_asr.audio import files as audio
from diffusion_asr.errors import AudioError, FormatError
from diffusion_asr.meeting import MeetingResult, SegmentTrace
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.report import write_report
from diffusion_asr.report.player_audio import prepare_audio
from diffusion_asr.transcript import Segment, Transcript, Word

DATA = Path(__file__).parents[1] / "data"
CLIPS = ("en-arctic_a0239_1592711579", "de-de_rhasspy-0208", "en-arctic_a0095_1592746305")
EVIL = "</script><img/src=x/onerror=hacked=1>"  # one word
NAMES = ("Kathleen", f"Kerstin {EVIL}", "Kathleen")


def evenly(text: str, start: float, end: float, speaker: str | None) -> tuple[Word, ...]:
    """Words at even distances: times that the page can be tested with, not measured ones."""
    parts = text.split()
    step = (end - start) / len(parts)
    return tuple(
        Word(part, start + n * step, start + (n + 1) * step, (0.95, 0.8, 0.6, 0.4, 0.2)[n % 5], speaker, 0.9)
        for n, part in enumerate(parts)
    )


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> tuple[MeetingResult, Path]:
    """Three real clips one after the other; the last word of each pair is marked as overlapped."""
    texts = json.loads((DATA / "texts.json").read_text(encoding="utf8"))
    path = tmp_path_factory.mktemp("meeting") / "talk & <walk>.flac"
    pieces, segments, turns, clock = [], list[Segment](), list[Turn](), 0.0
    for clip, name in zip(CLIPS, NAMES, strict=True):
        samples = audio.read_audio(DATA / f"{clip}.flac")
        end = clock + len(samples) / audio.SAMPLE_RATE
        words = evenly(f"{texts[f'{clip}.flac']} {EVIL}", clock, end, name)
        words = (*words[:-1], replace(words[-1], overlapped=True))
        text = " ".join(word.text for word in words)
        segments.append(Segment(clock, end, text, words, clip[:2], name))
        turns.append(Turn(clock, end + 0.4, name))
        pieces.append(samples)
        clock = end
    sf.write(path, np.concatenate(pieces), audio.SAMPLE_RATE)
    traces = tuple(
        SegmentTrace(s.start, s.end, (f"zq {EVIL} व 字", s.text[: len(s.text) // 2], s.text))
        for s in segments
    )
    transcript = Transcript(tuple(segments), clock, str(path))
    return MeetingResult(transcript, tuple(turns), tuple(turns), clock, str(path), traces), path


def data_of(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf8"))
    assert found is not None
    return dict(json.loads(found[1]))


def test_page_holds_everything(meeting: tuple[MeetingResult, Path], tmp_path: Path) -> None:
    result, sound = meeting
    page = tmp_path / "report.html"
    write_report(page, result, sound)
    data = data_of(page)
    assert [s["name"] for s in data["speakers"]] == ["Kathleen", f"Kerstin {EVIL}"]
    assert sum(s["share"] for s in data["speakers"]) == pytest.approx(1.0, abs=0.001)
    assert [[w[0] for w in b["words"]] for b in data["blocks"]] == [
        [w.text for w in s.words] for s in result.transcript.segments
    ]
    assert len(data["peaks"]) * 3 / 4 == pytest.approx(result.duration * data["peakRate"], abs=4)
    held = re.search(r'<script type="text/plain" id="sound">(.*?)</script>', page.read_text("utf8"))
    assert held is not None
    samples, rate = sf.read(io.BytesIO(base64.b64decode(held[1])), dtype="float32")
    assert rate == audio.SAMPLE_RATE
    original = audio.read_audio(sound)
    assert len(samples) == pytest.approx(len(original), abs=3000)
    # MP3 is no copy, but what is heard at a time must be what was said then.
    lag = np.argmax(np.correlate(samples[20_000:60_000], original[22_000:58_000], "valid")) - 2000
    assert abs(lag) < 0.1 * rate


def test_page_is_escaped_and_closed_to_the_network(
    meeting: tuple[MeetingResult, Path], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    write_report(page, *meeting)
    text = page.read_text("utf8")
    assert "<img" not in text
    assert len(re.findall("</script>", text)) == 3  # data, sound, script
    assert "<title>talk &amp; &lt;walk&gt;.flac</title>" in text
    policy = re.search('Content-Security-Policy" content="(.*?)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]
    assert not re.search(r"https?://", text)


def test_long_recordings_are_linked(meeting: tuple[MeetingResult, Path], tmp_path: Path) -> None:
    result, sound = meeting
    copy = tmp_path / "ein Ordner" / "100 % & more.flac"
    copy.parent.mkdir()
    shutil.copy(sound, copy)
    write_report(tmp_path / "report.html", result, copy, embed_limit=1000)
    data = data_of(tmp_path / "report.html")
    assert data["sound"]["link"] == "./ein%20Ordner/100%20%25%20%26%20more.flac"
    assert (tmp_path / "report.html").stat().st_size < 100_000


def test_peaks_follow_the_sound(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(16_000), 0.5 * np.ones(16_000), np.zeros(8000)]).astype(np.float32)
    sf.write(tmp_path / "step.wav", samples, 16_000)
    found = prepare_audio(tmp_path / "step.wav", limit=0)
    assert found.embedded is None
    assert found.duration == 2.5
    peaks = np.frombuffer(found.peaks, np.uint8)
    assert len(peaks) == 125
    assert set(peaks[:50]) == {0}
    assert set(peaks[50:100]) == {255}


@pytest.mark.parametrize("speaker", [None, "Ada"])
def test_plain_transcripts_and_odd_ones(speaker: str | None, tmp_path: Path) -> None:
    """No audio, no speakers, segments without words, nothing at all."""
    segment = Segment(1.0, 2.0, "No word times.", speaker=speaker)
    write_report(tmp_path / "a.html", Transcript((segment,), 3.0, "C:\\talks\\a.wav"))
    data = data_of(tmp_path / "a.html")
    assert data["sound"] is None
    assert [s["name"] for s in data["speakers"]] == ([speaker] if speaker else [])
    assert data["blocks"][0]["words"][0][:3] == ["No word times.", 1.0, 2.0]
    assert "<h1>a.wav</h1>" in (tmp_path / "a.html").read_text("utf8")
    write_report(tmp_path / "b.html", MeetingResult(Transcript()))
    assert data_of(tmp_path / "b.html")["blocks"] == []


def test_mandarin_has_no_spaces(tmp_path: Path) -> None:
    words = tuple(Word(c, n, n + 1.0) for n, c in enumerate("你好"))
    write_report(tmp_path / "a.html", Transcript((Segment(0, 2, "你好", words, "zh"),), 2.0))
    flags = [word[5] for word in data_of(tmp_path / "a.html")["blocks"][0]["words"]]
    assert flags == [0, 2]


def test_bad_places_are_errors(meeting: tuple[MeetingResult, Path], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="folder"):
        write_report(tmp_path / "none" / "a.html", meeting[0])
    with pytest.raises(AudioError, match="no such file"):
        write_report(tmp_path / "a.html", meeting[0], tmp_path / "gone.wav")
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(FormatError, match="exists"):
        write_report(tmp_path / "a.html", meeting[0], overwrite=False)


# --- in a browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("chromium and chromedriver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-quic", "no-first-run",
        "disable-background-networking", "disable-component-update", "disable-sync",
        f"user-data-dir={profile}", "window-size=1280,900",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=chromedriver)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, meeting: tuple[MeetingResult, Path], tmp_path: Path) -> Iterator[Any]:
    """The report of the meeting, opened; afterwards nothing may have been complained about or fetched."""
    path = tmp_path / "report.html"
    write_report(path, *meeting)
    yield opened(browser, path)
    assert_quiet(browser)


def opened(browser: Any, path: Path) -> Any:
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(path.as_uri())
    return browser


def assert_quiet(browser: Any) -> None:
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked, "the log of requests is empty"
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    assert browser.execute_script("return [typeof hacked, document.querySelectorAll('img').length]") == [
        "undefined",
        0,
    ]


def wait(browser: Any, condition: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20, 0.05).until(
        lambda driver: driver.execute_script(f"return {condition}"), condition
    )


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def focused_text(page: Any) -> str:
    return str(page.execute_script("return document.activeElement.textContent"))


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(page).send_keys(*keys).perform()


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


def test_fits_a_phone(page: Any) -> None:
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.refresh()
    assert page.execute_script("return document.documentElement.scrollWidth") == 360
    tops = page.execute_script("return [...document.querySelectorAll('article')].map(a => a.offsetTop)")
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert tops[0] < 740


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
