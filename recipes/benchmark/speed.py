"""Speed, cold start and memory beside faster-whisper base int8 greedy: same clips, same threads, one run.

    python -m recipes.benchmark.speed --work ~/.cache/diffusion-asr-recipe --shared ../shared

Each measure alternates between the two systems, so that a busy machine slows both; compare the ratios.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile as sf
import typer

from diffusion_asr.audio import files as audio

RATE = audio.SAMPLE_RATE
app = typer.Typer(add_completion=False)


def speech(shared: Path, seconds: float, lang: str = "en") -> np.ndarray:
    """Real dev speech of one language, clips joined and cut to length."""
    from recipes.embedded.evaluate import dev_clips

    clips = [c.samples for c in dev_clips(shared) if c.lang == lang]
    whole = np.concatenate(clips)
    return np.resize(whole, int(seconds * RATE)).astype(np.float32)


def paired(systems: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each system over alternating rounds; one warm-up each."""
    spent: dict[str, list[float]] = {name: [] for name in systems}
    for turn in range(rounds + 1):
        for name, call in systems.items():
            began = time.perf_counter()
            call()
            if turn:
                spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in spent.items()}


STATUS = "DIFFUSION_ASR_BENCHMARK_STATUS"  # file in which a measured process leaves its /proc/self/status


def child(code: str, *arguments: str) -> tuple[float, float]:
    """Seconds and peak MB of a Python process of its own."""
    with tempfile.NamedTemporaryFile("r", suffix=".status") as status:
        began = time.perf_counter()
        command = [sys.executable, "-c", code, *arguments]
        subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | {STATUS: status.name}, check=True)
        spent = time.perf_counter() - began
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read())
    return spent, int(found.group(1)) / 1024 if found else float("nan")


# The process says its own peak: what wait4 tells of a child includes its parent's before the exec.
TRANSCRIBE = f"""
import atexit, os, sys
from pathlib import Path
atexit.register(lambda: Path(os.environ["{STATUS}"]).write_text(Path("/proc/self/status").read_text()))
from diffusion_asr.cli import main
sys.argv[:1] = ["diffusion-asr"]
main()
"""


def ours_on(asr: Any, clip: np.ndarray) -> None:
    """Transcribe with the defaults, language forced."""
    asr.transcribe(clip, language="en")


def theirs_on(model: Any, clip: np.ndarray) -> None:
    """Transcribe greedily, language forced; the generator must be read to the end."""
    list(model.transcribe(clip, language="en", beam_size=1, temperature=0.0)[0])


WORK = Path.home() / ".cache/diffusion-asr-recipe"


@app.command()
def main(
    work: Annotated[Path, typer.Option(help="The recipe's folder (Whisper base is in it).")] = WORK,
    shared: Path = Path("../shared"),
    model: str = "canvas-base",
    rounds: int = 7,
    threads: int = 2,
) -> None:
    """Print a table of ratios."""
    import torch
    from faster_whisper import WhisperModel

    from diffusion_asr import Recognizer

    torch.set_num_threads(threads)
    ours = Recognizer.from_pretrained(model)
    theirs = WhisperModel(str(work / "weights/whisper"), compute_type="int8", cpu_threads=threads)
    print("| clip | diffusion-asr, s | faster-whisper base int8 greedy, s | ratio |\n|---|---|---|---|")
    for seconds in (3.0, 10.0, 30.0):
        clip = speech(shared, seconds)

        found = paired(
            {"ours": partial(ours_on, ours, clip), "theirs": partial(theirs_on, theirs, clip)}, rounds
        )
        ratio = found["ours"] / found["theirs"]
        print(f"| {seconds:.0f} s | {found['ours']:.3f} | {found['theirs']:.3f} | {ratio:.2f} |", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for label, seconds in (("10 s", 10.0), ("5 min", 300.0), ("60 min", 3600.0)):
            path = Path(name) / f"{int(seconds)}.flac"
            sf.write(path, speech(shared, seconds), RATE)
            arguments = [
                "transcribe",
                str(path),
                "--language",
                "en",
                "--threads",
                str(threads),
                "--model",
                model,
            ]
            wall, peak = child(TRANSCRIBE, *arguments)
            print(f"cold command, {label}: {wall:.1f} s in all, peak {peak:.0f} MB", flush=True)


if __name__ == "__main__":
    app()
