"""The pyannote adapter's offline diarization, in a process whose memory is free again when it is done.

pyannote.audio and what it imports take half a gigabyte, which would stay while the meeting is decoded. The
child gets the samples through its stdin and writes one JSON object a line: stages, then turns or an error.
Its stdin stays open until its parent is done with it; when it ends, however the parent died, so does the
child. Neither keeps a file that has a name, so nothing is left behind.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread
from typing import IO, Any

import numpy as np

from diffusion_asr.audio.files import Samples
from diffusion_asr.errors import DiffusionASRError, ToolkitMissingError
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import Diarization, DiarizationError, Diarizer, SpeakerCount, Stage
from diffusion_asr.meeting.recording import release_pages
from diffusion_asr.toolkits import DISTRIBUTION, list_adapters

ADAPTER = "pyannote"  # its module has ``meeting_diarizer()``
_PIECE = 1 << 20  # samples, and bytes, that go through the pipe at a time


class OfflineDiarizer:
    """See ``Diarizer``; made by ``make_offline_diarizer``."""

    def __init__(self, module: str, name: str) -> None:
        self.name = name
        self._module = module

    def diarize(self, samples: Samples, count: SpeakerCount, stage: Stage) -> Diarization:
        """See ``diffusion_asr.meeting.Diarizer``.

        Raises:
            DiarizationError: The child failed.
        """
        import torch

        known = json.dumps([count.exactly, count.at_least, count.at_most])
        arguments = (self._module, str(len(samples)), known, str(torch.get_num_threads()))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with (
            tempfile.TemporaryFile(prefix="diffusion-asr-") as complaints,
            subprocess.Popen(
                [sys.executable, "-m", __name__, *arguments],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, env=environment,
            ) as child,
        ):  # fmt: skip
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                _send(child.stdin, samples)
                found = _followed(child.stdout, stage)
            finally:
                child.kill()
            if found is None:
                raise DiarizationError(f"finding out who speaks failed: {_last_line(complaints)}")
            return found


def make_offline_diarizer() -> OfflineDiarizer:
    """The diarization that needs no account and no download.

    Raises:
        ToolkitMissingError: pyannote.audio is not installed; the message says how to.
    """
    found = {adapter.name: adapter for adapter in list_adapters()}.get(ADAPTER)
    if found is None or found.version is None:
        install = found.install_command if found else f"pip install '{DISTRIBUTION}[{ADAPTER}]'"
        raise ToolkitMissingError(
            f"finding out who speaks needs pyannote.audio: {install}; or say who speaks when with --rttm, or "
            "--channels-as-speakers for one channel each"
        )
    return OfflineDiarizer(found.module, f"{found.toolkit} {found.version} offline")


def _send(pipe: IO[bytes], samples: Samples) -> None:
    """Hands over the samples; a child that has died says why on its stderr."""
    with suppress(BrokenPipeError):
        for first in range(0, len(samples), _PIECE):
            left = np.ascontiguousarray(samples[first : first + _PIECE]).data.cast("B")
            while left:  # past the pipe's buffer, which would complain once more when it is closed
                left = left[os.write(pipe.fileno(), left) :]


def _followed(lines: Iterable[bytes], stage: Stage) -> Diarization | None:
    for line in lines:
        told = json.loads(line)
        if "error" in told:
            raise DiarizationError(told["error"])
        if "turns" in told:
            views = (tuple(Turn(*turn) for turn in told[name]) for name in ("turns", "exclusive"))
            return Diarization(*views)
        stage(*told["stage"])
    return None


def _last_line(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "the process died"


# --- what the child does ---------------------------------------------------------------------------------


def _main(module: str, length: str, known: str, threads: str) -> None:
    told = os.fdopen(os.dup(1), "w")  # pyannote prints; what it prints is not for our reader
    os.dup2(2, 1)
    with tempfile.TemporaryFile(prefix="diffusion-asr-") as file:
        samples = _receive(file, int(length))
        Thread(target=_die_with_parent, daemon=True).start()
        # pyannote imports NeMo wherever it is installed, only to know that it could: 200 MB and ten seconds.
        sys.modules["nemo"] = None  # type: ignore[assignment]
        import torch

        torch.set_num_threads(int(threads))
        try:
            found = _diarized(module, samples, SpeakerCount(*json.loads(known)), told)
        except DiffusionASRError as error:
            _tell(told, {"error": str(error)})
            return
    views = {"turns": found.turns, "exclusive": found.exclusive or ()}
    _tell(told, {name: [[t.start, t.end, t.speaker] for t in view] for name, view in views.items()})


def _receive(file: IO[bytes], length: int) -> Samples:
    """The samples from stdin, in a file that is mapped into memory."""
    left = 4 * length
    while left:
        piece = os.read(0, min(left, _PIECE))
        if not piece:
            raise SystemExit("the recording was cut off")  # the parent is gone
        file.write(piece)
        left -= len(piece)
    file.flush()
    # "c": torch wants memory that can be written to; nothing is
    return np.memmap(file, np.float32, "c", shape=(length,)) if length else np.zeros(0, np.float32)


def _die_with_parent() -> None:
    """Waits for the end of stdin, which the parent never writes to again: not for its signals alone."""
    os.read(0, 1)
    os._exit(1)


def _diarized(module: str, samples: Samples, count: SpeakerCount, told: IO[str]) -> Diarization:
    def stage(name: str, done: float, total: float, /) -> None:
        _tell(told, {"stage": [name, float(done), float(total)]})
        release_pages(samples)

    diarizer: Diarizer = importlib.import_module(module).meeting_diarizer()
    return diarizer.diarize(samples, count, stage)


def _tell(told: IO[str], line: dict[str, Any]) -> None:
    print(json.dumps(line), file=told, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
