"""The transcript as the page's own HTML, for where its script does not run: in mail, in an archive."""

from __future__ import annotations

import html
from typing import Any

from diffusion_asr.report.view import GLUED

_NOBODY = "Unknown"


def render_facts(payload: dict[str, Any]) -> str:
    """How long, and how many speak."""
    people = len(payload["speakers"])
    count = [f"{people} speaker{'' if people == 1 else 's'}"] if people else []
    return " · ".join([_clock(payload["duration"]), *count])


def render_plain(payload: dict[str, Any]) -> str:
    """Every block: who, when, what. A time is a link to its place here, and with the script to the sound."""
    names = [speaker["name"] for speaker in payload["speakers"]]
    blocks = [_article(block, names) for block in payload["blocks"]]
    return "\n".join(blocks) or '<p class="quiet">Nobody says anything in this recording.</p>'


def _article(block: dict[str, Any], names: list[str]) -> str:
    who, start = block["speaker"], block["words"][0][1]
    kind = "nobody" if who < 0 else f"s{who % 8}"
    name = html.escape(_NOBODY if who < 0 else names[who])
    label = f'<div class="name"><span class="dot"></span><span>{name}</span></div>' if names else ""
    place = f"t={start:.2f}".rstrip("0").rstrip(".")
    tongue = f' lang="{html.escape(block["language"])}"' if block["language"] else ""
    link = f'<a class="at" href="#{place}">{_clock(start)}</a>'
    return (
        f'<article class="{kind}" id="{place}"><header>{label}{link}</header>'
        f"<p{tongue}>{html.escape(_text(block), quote=False)}</p></article>"
    )


def _text(block: dict[str, Any]) -> str:
    return "".join(
        word[0] if word[5] & GLUED or not n else f" {word[0]}" for n, word in enumerate(block["words"])
    )


def _clock(seconds: float) -> str:
    """As 1:02:03, or 2:03 for less than an hour."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
