"""DiffusionGemma recipes, from a small model of one's own to the published system.

    python -m recipes.diffusion_gemma finetune  adapt a backbone to speech: projector and LoRA
    python -m recipes.diffusion_gemma tiny      train diffusion-gemma-tiny on the caches of recipes.embedded
    python -m recipes.diffusion_gemma export    a signed model folder of a tiny run
    python -m recipes.diffusion_gemma ablation  with and without CTC on the projector, in small
    python -m recipes.diffusion_gemma cost      parameters, time and memory beside canvas-base

Every training can be cut off and run again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
Work = Annotated[Path, typer.Option(help="Folder of recipes.embedded, with its caches.")]
WORK = Path.home() / ".cache/diffusion-asr-recipe"


@app.callback()
def _common() -> None:
    pass


@app.command()
def tiny(
    folder: Annotated[Path, typer.Argument(help="Where the run's log and checkpoints go.")],
    options: Annotated[str, typer.Option(help="TinyOptions as JSON.")] = "{}",
    work: Work = WORK,
    threads: int = 2,
) -> None:
    """Train diffusion-gemma-tiny; run it again with the same folder to resume."""
    from recipes.diffusion_gemma.training import TinyOptions, TinyTrainer

    torch.set_num_threads(threads)
    TinyTrainer(work, folder, TinyOptions(**json.loads(options))).run()


@app.command()
def finetune(
    folder: Annotated[Path, typer.Argument(help="Where checkpoints, log and the adapter go.")],
    manifests: Annotated[list[Path], typer.Argument(help="NeMo-style manifests.")],
    backbone: Annotated[str, typer.Option(help="A folder, or a hub's name with @revision.")] = "",
    encoder: Annotated[str, typer.Option(help="A Whisper: a folder, or a hub's name.")] = "",
    options: Annotated[str, typer.Option(help="FinetuneOptions as JSON.")] = "{}",
    settings: Annotated[str, typer.Option(help="Settings (prompt, special ids) as JSON.")] = "{}",
    offline: bool = False,
) -> None:
    """Adapt a backbone to speech; start it with `accelerate launch -m` on many devices."""
    from diffusion_asr.diffusion_gemma.hub import Hub
    from diffusion_asr.diffusion_gemma.loading import LoadOptions
    from recipes.diffusion_gemma.finetune import FinetuneOptions, Finetuner

    given = FinetuneOptions(**json.loads(options))
    stated = {"lora_alpha": given.alpha, **json.loads(settings)}
    places = {"backbone": backbone, "encoder": encoder}
    stated |= {name: place for name, place in places.items() if place}
    Finetuner(folder, manifests, LoadOptions(hub=Hub(offline), settings=stated), given).run()


@app.command()
def ablation(
    options: Annotated[str, typer.Option(help="AblationOptions as JSON.")] = "{}", threads: int = 2
) -> None:
    """Train a small frozen backbone with and without CTC on simulated speech; print what each hears."""
    from recipes.diffusion_gemma.ablation import AblationOptions, ablate

    torch.set_num_threads(threads)
    typer.echo(json.dumps(ablate(AblationOptions(**json.loads(options))), indent=1))


@app.command()
def cost(seconds: float = 10.0, rounds: int = 5) -> None:
    """What a clip and a step cost canvas-base's denoiser and diffusion-gemma-tiny, as a table."""
    from recipes.diffusion_gemma.cost import table

    torch.set_num_threads(1)
    typer.echo(table(seconds, rounds))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a tiny run.")],
    out: Annotated[Path, typer.Argument(help="The model folder to write.")],
    version: str = "1",
) -> None:
    """Write the running average of a tiny run as a signed model folder for --model."""
    from recipes.diffusion_gemma.export import export as write

    write(run, out, version)


if __name__ == "__main__":
    app()
