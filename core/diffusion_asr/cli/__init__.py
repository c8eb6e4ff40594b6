"""The command line: ``diffusion-asr transcribe``, ``meeting``, ``score``, ``info`` and ``adapters``.

Nothing here imports torch before a command needs it, so that ``--help`` and ``--version`` answer at once.

Exit codes: 0 done, 1 something could not be done (the rest of a batch was), 2 the command line is wrong,
130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from diffusion_asr.cli.commands import app

__all__ = ["app", "main"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main() -> None:
    """Run the command line; the entry point of ``diffusion-asr``.

    The commands are imported here and not above: Ctrl-C must find this function, however early it comes.
    """
    interrupt = _Interrupt()
    try:
        interrupt.watch()
        from diffusion_asr.cli.commands import run

        run()
    except KeyboardInterrupt:
        _end_quietly()
    except Exception:
        if interrupt.came:  # libraries make other errors of an interrupted import
            _end_quietly()
        raise


class _Interrupt:
    """Remembers that Ctrl-C was pressed."""

    came = False

    def watch(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else somebody ignores it: nohup
            signal.signal(signal.SIGINT, self._remember)

    def _remember(self, number: int, frame: Any) -> None:
        self.came = True
        signal.default_int_handler(number, frame)


def _end_quietly() -> NoReturn:
    """One line in place of a traceback, and no clean-up that a half-imported library could trip over."""
    os.write(2, b"interrupted\n")
    os._exit(_INTERRUPTED)


def __getattr__(name: str) -> Any:
    if name == "app":
        from diffusion_asr.cli import commands

        return commands.app
    raise AttributeError(name)
