"""Train the letter canvas: one command a stage.

    python -m recipes.embedded fetch            weights
    python -m recipes.letters alphabet          letters, sounds and Hanzi of the training texts
    python -m recipes.letters cache real        states below the top layers, augmented (dev: as they are)
    python -m recipes.letters train RUN         resumable
    python -m recipes.letters export RUN OUT    its weights, small
    python -m recipes.letters evaluate OUT      errors on dev
    python -m recipes.letters ship OUT MODEL    a model folder with these letters for Hindi

Every stage takes --work and can be cut off and run again.
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


@app.command()
def alphabet(work: Work = WORK, shared: Shared = SHARED) -> None:
    """Collect the letters of the labelled training clips and the Hanzi of these and of the sentences."""
    from recipes.embedded.features import manifest_rows
    from recipes.embedded.texts import sentences
    from recipes.letters.alphabet import Alphabet

    rows = [
        r for r in manifest_rows(shared / "data/speech/manifest.jsonl") if r["split"] == "train" and r["text"]
    ]
    texts = [(r["text"], r["lang"]) for r in rows]
    found = Alphabet.collect(texts + [(s, "zh") for s in sentences(shared / "data/text", "zh", set())])
    (work / "letters").mkdir(parents=True, exist_ok=True)
    found.save(work / "letters/alphabet.json")
    typer.echo(f"{len(found.letters)} letters and sounds, {len(found.hanzi)} Hanzi")


@app.command()
def cache(
    source: str,
    variant: int = 0,
    language: Annotated[str, typer.Option(help="Only clips of this one.")] = "",
    work: Work = WORK,
    shared: Shared = SHARED,
    threads: int = 1,
) -> None:
    """Encode a source's clips up to the trained layers: real, dev, or a synthesiser's shard (kokoro-0)."""
    from recipes.embedded.features import Recording, compose, hash_seed, source_rows
    from recipes.embedded.features import cache as write
    from recipes.letters.train import load_whisper_encoder

    torch.set_num_threads(threads)
    encoder = load_whisper_encoder(work / "weights/whisper/model.safetensors")
    rows, joined = source_rows(work, shared, source)
    if source == "dev":
        write(work / "letters/cache/dev", [Recording((r,), 0) for r in rows], encoder, augmented=False)
        return
    name = f"{source}-{language}.{variant}" if language else f"{source}.{variant}"
    rows = [row for row in rows if language in ("", row["lang"])]
    recordings = list(compose(rows, hash_seed(name, variant), joined, 0.03))
    write(work / f"letters/cache/{name}", recordings, encoder)


@app.command()
def train(
    run: str,
    options: Annotated[str, typer.Option(help="LetterOptions as JSON, e.g. '{\"hours\": 50}'.")] = "{}",
    work: Work = WORK,
    threads: int = 1,
) -> None:
    """Train; run it again with the same name to resume."""
    from recipes.letters.train import LetterOptions, LetterTrainer

    torch.set_num_threads(threads)
    LetterTrainer(work, run, LetterOptions(**json.loads(options))).run()


@app.command()
def export(run: str, out: Path, hanzi: bool = False, work: Work = WORK) -> None:
    """Write a run's weights in int8, with its alphabet, options and log."""
    from recipes.letters.export import export as write

    write(work, run, out, hanzi)


@app.command()
def ship(folder: Path, out: Path, model: str = "canvas-base", shared: Shared = SHARED) -> None:
    """Write MODEL as the folder OUT, with the letters of an exported run for Hindi."""
    from diffusion_asr.models.folder import find_model
    from recipes.letters.ship import ship as write

    write(folder, find_model(model), out, shared)


@app.command()
def evaluate(folder: Path, work: Work = WORK, threads: int = 1) -> None:
    """Symbol error rates of an exported run on the cached dev clips, as JSON."""
    from recipes.embedded.data import load
    from recipes.letters.evaluate import error_rates
    from recipes.letters.export import load_canvas
    from recipes.letters.model import PAIR
    from recipes.letters.train import Numbers

    torch.set_num_threads(threads)
    model, known = load_canvas(folder, work / "weights/whisper/model.safetensors")
    clips = [c for c in load([work / "letters/cache/dev.jsonl"], Numbers(known), PAIR) if c.ids]
    typer.echo(json.dumps(error_rates(model, known, clips), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    app()
