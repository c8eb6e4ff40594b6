"""DiffusionGemma recipes, from a small model of one's own to the published system.

    python -m recipes.diffusion_gemma tiny      train diffusion-gemma-tiny on the caches of recipes.embedded

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


if __name__ == "__main__":
    app()
