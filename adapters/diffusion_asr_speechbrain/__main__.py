"""``python -m diffusion_asr_speechbrain export results/save tuned-folder``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from diffusion_asr.errors import DiffusionASRError
from diffusion_asr_speechbrain.checkpoints import export


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m diffusion_asr_speechbrain", description="Models from SpeechBrain's recipes."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("export", help="write the model folder of a checkpoint, for Recognizer")
    command.add_argument("saved", type=Path, help="the recipe's save_folder, or one checkpoint")
    command.add_argument("folder", type=Path)
    command.add_argument("--checkpoint", default="canvas-base", help="what training started from")
    command.add_argument("--without-refiner", action="store_true", help="leave the text to the denoiser")
    return parser.parse_args()


def main() -> int:
    """Run the command; returns the exit code."""
    given = _arguments()
    try:
        path = export(given.saved, given.folder, given.checkpoint, refiner=not given.without_refiner)
    except (DiffusionASRError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{given.folder}: the weights of {path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
