"""What an adapter adds to core's time: the same ten-second clips through each toolkit that is installed.

    python -m recipes.benchmark.adapters --clips 16 --rounds 3
    python -m recipes.benchmark.adapters --only nemo --threads 1

Core and adapter alternate and take turns in going first. Compare the ratios; on a machine that does other
things, those of the CPU time that this process used, on one thread, because threads that wait for each other
burn time too. pyannote gets a diarization that costs nothing: its own is not ours to time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import soundfile as sf
import torch
import typer

from diffusion_asr import Recognizer
from diffusion_asr.audio.files import SAMPLE_RATE, read_audio

SPEECH = Path("tests/data/en-arctic_a0239_1592711579.flac")
LANGUAGE = "en"
MOST = 1.05  # an adapter may add this much to core's CPU time
Run = Callable[[list[str]], list[str]]


class Spent(NamedTuple):
    """Seconds of one run."""

    wall: float
    cpu: float


def make_clips(folder: Path, count: int) -> list[str]:
    """Ten seconds of real speech, repeated and shifted, ``count`` times."""
    speech = read_audio(SPEECH)
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

    asr = SpeakerAttributedTranscription(OneSpeaker(), language=LANGUAGE, order="decode-first")
    return lambda paths: [asr(path).text for path in paths]


ADAPTERS = {
    "speechbrain": ("speechbrain", speechbrain),
    "nemo": ("nemo", nemo),
    "pyannote": ("pyannote", pyannote),
    "transformers": ("transformers", transformers),
}


def timed(run: Run, paths: list[str]) -> tuple[Spent, list[str]]:
    """One run and what it wrote."""
    wall, cpu = time.perf_counter(), time.process_time()
    texts = run(paths)
    return Spent(time.perf_counter() - wall, time.process_time() - cpu), texts


def ratios(base: Run, run: Run, paths: list[str], rounds: int) -> tuple[Spent, bool]:
    """Median ratio of ``run`` to ``base`` over pairs of runs, and whether they wrote the same."""
    run(paths[:1])  # what is loaded at the first call is not the adapter's cost
    pairs, same = [], True
    for n in range(rounds):
        order = (base, run) if n % 2 == 0 else (run, base)
        (first, texts), (second, others) = (timed(each, paths) for each in order)
        same &= texts == others
        ours, cores = (second, first) if n % 2 == 0 else (first, second)
        pairs.append(Spent(ours.wall / cores.wall, ours.cpu / cores.cpu))
    return Spent(*(statistics.median(column) for column in zip(*pairs, strict=True))), same


def main(
    clips: int = 16,
    rounds: int = 3,
    threads: int = 1,
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(ADAPTERS)}.")] = None,
) -> None:
    """Print a table of ratios to core's time; ends with 1 where an adapter adds too much or changes words."""
    torch.set_num_threads(threads)
    base = core()
    print(f"{clips} clips of 10 s, {threads} thread(s), medians of {rounds} pairs\n")
    print("| adapter | CPU time / core's | wall time / core's | same words |\n|---|---|---|---|")
    fine = True
    with tempfile.TemporaryDirectory() as folder:
        paths = make_clips(Path(folder), clips)
        base(paths[:1])
        for name, (package, build) in ADAPTERS.items():
            if only not in (None, name):
                continue
            if find_spec(package) is None:
                print(f"| {name} | not installed | | |")
                continue
            spent, same = ratios(base, build(), paths, rounds)
            fine &= same and spent.cpu <= MOST
            words = "yes" if same else "NO"
            print(f"| {name} | {spent.cpu:.3f} | {spent.wall:.3f} | {words} |", flush=True)
    raise typer.Exit(0 if fine else 1)


if __name__ == "__main__":
    typer.run(main)
