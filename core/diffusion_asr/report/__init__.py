"""One HTML file to look at, listen to and search: who said what, how surely, and how it came out of noise.

The file needs nothing else: no network, no server. Where a recording is too long to be put into the page,
the page links to the sound file by its relative path instead.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from diffusion_asr.audio.files import StrPath
from diffusion_asr.formats.files import write_text
from diffusion_asr.report.plain import render_facts, render_plain
from diffusion_asr.report.player_audio import EMBED_LIMIT, PlayerAudio, prepare_audio
from diffusion_asr.report.view import Replay, View, build_view
from diffusion_asr.transcript import Transcript

if TYPE_CHECKING:
    from diffusion_asr.meeting import MeetingResult

__all__ = ["EMBED_LIMIT", "Replay", "write_report"]

_SCRIPTS = (
    "sound.js",
    "timeline.js",
    "transcript.js",
    "search.js",
    "replay.js",
    "people.js",
    "export.js",
    "main.js",
)
# "<" could end the script element that holds the data; the others end lines or entities in some parsers.
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def write_report(
    path: StrPath,
    meeting: MeetingResult | Transcript,
    audio_path: StrPath | None = None,
    *,
    replays: Sequence[Replay] = (),
    embed_limit: int = EMBED_LIMIT,
    overwrite: bool = True,
    track: int | None = None,
) -> None:
    """Write the page, whole or not at all.

    Args:
        path: The HTML file.
        meeting: What a meeting gave, or a plain transcript (then without speakers, if it has none).
        audio_path: The recording; None makes a page without sound and waveform.
        replays: Denoising steps for a plain transcript; a meeting brings its own.
        embed_limit: Bytes of MP3 above which the page links to ``audio_path`` instead of holding it.
        overwrite: Whether an existing file may be replaced.
        track: Of the recording's audio tracks this one, from 1; None is its default.

    Raises:
        AudioError: The recording cannot be read.
        FormatError: The page cannot be written, or exists and may not be replaced.
    """
    target = Path(path)
    view = build_view(meeting, replays)
    sound = prepare_audio(audio_path, embed_limit, track) if audio_path is not None else None
    write_text(target, _page(view, sound, target), overwrite)


def _page(view: View, sound: PlayerAudio | None, target: Path) -> str:
    style, script = _asset("page.css"), "\n".join(_asset(name) for name in _SCRIPTS)
    linked = sound is not None and sound.embedded is None
    media = "blob: file: 'self'" if linked else "blob:"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        f"media-src {media}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    page = Template(_asset("page.html")).substitute(
        policy=policy,
        title=html.escape(view.title),
        facts=render_facts(view.payload),
        plain=render_plain(view.payload),
        style=style,
        script=script,
        data=_json(view.payload | _sound(sound, target)),
        sound=base64.b64encode(sound.embedded or b"").decode("ascii") if sound else "",
    )
    # A file name that is not UTF-8 reaches us as lone surrogates, which no UTF-8 file can hold.
    return page.encode("utf-8", errors="replace").decode("utf-8")


def _sound(sound: PlayerAudio | None, target: Path) -> dict[str, Any]:
    """What the page is told of the sound; a length that the transcript does not know comes from here."""
    if sound is None:
        return {"sound": None, "peaks": "", "peakRate": 1.0}
    link = None if sound.embedded is not None else _link(sound.path, target)
    return {
        "sound": {"type": sound.kind, "link": link, "name": sound.path.name},
        "peaks": base64.b64encode(sound.peaks).decode("ascii"),
        "peakRate": sound.peak_rate,
        "duration": round(sound.duration, 3),
    }


def _link(sound: Path, page: Path) -> str:
    """The recording's address as seen from the page."""
    here, there = page.resolve().parent, sound.resolve()
    try:
        relative = Path(os.path.relpath(there, here))
    except ValueError:  # another drive
        return there.as_uri()
    from urllib.parse import quote

    return "./" + quote(os.fsencode(relative.as_posix()))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ESCAPES)


def _asset(name: str) -> str:
    return (resources.files(__package__) / "page" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """How a content security policy names the one script or style that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
