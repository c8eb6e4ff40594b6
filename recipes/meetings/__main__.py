"""Simulated meetings: make them, and see what becomes of them.

    python -m recipes.meetings simulate FOLDER   sound, words, times, turns (--help for the options)
    python -m recipes.meetings evaluate FOLDERS  cpWER and its kin, DER, right speaker counts as Markdown

Needs the extras "train" and "pyannote", and shared/data. Figures: RESULTS.md.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffusion_asr.cli.report import expected_errors
from recipes.meetings import simulate

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
app.command("simulate")(simulate.main)


class Order(StrEnum):
    """Of the meeting engine."""

    DECODE_FIRST = "decode-first"
    CUT_FIRST = "cut-first"


@app.command()
def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="What simulate has written.")],
    count_given: Annotated[bool, typer.Option(help="Tell how many speak.")] = False,
    order: Annotated[Order | None, typer.Option(help="Order of work; by default the engine's.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Run simulated meetings through the engine and print a Markdown table."""
    with expected_errors():
        from recipes.meetings.evaluate import evaluate as run

        print(run(folders, count_given, order.value if order else None, threads))


if __name__ == "__main__":
    app()
