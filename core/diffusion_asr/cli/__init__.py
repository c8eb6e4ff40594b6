"""The command line: ``diffusion-asr transcribe``, ``meeting``, ``score``, ``info`` and ``adapters``.

Nothing here imports torch before a command needs it, so that ``--help`` and ``--version`` answer at once.

Exit codes: 0 done, 1 something could not be done (the rest of a batch was), 2 the command line is wrong,
130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import os  # Python has it already

TYPE_CHECKING = False  # typing's own would have to be imported, and Ctrl-C could come meanwhile
if TYPE_CHECKING:
    from typing import Any

    from diffusion_asr.cli.commands import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; the entry point of ``diffusion-asr``.

    Everything is imported here and not above: Ctrl-C must find this function, however early it comes.
    """
    try:
        from diffusion_asr.cli import interrupts

        interrupts.watch()
        from diffusion_asr.cli.commands import run

        run()
    except KeyboardInterrupt:
        os.write(2, b"interrupted\n")
        os._exit(130)  # as interrupts.end_at_once, which may not be there yet


def __getattr__(name: str) -> Any:
    if name == "app":
        from diffusion_asr.cli import commands

        return commands.app
    raise AttributeError(name)
