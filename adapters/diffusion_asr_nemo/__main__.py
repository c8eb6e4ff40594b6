"""``python -m diffusion_asr_nemo export out.nemo``; ``… unpack in.nemo folder``; ``… run script.py …``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from diffusion_asr.errors import DiffusionASRError
from diffusion_asr_nemo import DiffusionASRModel
from diffusion_asr_nemo.scripts import run_script


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m diffusion_asr_nemo", description="Models for NeMo.")
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write a .nemo file")
    export.add_argument("out", type=Path)
    export.add_argument("--checkpoint", default="canvas-base", help="embedded model or model folder")
    export.add_argument("--language", help="default language; detected if not given")
    export.add_argument("--steps", type=int, help="passes at most; until the text has settled if not given")
    unpack = commands.add_parser("unpack", help="write the model folder of a .nemo file, for Recognizer")
    unpack.add_argument("nemo", type=Path)
    unpack.add_argument("folder", type=Path)
    unpack.add_argument("--without-refiner", action="store_true", help="leave the text to the denoiser")
    run = commands.add_parser("run", help="run a script of NeMo's that loads models as ASRModel")
    run.add_argument("script", type=Path, help="such as speech_to_text_finetune.py")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own")
    return parser.parse_args()


def main() -> int:
    """Run one command; returns the exit code."""
    given = _arguments()
    try:
        if given.command == "export":
            model = DiffusionASRModel.from_checkpoint(
                given.checkpoint, language=given.language, steps=given.steps
            )
            model.save_to(str(given.out))
        elif given.command == "run":
            run_script(given.script, given.arguments)
        else:
            DiffusionASRModel.restore_from(str(given.nemo)).save_folder(
                given.folder, refiner=not given.without_refiner
            )
    except (DiffusionASRError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
