"""A meeting of real clips, its page, and a browser to open it (skipped where there is none)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from diffusion_asr.audio import files as audio
from diffusion_asr.meeting import MeetingResult, SegmentTrace
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.report import write_report
from diffusion_asr.transcript import Segment, Transcript
from tests.support.report_helpers import CLIPS, EVIL, NAMES, PHONE, assert_quiet, evenly, opened
from tests.support.tiny import DATA


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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


@pytest.fixture
def phone(page: Any) -> Iterator[Any]:
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    page.refresh()
    yield page
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
