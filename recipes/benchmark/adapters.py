"""What an adapter adds to core's time: the same ten-second clips through each toolkit that is installed.

    python -m recipes.benchmark.adapters --clips 16 --rounds 3

Core and adapter alternate, so that a noisy machine slows both; compare the ratios. pyannote gets a
diarization that costs nothing: its own is not ours to time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import typer

from diffusion_asr import Recognizer
from diffusion_asr.audio import SAMPLE_RATE, read
from recipes.benchmark.speed import paired

SPEECH = Path("tests/data/en-arctic_a0239_1592711579.flac")
LANGUAGE = "en"
Run = Callable[[list[str]], list[str]]


def make_clips(folder: Path, count: int) -> list[str]:
    """Ten seconds of real speech, repeated and shifted, ``count`` times."""
    speech = read(SPEECH)
    whole = np.tile(speech, 1 + 11 * SAMPLE_RATE // len(speech))
    paths = [folder / f"{n}.wav" for n in range(count)]
    for n, path in enumerate(paths):
        sf.write(path, np.roll(whole, 1000 * n)[: 10 * SAMPLE_RATE], SAMPLE_RATE)
    return [str(path) for path in paths]


def core() -> Run:
    asr = Recognizer.from_pretrained()
    return lambda paths: [asr.transcribe(path, LANGUAGE).text for path in paths]


def speechbrain() -> Run:
    from diffusion_asr_speechbrain import CANVAS_BASE, DiffusionASR

    asr = DiffusionASR.from_hparams(source=CANVAS_BASE, savedir=tempfile.mkdtemp())
    return lambda paths: [asr.transcribe_file(path, LANGUAGE) for path in paths]


def nemo() -> Run:
    from diffusion_asr_nemo import DiffusionASRModel

    model = DiffusionASRModel.from_checkpoint()
    return lambda paths: [
        h.text for h in model.transcribe(paths, batch_size=16, source_lang=LANGUAGE, verbose=False)
    ]


def transformers() -> Run:
    from transformers import pipeline

    import diffusion_asr_transformers

    asr = pipeline(diffusion_asr_transformers.TASK)
    return lambda paths: [out["text"] for out in asr(paths, batch_size=16, language=LANGUAGE)]


def pyannote() -> Run:
    from pyannote.audio import Pipeline
    from pyannote.core import Annotation, Segment

    from diffusion_asr_pyannote import SpeakerAttributedTranscription

    class OneSpeaker(Pipeline):  # type: ignore[misc]
        def default_parameters(self) -> dict[str, Any]:
            return {}

        def classes(self) -> list[str]:
            return ["A"]

        def apply(self, file: Any, **_: Any) -> Any:
            turns = Annotation()
            turns[Segment(0.0, 10.0)] = "A"
            return turns

    asr = SpeakerAttributedTranscription(OneSpeaker(), language=LANGUAGE)
    return lambda paths: [asr(path).text for path in paths]


ADAPTERS = {
    "speechbrain": ("speechbrain", speechbrain),
    "nemo": ("nemo", nemo),
    "pyannote": ("pyannote", pyannote),
    "transformers": ("transformers", transformers),
}


def main(clips: int = 16, rounds: int = 3) -> None:
    """Print a table of ratios to core's time."""
    base = core()
    print(f"{clips} clips of 10 s, medians of {rounds} alternating rounds\n")
    print("| adapter | time / core's | same words |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder), clips)
        expected = base(paths)
        for name, (package, build) in ADAPTERS.items():
            if find_spec(package) is None:
                print(f"| {name} | not installed | |")
                continue
            run = build()
            spent = paired({"core": partial(base, paths), name: partial(run, paths)}, rounds)
            same = "yes" if run(paths) == expected else "NO"
            print(f"| {name} | {spent[name] / spent['core']:.3f} | {same} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
