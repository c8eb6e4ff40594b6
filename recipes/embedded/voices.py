"""Four synthesisers behind one call: Kokoro (neural), SVOX Pico and Festival (units), espeak-ng (formants).

Each ``speak`` returns mono float32 at 16 kHz. Voices are described by a string that alone reproduces
the clip, so that the manifest is a complete record.
"""

from __future__ import annotations

import io
import json
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile as sf
import soxr

RATE = 16_000
ESPEAK_NAME = {"en": "en-us", "de": "de", "fr": "fr-fr", "es": "es", "hi": "hi", "zh": "cmn"}
PICO_NAME = {"en": "en-GB", "de": "de-DE", "fr": "fr-FR", "es": "es-ES"}
KOKORO_OWN = {"en": "ab", "fr": "f", "es": "e", "hi": "h", "zh": "z"}  # first letter of a voice
_ESPEAK_VARIANTS = ("", "+m1", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5", "+klatt2", "+klatt4")
# Kokoro writes affricates and English diphthongs as single letters (misaki's convention).
_AFFRICATES = (("dʒ", "ʤ"), ("tʃ", "ʧ"), ("ts", "ʦ"), ("dz", "ʣ"))
_DIPHTHONGS = (("eɪ", "A"), ("aɪ", "I"), ("aʊ", "W"), ("oʊ", "O"), ("ɔɪ", "Y"), ("əʊ", "Q"))


class Voice(Protocol):
    """One synthesiser."""

    def languages(self) -> tuple[str, ...]: ...

    def draw(self, language: str, rng: random.Random) -> str: ...

    def speak(self, text: str, language: str, voice: str) -> np.ndarray: ...


def _to_16k(samples: np.ndarray, rate: int) -> np.ndarray:
    return np.asarray(soxr.resample(samples.astype(np.float32), rate, RATE), dtype=np.float32)


class Espeak:
    """espeak-ng: all six languages, formant synthesis, many voice variants."""

    def languages(self) -> tuple[str, ...]:
        return tuple(ESPEAK_NAME)

    def draw(self, language: str, rng: random.Random) -> str:
        return f"{rng.choice(_ESPEAK_VARIANTS)}:{rng.randint(125, 205)}:{rng.randint(20, 80)}"

    def speak(self, text: str, language: str, voice: str) -> np.ndarray:
        variant, speed, pitch = voice.split(":")
        name = ESPEAK_NAME[language] + variant
        command = ["espeak-ng", "--stdout", "-v", name, "-s", speed, "-p", pitch, "--", text]
        out = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        samples, rate = sf.read(io.BytesIO(out), dtype="float32")
        return _to_16k(samples, rate)


class Pico:
    """SVOX Pico: concatenative, one voice for each of de, en, es, fr."""

    def languages(self) -> tuple[str, ...]:
        return tuple(PICO_NAME)

    def draw(self, language: str, rng: random.Random) -> str:
        return f"{rng.randint(75, 135)}:{rng.randint(70, 140)}"

    def speak(self, text: str, language: str, voice: str) -> np.ndarray:
        speed, pitch = voice.split(":")
        name = "en-US" if language == "en" and int(pitch) % 2 else PICO_NAME[language]
        marked = f'<speed level="{speed}"><pitch level="{pitch}">{text}</pitch></speed>'
        with tempfile.NamedTemporaryFile(suffix=".wav") as out:
            command = ["pico2wave", "-l", name, "-w", out.name, marked]
            subprocess.run(command, capture_output=True, check=True, timeout=60)
            samples, rate = sf.read(out.name, dtype="float32")
        return _to_16k(samples, rate)


class Festival:
    """Festival's Hindi voice: diphones of one speaker (Debian's festvox-hi-nsk)."""

    def languages(self) -> tuple[str, ...]:
        return ("hi",)

    def draw(self, language: str, rng: random.Random) -> str:
        return f"{rng.uniform(0.75, 1.2):.2f}"

    def speak(self, text: str, language: str, voice: str) -> np.ndarray:
        # The voice reads a parameter that only other voices set.
        setting = (
            "(begin (Param.set 'Int_Method 'DuffInt) (voice_hindi_NSK_diphone)"
            f" (Param.set 'Duration_Stretch {float(voice)}))"
        )
        with tempfile.NamedTemporaryFile(suffix=".wav") as out:
            command = ["text2wave", "-eval", setting, "-", "-o", out.name]
            subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=60)
            samples, rate = sf.read(out.name, dtype="float32")
        return _to_16k(samples, rate)


class Kokoro:
    """Kokoro-82M (int8 ONNX). Voices are mixed in style space, which yields new speakers.

    It has no German voice; German is spoken from espeak-ng phonemes by voices of other languages.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        model = str(folder / "kokoro-v1.0.int8.onnx")
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._vocab: dict[str, int] = json.loads((folder / "vocab.json").read_text())["vocab"]
        self._styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, 256)
            for path in sorted((folder / "voices").glob("*.bin"))
        }
        self._chinese: Any = None

    def languages(self) -> tuple[str, ...]:
        return ("en", "de", "fr", "es", "hi", "zh")

    def draw(self, language: str, rng: random.Random) -> str:
        prefix = KOKORO_OWN.get(language)
        own = [v for v in self._styles if prefix is None or v[0] in prefix]
        first = rng.choice(own)
        second = rng.choice(own if rng.random() < 0.5 else list(self._styles))
        return f"{first}:{rng.uniform(0.4, 1.0):.2f}:{second}:{rng.uniform(0.8, 1.25):.2f}"

    def speak(self, text: str, language: str, voice: str) -> np.ndarray:
        first, share, second, speed = voice.split(":")
        ids = [self._vocab[c] for c in self._phonemes(text, language) if c in self._vocab][:500]
        style = float(share) * self._styles[first] + (1 - float(share)) * self._styles[second]
        feeds = {
            self._session.get_inputs()[0].name: np.array([[0, *ids, 0]], np.int64),
            "style": style[len(ids)][None].astype(np.float32),
            "speed": np.array([float(speed)], np.float32),
        }
        return _to_16k(np.asarray(self._session.run(None, feeds)[0]).ravel(), 24_000)

    def _phonemes(self, text: str, language: str) -> str:
        if language == "zh":
            if self._chinese is None:
                from misaki.zh import ZHG2P

                self._chinese = ZHG2P()
            spoken = self._chinese(text)
            return str(spoken[0] if isinstance(spoken, tuple) else spoken)
        command = ["espeak-ng", "-q", "--ipa=3", "-v", ESPEAK_NAME[language], "--", text]
        out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        ipa = " ".join(out.split())
        for mark in ("_", "\u200d", "-", "͡"):
            ipa = ipa.replace(mark, "")
        pairs = _AFFRICATES + (_DIPHTHONGS if language == "en" else ())
        for long, short in pairs:
            ipa = ipa.replace(long, short)
        return ipa + text[-1] if text[-1] in ".?!" else ipa
