"""Keep the peak of a long recording at that of its longest window.

Windows differ in length, so each leaves holes of other sizes in glibc's heap, and oneDNN and ideep, through
which torch calls it, each keep a kernel for every shape that they meet (1,024 by default, some 0.3 MB each):
an hour would grow by some 500 MB. A single window leaves holes as well, 100 MB of them, unless large blocks
are kept off the heap.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
from collections.abc import Callable, Iterator

_KERNELS = "32"  # more than one window needs
_CACHES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN's and ideep's
_LARGE = 1 << 20  # bytes; less would map and unmap without end
_MMAP_THRESHOLD = -3  # glibc's name for it in mallopt(3)


def keep_few_kernels() -> None:
    """Bound the caches of compiled kernels; has to come before torch is imported."""
    for name in _CACHES:
        os.environ.setdefault(name, _KERNELS)


def map_large_blocks() -> None:
    """Have glibc map each large block by itself and unmap it when it is freed; holds for the whole process.

    Left alone, glibc puts blocks of up to 32 MB on its heap as soon as one of their size was freed.
    """
    option = _glibc("mallopt")
    if option is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        option(_MMAP_THRESHOLD, _LARGE)


@contextlib.contextmanager
def pause_collection() -> Iterator[None]:
    """Do what only makes objects that stay, as importing torch does, without looking for garbage meanwhile.

    The collector would go through them again and again: a sixth of torch's import.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor are they looked at later
        if collecting:
            gc.enable()


def trim_heap() -> None:
    """Return free heap to the system (some 10 ms); does nothing where libc is not glibc."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


@functools.cache
def _glibc(name: str) -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
    return found
