"""What is in the report page."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from diffusion_asr.audio import files as audio
from diffusion_asr.errors import AudioError, FormatError
from diffusion_asr.meeting import MeetingResult
from diffusion_asr.report import write_report
from diffusion_asr.report.player_audio import prepare_audio
from diffusion_asr.transcript import Segment, Transcript, Word
from tests.support.report_helpers import EVIL


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
