"""Reading speech out of Debian's packages, on small files in their layouts."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

from recipes.embedded.debian_speech import adventure, asterisk, described, stamps
from recipes.embedded.pseudo_label import agrees, shared_out, windows

STAMP = "A fire truck.\nde.utf8=Ein Feuerwehrauto.\nfr.utf8=Un camion de pompiers.\nes.utf8=1/2 dólar ($).\n"


def tone(seconds: float, rate: int) -> np.ndarray:
    return (0.4 * np.sin(440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def archive(entries: dict[str, bytes], compression: int = 1) -> bytes:
    table, body = b"", b""
    start = 15 + 21 * len(entries)
    for name, data in entries.items():
        table += name.encode().ljust(12, b"\0") + b"\1" + struct.pack(">II", start + len(body), len(data))
        body += data
    head = struct.pack(">4s6sxxBH", b"QTBL", b"CEM10", compression, len(entries))
    return head + table + body


def test_a_stamp_s_description_is_the_language_s_own() -> None:
    assert described(STAMP, "fr") == "Un camion de pompiers."
    assert described(STAMP, "hi") is None
    assert described(STAMP, "es") is None  # nobody knows how that was said


def test_stamps_are_found_with_their_texts(tmp_path: Path) -> None:
    (tmp_path / "truck.txt").write_text(STAMP, encoding="utf8")
    for language in ("fr", "es", "da"):
        sf.write(tmp_path / f"truck_desc_{language}.ogg", tone(1.0, 22_050), 22_050)
    (found,) = stamps(tmp_path)
    assert (found.name, found.lang, found.text) == ("fr-truck", "fr", "Un camion de pompiers.")
    assert len(found.samples) == pytest.approx(found.rate, rel=0.01)


def test_prompts_are_read_from_gsm(tmp_path: Path) -> None:
    path = tmp_path / "hello.gsm"
    sf.write(path, tone(1.0, 8000), 8000, format="RAW", subtype="GSM610")
    (found,) = asterisk(tmp_path, "de")
    assert (found.lang, found.text, found.rate) == ("de", None, 8000)
    assert np.abs(found.samples).max() == pytest.approx(0.4, abs=0.1)


def test_the_adventure_s_speech_is_told_from_its_other_files() -> None:
    spoken = io.BytesIO()
    sf.write(spoken, tone(1.0, 11_025), 11_025, format="MP3")
    (found,) = adventure(archive({"QUEEN.JAS": b"no sound", "0303B9J1.SB": spoken.getvalue()}))
    assert (found.name, found.lang, found.rate) == ("en-queen-0303B9J1", "en", 11_025)
    assert len(found.samples) > 10_000
    (broken,) = adventure(archive({"0303B9J1.SB": b"not MP3"}))
    assert len(broken.samples) == 0


def test_another_archive_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"queen\.1c"):
        list(adventure(archive({}, compression=2)))


@pytest.mark.parametrize(
    ("heard", "same"), [("Un camion de pompier", True), ("Bonjour à tous", False), ("", False)]
)
def test_a_text_that_was_not_said_is_dropped(heard: str, same: bool) -> None:
    assert agrees("Un camion de pompiers.", heard) is same


def clip(lang: str, source: str, duration: float) -> dict[str, object]:
    return {"lang": lang, "source": source, "duration": duration}


def test_short_clips_of_one_kind_share_a_window() -> None:
    rows = [clip("en", "a", 9.0)] * 4 + [clip("fr", "a", 1.0)] * 2 + [clip("fr", "b", 40.0)]
    assert [[r["duration"] for r in w] for w in windows(rows)] == [[9.0, 9.0, 9.0], [9.0], [1.0, 1.0], [40.0]]


def test_segments_go_to_the_clip_in_which_they_are_said() -> None:
    """Clips from 0 to 3, 4 to 6 and 7 to 8 s."""
    first, late, both = (SimpleNamespace(start=a, end=b) for a, b in ((0.1, 1.5), (1.6, 3.9), (4.5, 7.9)))
    assert shared_out([first, late], [3.0, 2.0, 1.0]) == [[first, late], [], []]
    assert shared_out([first, both], [3.0, 2.0, 1.0]) == [[first], None, None]
