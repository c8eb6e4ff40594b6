"""All commands in one program."""

from __future__ import annotations

from typing import Annotated

import typer

import diffusion_asr
from diffusion_asr.cli.adapters import adapters
from diffusion_asr.cli.info import info
from diffusion_asr.cli.meeting import meeting
from diffusion_asr.cli.score import score
from diffusion_asr.cli.transcribe import transcribe
from diffusion_asr.process_memory import keep_few_kernels, map_large_blocks

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(no_args_is_help=True)(transcribe)
app.command(no_args_is_help=True)(meeting)
app.command(no_args_is_help=True)(score)
app.command()(info)
app.command()(adapters)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"diffusion-asr {diffusion_asr.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Speech to text with a discrete-diffusion decoder, offline on a laptop CPU.

    [bold]Examples[/bold]
    diffusion-asr transcribe talk.flac
    diffusion-asr transcribe *.wav --language de --format srt --output-dir out
    diffusion-asr meeting talk.wav --num-speakers 3 --report talk.html
    diffusion-asr score --reference talk.stm --hypothesis out/talk.json
    diffusion-asr info
    diffusion-asr adapters
    """


def run() -> None:
    """Do what the command line says."""
    keep_few_kernels()
    map_large_blocks()
    app(prog_name="diffusion-asr")
