"""What Ctrl-C does: one line, never a traceback, and nothing that is done gets lost.

While libraries are imported there is nothing to lose, and they would make other errors of an interruption or
swallow it: the program ends at once. Later it is Python's ``KeyboardInterrupt``.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130  # 128 + SIGINT, as shells count
cleanups: list[Callable[[], object]] = []
"""Called before the program ends at once."""
_state = {"working": False, "came": False}


def watch() -> None:
    """Hear Ctrl-C from now on; whoever ignores it (``nohup``) goes on doing so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _hear)


def begin_work() -> None:
    """From now on there is something to lose."""
    _state["working"] = True


def check() -> None:
    """Raise ``KeyboardInterrupt`` if one was swallowed by a library."""
    if _state["came"]:
        _state["came"] = False
        raise KeyboardInterrupt


def end_at_once() -> None:
    """One line in place of a traceback, and no clean-up that a half-imported library could trip over."""
    for clean in cleanups:
        clean()
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def _hear(number: int, frame: object) -> None:
    if not _state["working"]:
        end_at_once()
    _state["came"] = True
    raise KeyboardInterrupt
