"""Keep the peak of a long recording at that of its longest window.

Windows differ in length, so each leaves holes of other sizes in glibc's heap, and oneDNN compiles and keeps
kernels for every shape that it meets (1,024 by default): an hour would grow by some 400 MB.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable

_KERNELS = "32"  # more than one window needs


def keep_few_kernels() -> None:
    """Bound oneDNN's cache of compiled kernels; has to come before torch is imported."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", _KERNELS)


def give_back() -> None:
    """Return free heap to the system (some 10 ms); does nothing where libc is not glibc."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
