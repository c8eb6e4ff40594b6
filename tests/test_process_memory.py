"""Memory that a long recording must not keep."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_asr import process_memory

HOLES = """
import sys
from diffusion_asr.process_memory import trim_heap
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
kept, freed = [], []
for _ in range(4000):  # pieces that glibc keeps on its heap, every second one freed below the last
    freed.append(bytearray(60_000))
    kept.append(bytearray(100))
before = resident()
freed.clear()
trim_heap()
print(before - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_freed_memory_goes_back_to_the_system() -> None:
    root = Path(process_memory.__file__).parents[1]
    env = os.environ | {"PYTHONPATH": str(root)}
    found = subprocess.run([sys.executable, "-c", HOLES], env=env, capture_output=True, text=True, check=True)
    assert int(found.stdout) > 150e6  # of 240 MB


MAPPED = """
import sys
from diffusion_asr.process_memory import map_large_blocks
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
if sys.argv[1] == "mapped":
    map_large_blocks()
bytearray(16 << 20)  # freed: from now on glibc would have such blocks on its heap
freed, kept = [], []
for _ in range(50):
    freed.append(b"1" * (4 << 20))
    kept.append(bytearray(100_000))
before = resident()
freed.clear()
print(before - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_large_blocks_go_back_at_once() -> None:
    env = os.environ | {"PYTHONPATH": str(Path(process_memory.__file__).parents[1])}
    freed = []
    for how in ("mapped", "heap"):
        code = [sys.executable, "-c", MAPPED, how]
        found = subprocess.run(code, env=env, capture_output=True, text=True, check=True)
        freed.append(int(found.stdout))
    assert freed[0] > 180e6 > freed[1]  # of 210 MB


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", none)
    process_memory._glibc.cache_clear()
    process_memory.trim_heap()
    process_memory.map_large_blocks()
    monkeypatch.undo()
    process_memory._glibc.cache_clear()


def test_garbage_is_looked_for_again_after_a_start() -> None:
    def fail() -> None:
        with process_memory.pause_collection():
            assert not gc.isenabled()
            raise ValueError("cut short")

    try:
        with pytest.raises(ValueError, match="cut short"):
            fail()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("name", ["ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"])
def test_the_users_own_limit_of_kernels_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    process_memory.keep_few_kernels()
    assert os.environ[name] == "7"
    monkeypatch.delenv(name)
    process_memory.keep_few_kernels()
    assert int(os.environ[name]) < 1024
