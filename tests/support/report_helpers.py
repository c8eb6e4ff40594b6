"""A meeting's page in a real browser: what tests do with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusion_asr.transcript import Word

CLIPS = ("en-arctic_a0239_1592711579", "de-de_rhasspy-0208", "en-arctic_a0095_1592746305")
EVIL = "</script><img/src=x/onerror=hacked=1>"  # one word
NAMES = ("Kathleen", f"Kerstin {EVIL}", "Kathleen")
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}


def evenly(text: str, start: float, end: float, speaker: str | None) -> tuple[Word, ...]:
    """Words at even distances: times that the page can be tested with, not measured ones."""
    parts = text.split()
    step = (end - start) / len(parts)
    return tuple(
        Word(part, start + n * step, start + (n + 1) * step, (0.95, 0.8, 0.6, 0.4, 0.2)[n % 5], speaker, 0.9)
        for n, part in enumerate(parts)
    )


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


def downloaded(page: Any, kind: str, folder: Path) -> Path:
    """The file that the page saves."""
    folder.mkdir(exist_ok=True)
    page.execute_cdp_cmd(
        "Browser.setDownloadBehavior",
        {"behavior": "allow", "downloadPath": str(folder), "eventsEnabled": True},
    )
    find(page, f"#save-{kind}").click()
    saved = folder / f"talk & _walk_.{kind}"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 20, 0.05).until(lambda _: saved.is_file() and list(folder.iterdir()) == [saved])
    return saved


def edit(page: Any, row: int, name: str | None = None, same: str | None = None) -> None:
    """Give the speaker of a row a name, or say who it is."""
    from selenium.webdriver.support.ui import Select

    find(page, f"#speakers li:nth-child({row}) .edit").click()
    if name is not None:
        field = find(page, "#speakers form input")
        field.clear()
        field.send_keys(name)
    if same is not None:
        Select(find(page, "#speakers form select")).select_by_visible_text(same)
    find(page, "#speakers form .plain").click()


def names_on(page: Any) -> list[str]:
    return [each.text for each in page.find_elements("css selector", "article .who")]
