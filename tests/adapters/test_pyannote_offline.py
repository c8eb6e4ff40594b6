"""What the pyannote adapter ships: its weights; no network, no pickle, no telemetry."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import soundfile as sf
import torch

pytest.importorskip(
    "pyannote.audio", reason="pyannote.audio is not installed: pip install 'diffusion-asr[pyannote]'"
)

import diffusion_asr_pyannote as adapter
from diffusion_asr.errors import ModelError
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.toolkits import GROUP
from diffusion_asr_pyannote import models

DATA = Path(__file__).parents[1] / "data"
ENGLISH = DATA / "en-arctic_a0095_1592746305.flac"
GERMAN = DATA / "de-de_rhasspy-0208.flac"
PACKAGE = Path(adapter.__file__).parent


# --- the shipped weights


def test_shipped_weights_are_small_safetensors_with_the_recorded_sums_and_licences() -> None:
    lines = (PACKAGE / "offline/SHA256SUMS").read_text().splitlines()
    sums = {name: sha256 for sha256, name in map(str.split, lines)}
    files = {f.name: f for f in (PACKAGE / "offline").glob("*.safetensors")}
    assert files.keys() == sums.keys()
    assert all(hashlib.sha256(f.read_bytes()).hexdigest() == sums[name] for name, f in files.items())
    assert sum(f.stat().st_size for f in files.values()) < 8e6
    for licence in ("LICENSE.pyannote", "LICENSE.resemblyzer", "LICENSE.whisperx", "NOTICE.md"):
        assert (PACKAGE / "offline" / licence).stat().st_size > 500


def test_damaged_weights_are_told(tmp_path: Path) -> None:
    damaged = tmp_path / "segmentation.safetensors"
    damaged.write_bytes(models.SEGMENTATION.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="reinstall"):
        models.segmentation_model(damaged)
    with pytest.raises(ModelError, match="reinstall"):
        models.segmentation_model(models.EMBEDDING)


def test_a_voice_is_nearer_to_itself_than_to_another() -> None:
    model = models.embedding_model()
    one, other = (torch.from_numpy(sf.read(f, dtype="float32")[0]) for f in (ENGLISH, GERMAN))
    with torch.inference_mode():
        halves = [model(half[None, None])[0] for half in (*one.tensor_split(2), other)]
        short = model(one[None, None], torch.zeros(1, 100))
    assert halves[0] @ halves[1] > halves[0] @ halves[2] + 0.1
    assert bool(short.isnan().all())


# --- offline: no network, no pickle, no telemetry; and a missing toolkit

GUARDED = """
import os, pickle, socket, sys
def forbidden(*a, **k): raise SystemExit("FORBIDDEN: network or pickle")
import diffusion_asr_pyannote as adapter
from diffusion_asr import audio
assert os.environ["PYANNOTE_METRICS_ENABLED"] == "0"
from pyannote.audio import Pipeline
from pyannote.audio.telemetry.metrics import is_metrics_enabled
assert not is_metrics_enabled()
import torch
torch.load = pickle.load = pickle.loads = pickle.Unpickler = forbidden
socket.socket.connect = socket.getaddrinfo = socket.create_connection = forbidden
text = Pipeline.from_pretrained(adapter.MEETING)(sys.argv[1], language="en", steps=2).text
print("TEXT", text)
"""


def run(code: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": paths, **variables}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_a_run_uses_no_network_no_pickle_and_no_telemetry() -> None:
    done = run(GUARDED, ENGLISH, PYANNOTE_METRICS_ENABLED="1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"TEXT \w+", done.stdout)


def test_without_the_toolkit_the_error_names_the_install_command() -> None:
    code = "import sys; sys.modules['pyannote.audio'] = None; import diffusion_asr_pyannote"
    done = run(code)
    assert done.returncode != 0
    assert "pip install 'diffusion-asr[pyannote]'" in done.stderr


def test_the_entry_point_names_this_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    points = project.get("entry-points", {}).get(GROUP, {})
    assert importlib.import_module(points["pyannote"]) is adapter
    assert pickle.loads(pickle.dumps(Turn(0, 1, "A"))) == Turn(0, 1, "A")
