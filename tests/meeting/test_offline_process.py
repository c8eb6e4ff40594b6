"""The diarizing child: it answers, fails in one line, and never outlives its parent nor leaves a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffusion_asr.meeting import DiarizationError, SpeakerCount
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.offline import OfflineDiarizer

DIARIZER = """
import os, time
from diffusion_asr.meeting import Diarization
from diffusion_asr.meeting.attribution import Turn

class Diarizer:
    def diarize(self, samples, count, stage):
        if "ALIVE" in os.environ:  # a pipe that its reader sees closed when this process is gone
            pipe = os.open(os.environ["ALIVE"], os.O_WRONLY)
            os.write(pipe, b"listening")
            time.sleep(20)
            os.write(pipe, b"outlived")
        print("what a toolkit prints is nobody's turn")
        stage("listening", 1, 2)
        return Diarization((Turn(0.0, float(samples.sum()), f"of {count.exactly}"),))

def meeting_diarizer():
    return Diarizer()
"""
PARENT = """
import numpy as np
from diffusion_asr.meeting import SpeakerCount
from diffusion_asr.meeting.offline import OfflineDiarizer
samples = np.ones(3_000_000, np.float32)
OfflineDiarizer("toy_diarizer", "toy").diarize(samples, SpeakerCount(), lambda *_: None)
"""


@pytest.fixture(autouse=True)
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_diarizer.py").write_text(DIARIZER)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("length", [0, 7, 3_000_001])
def test_the_samples_get_there_and_the_turns_come_back(length: int) -> None:
    stages: list[tuple[str, float, float]] = []
    samples = np.ones(length, np.float32)
    found = OfflineDiarizer("toy_diarizer", "toy").diarize(
        samples, SpeakerCount(2), lambda *stage: stages.append(stage)
    )
    assert found.turns == (Turn(0.0, length, "of 2"),)
    assert stages == [("listening", 1.0, 2.0)]


def test_a_child_that_dies_is_one_error_whatever_was_sent() -> None:
    for length in (16_000, 3_000_000):  # less and more than a pipe holds
        with pytest.raises(DiarizationError, match=r"failed: .*no_such_module"):
            OfflineDiarizer("no_such_module", "none").diarize(
                np.zeros(length, np.float32), SpeakerCount(), lambda *_: None
            )


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_a_killed_parent_leaves_neither_the_child_nor_its_samples(number: str, tmp_path: Path) -> None:
    alive, temporary = tmp_path / "alive", tmp_path / "temporary"
    os.mkfifo(alive)
    temporary.mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "ALIVE": str(alive),
        "TMPDIR": str(temporary),
    }
    with (
        subprocess.Popen(
            [sys.executable, "-c", PARENT], env=environment, stderr=subprocess.DEVNULL
        ) as parent,
        alive.open("rb", buffering=0) as pipe,
    ):
        assert pipe.read(9) == b"listening"
        assert list(temporary.iterdir()) == []
        parent.send_signal(getattr(signal, number))
        assert pipe.read() == b""  # the end: nobody holds the other side any more
        assert parent.wait() != 0
    assert list(temporary.iterdir()) == []
