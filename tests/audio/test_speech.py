from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import diffusion_asr
from diffusion_asr.audio import files as audio
from diffusion_asr.audio import quiet_runtime, speech
from diffusion_asr.audio.files import Samples
from diffusion_asr.audio.quiet_runtime import ort
from diffusion_asr.audio.spans import find_speech
from diffusion_asr.audio.speech import CHUNK, NETWORK, SpeechDetector
from diffusion_asr.errors import ModelError
from tests.support.audio_files import cut_up, noisy_sweep, real_speech

RATE = 16_000
CORE = Path(diffusion_asr.__file__).parents[1]
CLIPS = sorted((CORE.parent / "tests/data").glob("*.flac"))
Probabilities = NDArray[np.float32]


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector()


@pytest.fixture(scope="module")
def spoken() -> Samples:
    samples = real_speech(90)
    if not len(samples):
        pytest.skip("no speech on this machine")
    return samples


def joined(detector: SpeechDetector, blocks: Iterable[Samples]) -> Probabilities:
    return np.concatenate([np.zeros(0, np.float32), *detector.probabilities(blocks)])


# --- against the network in torch, with the weights of the package -----------------------------------------


class InTorch(nn.Module):
    """The 16 kHz network as Silero states it; submodules are named as in the weight file."""

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, samples: Tensor) -> Tensor:
        """Probabilities (N,) of a whole recording (samples,)."""
        filled = F.pad(samples, (64, -len(samples) % CHUNK))
        chunks = F.pad(filled.unfold(0, 576, CHUNK), (0, 64), "reflect")
        real, imaginary = self.stft_conv(chunks[:, None]).chunk(2, dim=1)
        x = torch.sqrt(real**2 + imaginary**2)
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            x = F.relu(layer(x))
        state, hidden = (torch.zeros(1, 128), torch.zeros(1, 128)), []
        for step in x[:, :, 0]:
            state = self.lstm_cell(step[None], state)
            hidden.append(state[0])
        found: Tensor = torch.sigmoid(self.final_conv(F.relu(torch.cat(hidden))[:, :, None])).flatten()
        return found


def the_package_s(name: str) -> Path:
    found = find_spec("silero_vad")  # without importing it: that sets torch to one thread
    if found is None or not found.submodule_search_locations:
        pytest.skip("silero-vad is not installed")
    return Path(found.submodule_search_locations[0]) / "data" / name


@pytest.fixture(scope="module")
def in_torch() -> InTorch:
    network = InTorch().eval().requires_grad_(False)
    network.load_state_dict(load_file(the_package_s("silero_vad_16k.safetensors")))
    return network


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: str(clip.stem))
def test_probabilities_are_those_of_the_package_s_weights(
    detector: SpeechDetector, in_torch: InTorch, clip: Path
) -> None:
    samples = audio.read_audio(clip)
    expected = in_torch(torch.from_numpy(samples)).numpy()
    assert expected.max() > 0.99
    for size in (100, 511, 512, 513, 7_919, 10_000_000):
        found = joined(detector, cut_up(samples, size))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
        assert find_speech(found, length=len(samples)) == find_speech(expected, length=len(samples))


def test_more_than_a_batch_of_chunks(detector: SpeechDetector, in_torch: InTorch) -> None:
    samples = np.tile(noisy_sweep(), 8)
    assert len(samples) > speech._BATCH * CHUNK
    expected = in_torch(torch.from_numpy(samples)).numpy()
    np.testing.assert_allclose(joined(detector, [samples]), expected, rtol=0, atol=1e-5)


def test_the_recipe_writes_the_file_that_is_shipped() -> None:
    onnx = pytest.importorskip("onnx")
    from recipes.speech_detection.graph import build

    weights = load_numpy(the_package_s("silero_vad_16k.safetensors"))
    assert build(weights) == onnx.load(NETWORK)


def test_the_recipe_refuses_another_network() -> None:
    pytest.importorskip("onnx")
    from recipes.speech_detection.graph import build

    with pytest.raises(ValueError, match="not the tensors"):
        build({"conv1.weight": np.zeros((128, 129, 3), np.float32)})


# --- against what Silero released as JIT and ONNX, which has other weights ----------------------------------


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> SpeechDetector:
    """Our graph with the weights of the JIT and ONNX files, which the safetensors file does not hold."""
    pytest.importorskip("onnx")
    from recipes.speech_detection.graph import build

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is going away
        theirs = torch.jit.load(the_package_s("silero_vad.jit")).state_dict()  # type: ignore[no-untyped-call]
    names = {"stft_conv.weight": "stft.forward_basis_buffer"}
    names |= {f"final_conv.{part}": f"decoder.decoder.2.{part}" for part in ("weight", "bias")}
    names |= {
        f"conv{k + 1}.{part}": f"encoder.{k}.reparam_conv.{part}"
        for k in range(4)
        for part in ("weight", "bias")
    }
    names |= {f"lstm_cell.{a}_{b}": f"decoder.rnn.{a}_{b}" for a in ("weight", "bias") for b in ("ih", "hh")}
    file = tmp_path_factory.mktemp("released") / "released.onnx"
    tensors = {ours: theirs[f"_model.{name}"].numpy() for ours, name in names.items()}
    file.write_bytes(build(tensors).SerializeToString())
    return SpeechDetector(file)


def by_their_graph(samples: Samples) -> Probabilities:
    session = ort.InferenceSession(the_package_s("silero_vad.onnx"), speech._one_thread())
    state, context, found = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32), []
    for chunk in np.pad(samples, (0, -len(samples) % CHUNK)).reshape(-1, 1, CHUNK):
        seen = np.concatenate([context, chunk], axis=1)
        out, state = session.run(None, {"input": seen, "state": state, "sr": np.array(RATE)})
        context = seen[:, -64:]
        found.append(out[0, 0])
    return np.array(found)


def test_network_is_silero_s_on_a_sweep(released: SpeechDetector) -> None:
    samples = noisy_sweep()
    np.testing.assert_allclose(joined(released, [samples]), by_their_graph(samples), atol=1e-4)


def test_network_is_silero_s_on_speech(released: SpeechDetector, spoken: Samples) -> None:
    found = joined(released, cut_up(spoken, 480_000))
    assert found.max() > 0.99
    np.testing.assert_allclose(found, by_their_graph(spoken), atol=1e-4)


def test_bundled_weights_agree_with_the_released_about_speech(
    detector: SpeechDetector, released: SpeechDetector, spoken: Samples
) -> None:
    ours, theirs = joined(detector, [spoken]), joined(released, [spoken])
    assert ((ours > 0.5) == (theirs > 0.5)).mean() > 0.95


# --- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, 511, 512, 513, 16_000, 10_000_000])
def test_blocks_do_not_matter(detector: SpeechDetector, size: int) -> None:
    samples = noisy_sweep()[: 20_000 if size == 1 else None]
    whole = joined(detector, [samples])
    assert len(whole) == -(-len(samples) // CHUNK)
    np.testing.assert_allclose(joined(detector, cut_up(samples, size)), whole, atol=1e-5)


def test_nothing_in_nothing_out(detector: SpeechDetector) -> None:
    assert joined(detector, []).shape == (0,)
    assert joined(detector, [np.zeros(0, np.float32)]).shape == (0,)
    assert joined(detector, [np.zeros(1, np.float32)]).shape == (1,)


def test_recordings_may_take_turns(detector: SpeechDetector) -> None:
    samples = [audio.read_audio(clip)[: 2 * RATE] for clip in CLIPS[:2]]
    streams = [detector.probabilities(cut_up(each, 4_000)) for each in samples]
    pairs = list(zip(*streams, strict=True))
    for each, found in zip(samples, zip(*pairs, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(found), joined(detector, cut_up(each, 4_000)))


# --- threads and the process --------------------------------------------------------------------------------


def test_threads_share_a_detector(detector: SpeechDetector) -> None:
    recordings = [audio.read_audio(clip) for clip in CLIPS] * 2
    alone = [joined(detector, cut_up(samples, 5_000)) for samples in recordings]
    before, together = torch.get_num_threads(), threading.Barrier(len(recordings))

    def run(samples: Samples) -> list[Probabilities]:
        together.wait(timeout=60)
        return [joined(detector, cut_up(samples, 5_000)) for _ in range(5)]

    with ThreadPoolExecutor(len(recordings)) as pool:
        found = list(pool.map(run, recordings))
    for expected, times in zip(alone, found, strict=True):
        for each in times:
            np.testing.assert_array_equal(each, expected)
    assert torch.get_num_threads() == before


UNTOUCHED = """
import os, signal, sys, threading, time
import numpy as np

def process():
    return {
        "environment": dict(os.environ),
        "cores": os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
        "denormals": float(np.float32(1e-30) * np.float32(1e-10)),  # 0 where they are flushed
        "interrupt": signal.getsignal(signal.SIGINT),
        "folder": os.getcwd(),
        "path": sys.path[:],
    }

def threads():
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 1

before, count = process(), threads()
from diffusion_asr.audio.speech import SpeechDetector
detector = SpeechDetector()
def run():
    sum(len(p) for p in detector.probabilities([np.zeros(50_000, np.float32)] * 3))
pool = [threading.Thread(target=run) for _ in range(8)]
for each in pool: each.start()
for each in pool: each.join()
after, patience = process(), time.monotonic() + 10
while threads() > count and time.monotonic() < patience:  # joined ones take a moment to be gone
    time.sleep(0.01)
changed = [name for name in before if before[name] != after[name]]
imported = [name for name in ("torch", "silero_vad", "torchaudio") if name in sys.modules]
print(changed, threads() - count, imported)
"""


def test_nothing_of_the_process_is_changed(tmp_path: Path) -> None:
    """Neither its state nor its threads, and no file is left: ONNX Runtime's telemetry would leave some."""
    env = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY")}
    env |= {"PYTHONPATH": str(CORE), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", UNTOUCHED], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert done.stdout.strip() == "[] 0 []", done.stderr
    assert list(tmp_path.rglob("*")) == []


THREADS_OF_TORCH = """
import torch, threading
import numpy as np
from diffusion_asr.audio.speech import SpeechDetector
torch.set_num_threads(3)
detector, seen = SpeechDetector(), set()
def blocks():
    for _ in range(20):
        seen.add(torch.get_num_threads())
        yield np.zeros(20_000, np.float32)
def run():
    sum(len(p) for p in detector.probabilities(blocks()))
pool = [threading.Thread(target=run) for _ in range(8)]
for each in pool: each.start()
while any(each.is_alive() for each in pool): seen.add(torch.get_num_threads())
print(seen, torch.get_num_threads())
"""


def test_torch_keeps_its_threads_while_others_detect() -> None:
    env = os.environ | {"PYTHONPATH": str(CORE)}
    done = subprocess.run([sys.executable, "-c", THREADS_OF_TORCH], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "{3} 3", done.stderr


@pytest.mark.parametrize("choice", ["0", "1"])
def test_the_user_s_own_choice_of_telemetry_stays(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", choice)
    assert quiet_runtime._imported() is ort
    assert os.environ["ORT_DISABLE_TELEMETRY"] == choice


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty", "absent"])
def test_a_damaged_network(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(NETWORK.read_bytes())
    data[len(data) // 2] ^= damage == "a bit"
    copy = tmp_path / NETWORK.name
    if damage != "absent":
        copy.write_bytes(data[: {"cut": 1000, "empty": 0}.get(damage)])
    monkeypatch.setattr(speech, "NETWORK", copy)
    with pytest.raises(ModelError, match=rf"{copy.name}: not the network .* Reinstall the package"):
        SpeechDetector()


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("text")
    for name in ("text.onnx", "absent.onnx"):
        with pytest.raises(ModelError, match=f"{name}: .* python -m recipes.speech_detection"):
            SpeechDetector(tmp_path / name)


def test_a_network_with_other_inputs() -> None:
    with pytest.raises(ModelError, match="inputs and outputs are"):
        SpeechDetector(the_package_s("silero_vad.onnx"))
