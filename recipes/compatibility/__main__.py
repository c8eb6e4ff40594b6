"""Which toolkits work on which Python: a fresh environment each, the adapter's own tests in it.

    python -m recipes.compatibility run --extra nemo --python python3.12    one row; minutes, 2 to 8 GB
    python -m recipes.compatibility run --extra all --environment ~/venv    in an environment that exists
    python -m recipes.compatibility table                                   every recorded row, as Markdown

``run`` records its row in ``results/`` and ends with 1 if anything failed. A fresh environment is deleted
after use. SpeechBrain's and NeMo's tests run their scripts from a clone where one is named, see the README.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from recipes.compatibility.environment import EXTRAS, Environment, fresh
from recipes.compatibility.rows import measure, read, record, render

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.command()
def run(
    extra: Annotated[str, typer.Option(help=f"One of {', '.join(EXTRAS)}.")],
    python: Annotated[str, typer.Option(help="Interpreter of the fresh environment.")] = sys.executable,
    environment: Annotated[Path | None, typer.Option(help="Use this one and leave it as it is.")] = None,
    uv: Annotated[str | None, typer.Option(help="The program uv, to install with instead of pip.")] = None,
) -> None:
    """Test one extra; print and record its row."""
    if extra not in EXTRAS:
        raise typer.BadParameter(f"unknown extra {extra!r}: one of {', '.join(EXTRAS)}")
    if environment is not None:
        found = environment.expanduser() / "bin/python"
        if not found.is_file():
            raise typer.BadParameter(f"{environment} is no virtual environment: it has no bin/python")
        row = measure(Environment(found), extra)
    else:
        with fresh(python, extra, uv) as made:
            row = measure(made, extra)
    record(row)
    print(render([row]))
    raise typer.Exit(0 if row.good else 1)


@app.command()
def table() -> None:
    """Print every recorded row."""
    print(render(read()))


if __name__ == "__main__":
    app()
