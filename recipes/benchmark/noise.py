"""Error rates in noise, rooms and on the telephone, beside Whisper base greedy on the very same sound.

    python -m recipes.benchmark.noise --most 6 --work ~/.cache/diffusion-asr-recipe

Real dev speech, disturbed here with a fixed seed for each clip: pink noise and babble (four other dev clips
of any language) at a signal-to-noise ratio over the whole clip, a random shoebox room (image method), 300 to
3400 Hz with eight-bit mu-law. Language forced, scores as in ``recipes.embedded.evaluate``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track

from diffusion_asr import Recognizer
from recipes.embedded.augment import coloured_noise, narrow_band, reverb
from recipes.embedded.evaluate import Clip, Score, dev_clips, score, whisper

Rng = np.random.Generator
Disturbance = Callable[[np.ndarray, Rng], np.ndarray]
VOICES = 4  # in babble

app = typer.Typer(add_completion=False)


def at_snr(speech: np.ndarray, noise: np.ndarray, decibels: float) -> np.ndarray:
    """``speech`` with ``noise`` at a ratio of mean powers, scaled down where it would clip."""
    level = np.sqrt(np.mean(speech**2) / max(1e-12, float(np.mean(noise**2)))) * 10 ** (-decibels / 20)
    mixed = speech + level * noise
    return np.asarray(mixed / max(1.0, float(np.abs(mixed).max())), dtype=np.float32)


def babble(speech: np.ndarray, clips: Sequence[Clip], rng: Rng) -> np.ndarray:
    """Some other clips at once, each at the same level, as long as ``speech``."""
    others = [clip.samples for clip in clips if clip.samples is not speech]
    total = np.zeros(len(speech), np.float32)
    for n in rng.choice(len(others), min(VOICES, len(others)), replace=False):
        voice = np.resize(np.roll(others[n], int(rng.integers(len(others[n])))), len(speech))
        total += voice / (np.sqrt(np.mean(voice**2)) + 1e-9)
    return total


def disturbances(clips: Sequence[Clip]) -> dict[str, Disturbance]:
    """What the columns are called, and what they do to samples at 16 kHz."""

    def pink(decibels: float) -> Disturbance:
        return lambda x, rng: at_snr(x, coloured_noise(len(x), rng, 1.0), decibels)

    def people(decibels: float) -> Disturbance:
        return lambda x, rng: at_snr(x, babble(x, clips, rng), decibels)

    return {
        "clean": lambda x, _: x,
        "pink 20 dB": pink(20),
        "pink 10 dB": pink(10),
        "pink 0 dB": pink(0),
        "babble 20 dB": people(20),
        "babble 10 dB": people(10),
        "room": reverb,
        "telephone": lambda x, _: narrow_band(x),
    }


def disturbed(clip: Clip, name: str, change: Disturbance) -> Clip:
    """The clip in noise that depends on it and on the disturbance alone."""
    seed = zlib.crc32(f"{name} {clip.source} {clip.text}".encode())
    return replace(clip, samples=change(clip.samples, np.random.default_rng(seed)))


def cell(ours: Score, theirs: Score) -> str:
    """Ours with its interval, and Whisper base's."""
    low, high = ours.interval()
    return f"{ours.rate:.1f} [{low:.0f}, {high:.0f}] / {theirs.rate:.1f}"


def table(rows: dict[str, dict[str, tuple[Score, Score]]]) -> str:
    """Markdown: a row a language, a column a disturbance."""
    columns = list(next(iter(rows.values())))
    lines = ["| | clips | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for lang, cells in rows.items():
        count = len(cells[columns[0]][0].errors)
        shown = " | ".join(cell(*cells[name]) for name in columns)
        lines.append(f"| {lang} | {count} | {shown} |")
    return "\n".join(lines)


@app.command()
def main(
    model: str = "canvas-base",
    work: Annotated[Path, typer.Option(help="Folder of the recipe, with Whisper base's weights.")] = Path(
        "~/.cache/diffusion-asr-recipe"
    ),
    shared: Annotated[Path, typer.Option(help="Folder with data/speech.")] = Path("../shared"),
    most: Annotated[int, typer.Option(help="At most so many clips of a set; 0 takes all.")] = 6,
    threads: int = 2,
) -> None:
    """Print the table: ours with a 95 % bootstrap interval over clips / Whisper base greedy."""
    torch.set_num_threads(threads)
    clips = dev_clips(shared, most or None)
    recognizer, baseline = Recognizer.from_pretrained(model), whisper(work.expanduser(), threads)

    def ours(clip: Clip) -> str:
        return recognizer.transcribe(clip.samples, language=clip.lang).text

    console = Console(stderr=True)
    rows: dict[str, dict[str, tuple[Score, Score]]] = {lang: {} for lang in sorted({c.lang for c in clips})}
    for name, change in disturbances(clips).items():
        texts = []
        for clip in track(clips, name, console=console, transient=True):
            noisy = disturbed(clip, name, change)
            texts.append((ours(noisy), baseline(noisy)))
        for lang, cells in rows.items():
            chosen = [n for n, clip in enumerate(clips) if clip.lang == lang]
            references = [clips[n].text for n in chosen]
            mine, theirs = ([texts[n][k] for n in chosen] for k in (0, 1))
            cells[name] = score(references, mine, lang), score(references, theirs, lang)
    typer.echo(table(rows))


if __name__ == "__main__":
    app()
