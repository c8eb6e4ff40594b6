"""Real speech inside Debian's packages that no speech corpus lists: more voices of en, de, fr, es.

Tux Paint's stamps have spoken descriptions (GPL-2, texts given), three more sets of Asterisk prompts have
no texts (their licences are in the packages), and an adventure game, Flight of the Amazon Queen, has a cast
(its own licence: free to pass on and to modify). Texts that are missing come from the teacher
(``recipes.embedded teach``). Nothing of it enters this repository.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from diffusion_asr.audio.files import SAMPLE_RATE, convert_to_mono
from recipes.embedded.texts import clean

POOL = "https://deb.debian.org/debian/pool/main/"
PACKAGES = {
    "t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb": (
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
    ),
    "a/asterisk-prompt-de/asterisk-prompt-de_2.0-1.3_all.deb": (
        "08ba6e284c2fd325b04adff884a269851b9d914ba6f8d671886e92432b8d292d"
    ),
    "a/asterisk-prompt-es-co/asterisk-prompt-es-co_0.20070403-2.1_all.deb": (
        "6702696e045514699e87dc8fb70f370717e5df91f821f7bec8dd0df1be008e83"
    ),
    "a/asterisk-prompt-fr-armelle/asterisk-prompt-fr-armelle_20070613-2.2_all.deb": (
        "162570b1a9b3512a98f06b89f60c7c17cf1b9b52297315adca9a4e5be728bea3"
    ),
    "f/flight-of-the-amazon-queen/flight-of-the-amazon-queen_1.0.0-9_all.deb": (
        "40c08fd258d6fe95c46c1eaf5e9137f84ba330657995a281bd887c94a560a0f1"
    ),
}
_UNSPOKEN = re.compile(r"[\[\]<>(*&%/=\ufffd$€]")


@dataclass(frozen=True)
class Found:
    """A recording: name, language, source, text (None: unknown), and samples (N,) at its own rate."""

    name: str
    lang: str
    source: str
    text: str | None
    samples: np.ndarray
    rate: int


def _unpacked(work: Path) -> Path:
    """Download, check and unpack what is not there yet."""
    out = work / "debian"
    for path, expected in PACKAGES.items():
        folder = out / Path(path).name.split("_")[0]
        if (folder / "usr").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(POOL + path, timeout=600) as answer:
            data = answer.read()
        if hashlib.sha256(data).hexdigest() != expected:
            raise RuntimeError(f"{POOL}{path} has changed: its sha256 is not {expected}")
        package = folder.with_suffix(".deb")
        package.write_bytes(data)
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
        package.unlink()
    return out


def described(text: str, language: str) -> str | None:
    """A stamp's description in one language, from its ``.txt``; None if there is none that can be spoken."""
    for line in text.splitlines():
        head, _, rest = line.partition("=")
        if head == f"{language}.utf8" and rest and not _UNSPOKEN.search(rest):
            return clean(rest)
    return None


def stamps(folder: Path) -> Iterator[Found]:
    """Tux Paint's descriptions in French and Spanish."""
    for path in sorted(folder.rglob("*_desc_*.ogg")):
        stem, _, language = path.stem.rpartition("_desc_")
        texts = path.with_name(stem + ".txt")
        if language not in ("fr", "es") or not texts.exists():
            continue
        text = described(texts.read_text("utf8", "replace"), language)
        if text:
            yield Found(f"{language}-{stem}", language, "Debian Tux Paint stamps", text, *_read(path))


def asterisk(folder: Path, language: str) -> Iterator[Found]:
    """Prompts in GSM; their names say nothing."""
    for path in sorted(folder.rglob("*.gsm")):
        samples, rate = sf.read(
            path, dtype="float32", format="RAW", subtype="GSM610", samplerate=8000, channels=1
        )
        name = f"{language}-{path.parent.name}-{path.stem}"
        yield Found(name, language, f"Debian {folder.name}", None, samples, rate)


def adventure(archive: bytes) -> Iterator[Found]:
    """Spoken lines of Flight of the Amazon Queen: MP3 inside ``queen.1c``.

    The table of ScummVM's rebuilt data file: ``QTBL``, a version (8 bytes), the compression (1 is MP3), the
    number of entries, then for each its name (12 bytes), the bundle, offset and size, big endian.
    """
    magic, compression, count = struct.unpack(">4s8xBH", archive[:15])
    if magic != b"QTBL" or compression != 1:
        raise RuntimeError("queen.1c: not ScummVM's data file with MP3 inside; has the package changed?")
    for n in range(count):
        entry = archive[15 + 21 * n : 36 + 21 * n]
        name = entry[:12].split(b"\0")[0].decode("ascii")
        offset, size = struct.unpack(">II", entry[13:])
        if name.endswith(".SB"):
            sound = _read(io.BytesIO(archive[offset : offset + size]))
            yield Found(f"en-queen-{name[:-3]}", "en", "Debian Flight of the Amazon Queen", None, *sound)


def _read(source: Path | io.BytesIO) -> tuple[np.ndarray, int]:
    try:
        samples, rate = sf.read(source, dtype="float32", always_2d=True)
    except sf.LibsndfileError:  # one broken file must not end the stage
        return np.zeros(0, np.float32), SAMPLE_RATE
    return samples.mean(1), rate


def recordings(folder: Path) -> Iterator[Found]:
    """Everything that the packages hold."""
    yield from stamps(folder / "tuxpaint-stamps-default")
    for language, name in (("de", "de"), ("es", "es-co"), ("fr", "fr-armelle")):
        yield from asterisk(folder / f"asterisk-prompt-{name}", language)
    yield from adventure(next(folder.rglob("queen.1c")).read_bytes())


def build(work: Path) -> None:
    """Write ``work/found/*.flac`` and ``clips.jsonl``, whose texts are null where nobody wrote them down."""
    out = work / "found"
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for found in recordings(_unpacked(work)):
        seconds = len(found.samples) / found.rate
        peak = float(np.abs(found.samples).max(initial=0.0))
        if not 0.7 < seconds < 25 or not peak > 0.02:
            continue
        samples = convert_to_mono(found.samples, found.rate)
        sf.write(
            out / f"{found.name}.flac", 0.7 * samples / np.abs(samples).max(), SAMPLE_RATE, subtype="PCM_16"
        )
        row = {"audio_filepath": f"{found.name}.flac", "duration": round(seconds, 3), "text": found.text}
        rows.append(row | {"lang": found.lang, "source": found.source, "split": "train"})
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    (out / "clips.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    for language in sorted({r["lang"] for r in rows}):
        kept = [r["duration"] for r in rows if r["lang"] == language]
        print(f"{language}: {len(kept)} clips, {sum(kept) / 3600:.2f} h")
