"""The pyannote adapter's offline diarization, in a process whose memory is free again when it is done.

pyannote.audio and what it imports take half a gigabyte, which would stay while the meeting is decoded. The
child reads samples from a raw file and writes one JSON object a line: stages, then turns or an error.
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
from pathlib import Path
from typing import IO, Any

import numpy as np

from diffusion_asr.audio.files import Samples
from diffusion_asr.errors import DiffusionASRError, ToolkitMissingError
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import Diarization, DiarizationError, Diarizer, SpeakerCount, Stage
from diffusion_asr.meeting.recording import release_pages
from diffusion_asr.toolkits import DISTRIBUTION, list_adapters

ADAPTER = "pyannote"  # its module has ``meeting_diarizer()``
_PIECE = 1 << 20  # samples written at a time


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

        with tempfile.TemporaryDirectory(prefix="diffusion-asr-") as folder:
            raw, complaints = Path(folder) / "samples.f32", Path(folder) / "stderr"
            with raw.open("wb") as file:
                for first in range(0, len(samples), _PIECE):
                    file.write(np.ascontiguousarray(samples[first : first + _PIECE]).data)
            known = json.dumps([count.exactly, count.at_least, count.at_most])
            command = [
                sys.executable,
                "-m",
                __name__,
                self._module,
                str(raw),
                known,
                str(torch.get_num_threads()),
            ]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
            with (
                complaints.open("wb") as errors,
                subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as child,
            ):
                assert child.stdout is not None
                try:
                    found = _followed(child.stdout, stage)
                finally:
                    child.kill()
            if found is None:
                last = complaints.read_text(errors="replace").strip().splitlines()[-1:]
                raise DiarizationError(
                    f"finding out who speaks failed: {' '.join(last) or 'the process died'}"
                )
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


def _main(module: str, raw: str, known: str, threads: str) -> None:
    """What the child does."""
    told = os.fdopen(os.dup(1), "w")  # pyannote prints; what it prints is not for our reader
    os.dup2(2, 1)
    # pyannote imports NeMo wherever it is installed, only to know that it could: 200 MB and ten seconds.
    sys.modules["nemo"] = None  # type: ignore[assignment]
    import torch

    torch.set_num_threads(int(threads))
    try:
        found = _diarized(module, Path(raw), SpeakerCount(*json.loads(known)), told)
    except DiffusionASRError as error:
        _tell(told, {"error": str(error)})
        return
    views = {"turns": found.turns, "exclusive": found.exclusive or ()}
    _tell(told, {name: [[t.start, t.end, t.speaker] for t in view] for name, view in views.items()})


def _diarized(module: str, raw: Path, count: SpeakerCount, told: IO[str]) -> Diarization:
    samples = np.memmap(raw, np.float32, "c")  # torch wants memory that can be written to; nothing is
    with suppress(OSError):  # where a mapped file can go, nothing is left behind if the parent is killed
        raw.unlink()

    def stage(name: str, done: float, total: float, /) -> None:
        _tell(told, {"stage": [name, float(done), float(total)]})
        release_pages(samples)

    diarizer: Diarizer = importlib.import_module(module).meeting_diarizer()
    return diarizer.diarize(samples, count, stage)


def _tell(told: IO[str], line: dict[str, Any]) -> None:
    print(json.dumps(line), file=told, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
