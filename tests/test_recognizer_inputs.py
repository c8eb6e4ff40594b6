"""A recogniser's surroundings: every kind of input, threads, forks, workers, and the rest of a recording."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.acoustics.language import LanguagePosterior, LanguagePrior
from diffusion_asr.audio import files as audio
from diffusion_asr.audio.files import convert_to_mono
from diffusion_asr.audio.speech import SpeechDetector
from diffusion_asr.errors import AudioError, ModelError
from diffusion_asr.models.tuned import make_trainable
from diffusion_asr.recognizer import Recognizer, Source
from tests.support import tiny
from tests.support.audio_files import write
from tests.support.tiny import ROOT, eager, noise

ONCE: dict[str, Any] = {"language": "en", "start": "noise", "steps": 1}  # whose random weights say something


@pytest.fixture(scope="module")
def asr(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """Takes everything for speech."""
    return eager(tiny.parts(tmp_path_factory.mktemp("tiny")))


# --- what sound can be, and where it comes from -------------------------------------------------------------


def test_bytes_and_open_files_and_number_types(asr: Recognizer, tmp_path: Path) -> None:
    whole = (noise(4.0) * 2**15).astype(np.int16)
    path = write(tmp_path / "x.wav", (whole / 2**15).astype(np.float32)[:, None], 16_000)
    expected = asr.transcribe(path, **ONCE)
    assert expected.words
    data = path.read_bytes()
    for source in (data, bytearray(data), io.BytesIO(data)):
        assert asr.transcribe(source, **ONCE) == replace(expected, source=None)
    with path.open("rb") as file:
        assert asr.transcribe(file, **ONCE) == expected
    for array in (whole, whole / 2**15, torch.from_numpy(whole), whole.astype(np.int32) * 2**16):
        assert asr.transcribe(array, **ONCE) == replace(expected, source=None)
    for wave in (torch.from_numpy(whole)[None], torch.from_numpy(whole / 2**15)[None]):
        torch.testing.assert_close(
            asr.encode(wave).states, asr.encode(torch.from_numpy(whole / 2**15).float()[None]).states
        )


def test_a_list_of_clips_is_a_list_of_clips(asr: Recognizer, tmp_path: Path) -> None:
    one, other = noise(4.0, 1), noise(4.0, 2)
    path = write(tmp_path / "x.wav", other[:, None], 16_000, "WAV/FLOAT")
    alone = [asr.transcribe(clip, **ONCE) for clip in (one, path)]
    both: list[Source] = [one, path]
    for clips_given in (both, tuple(both)):
        assert asr.transcribe(clips_given, **ONCE) == alone
    assert asr.transcribe([one, other], **ONCE) == [alone[0], replace(alone[1], source=None)]
    assert asr.transcribe(cast("Source", [0.0] * 16_000)).duration == 1.0
    with pytest.raises(AudioError, match="a list of clips: give one clip"):
        convert_to_mono([one, other])


@pytest.mark.parametrize("rate", [None, "16000", True, 0, float("nan")])
def test_impossible_rates_are_refused(asr: Recognizer, rate: Any) -> None:
    with pytest.raises(AudioError, match="sample rate"):
        asr.transcribe(noise(1.0), sample_rate=rate)
    with pytest.raises(AudioError, match="sample rate"):
        asr.transcribe(np.zeros(0, np.float32), sample_rate=rate)


def test_much_that_gave_no_words_is_told(asr: Recognizer) -> None:
    """Loud noise that is not taken for speech; silence needs no note."""
    heard = Recognizer(asr.parts, detector=SpeechBefore(4.0))
    with pytest.warns(audio.AudioWarning, match=r"recording: \d s of 1\d s that are not silent"):
        heard.transcribe(noise(12.0), language="en", start="noise", steps=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", audio.AudioWarning)
        heard.transcribe(np.pad(noise(4.0), (0, 128_000)), language="en", start="noise", steps=1)
        heard.transcribe(np.zeros(160_000, np.float32), language="en")


class SpeechBefore:
    """A detector for which the first seconds are speech, and nothing else."""

    def __init__(self, seconds: float) -> None:
        self._last = round(seconds * 16_000 / 512)

    def probabilities(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        told = 0
        for found in tiny.AlwaysSpeech().probabilities(blocks):
            chunks = told + np.arange(len(found))
            told += len(found)
            yield np.where(chunks < self._last, 1.0, 0.0).astype(np.float32)


def test_a_second_takes_its_language_from_the_rest() -> None:
    prior = LanguagePrior(["en", "de", "zh"])
    sure, unsure = {"en": 0.98, "de": 0.01, "zh": 0.01}, {"en": 0.2, "de": 0.1, "zh": 0.7}
    prior.add(unsure, 1.0)
    assert prior.choose(unsure, 1.0) == "zh"  # nothing else is known
    prior.add(sure, 20.0)
    assert prior.choose(unsure, 1.0) == "en"
    other = {"en": 1e-4, "de": 1e-4, "zh": 0.9998}
    prior.add(other, 6.0)
    assert prior.choose(other, 6.0) == "zh"  # six seconds of another language are one


class Told(torch.nn.Module):
    """A language posterior that was told what to say, clip after clip."""

    languages = ("en", "de", "zh")

    def __init__(self, *rows: tuple[float, ...]) -> None:
        super().__init__()
        self._rows = list(rows)

    def forward(self, memory: AcousticMemory) -> torch.Tensor:
        return torch.tensor([self._rows.pop(0)]).log()


def test_a_short_window_waits_until_the_language_is_heard(asr: Recognizer) -> None:
    """Its language comes from what follows; texts still come in order."""
    language = cast("LanguagePosterior", Told((0.2, 0.1, 0.7), (0.98, 0.01, 0.01), (0.1, 0.2, 0.7)))
    turns = Recognizer(replace(asr.parts, language=language), detector=SpeechAt((0, 1), (5, 20), (25, 26)))
    starts: list[float] = []
    with pytest.warns(audio.AudioWarning, match="not silent"):  # the noise between the turns
        found = turns.transcribe(
            noise(30.0), start="noise", steps=1, on_hypothesis=lambda start, _: starts.append(start)
        )
    assert starts == pytest.approx([0.0, 4.8, 24.8], abs=0.05)
    assert {segment.language for segment in found.segments} == {"en"}


class SpeechAt:
    """A detector for which these stretches (in seconds) are speech."""

    def __init__(self, *stretches: tuple[float, float]) -> None:
        self._stretches = stretches

    def probabilities(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        told = 0
        for found in tiny.AlwaysSpeech().probabilities(blocks):
            seconds = (told + np.arange(len(found))) * 512 / 16_000
            told += len(found)
            inside = [(first <= seconds) & (seconds < last) for first, last in self._stretches]
            yield np.any(inside, axis=0).astype(np.float32)


# --- beside others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_inside_autocast(asr: Recognizer, kind: torch.dtype) -> None:
    expected = asr.transcribe(noise(3.0), start="noise", steps=2)
    with torch.autocast("cpu", kind):
        assert asr.transcribe(noise(3.0), start="noise", steps=2) == expected


def test_many_threads(asr: Recognizer) -> None:
    expected = [asr.transcribe(noise(3.0, n), language="en") for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: asr.transcribe(noise(3.0, n), language="en"), range(4)))
    assert found == expected


FORKED = """
import os, sys, time, torch
import tests.support.tiny as tiny
from diffusion_asr.models.parts import Parts
from diffusion_asr.recognizer import Recognizer, Source
torch.set_num_threads(2)
asr = tiny.eager(Recognizer.from_pretrained(sys.argv[1]).parts)
once = asr.transcribe(tiny.noise(20.0), language="en", start="noise", steps=2)
child = os.fork()
if child == 0:
    again = asr.transcribe(tiny.noise(20.0), language="en", start="noise", steps=2)
    os._exit(0 if again == once else 3)
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.1)
os.kill(child, 9)
sys.exit("the child hangs")
"""


def test_after_a_fork(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORKED, str(tiny.model(tmp_path))], capture_output=True, text=True, cwd=ROOT,
        check=False, env=os.environ | {"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}", "OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr


def test_a_spawned_worker_loads_the_same_model(tmp_path: Path) -> None:
    """What a worker gets is a name, so this is what happens there."""
    loaded = Recognizer.from_pretrained(tiny.model(tmp_path))
    sent = pickle.loads(pickle.dumps(loaded))
    assert sent.parts.name == loaded.parts.name
    waves = torch.from_numpy(noise(2.0))[None]
    torch.testing.assert_close(sent.encode(waves).states, loaded.encode(waves).states)
    assert pickle.loads(pickle.dumps(SpeechDetector())).probabilities


def test_a_recogniser_without_a_name_says_so_at_once(asr: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="put together from parts cannot go to another process"):
        pickle.dumps(asr)
    trained = Recognizer.from_pretrained(tiny.model(tmp_path))
    with torch.no_grad():
        next(trained.parts.modules[0].parameters()).mul_(1.5)
    with pytest.raises(ModelError, match="changed since it was loaded"):
        pickle.dumps(trained)
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool, pytest.raises(ModelError):
        pool.submit(len, [asr]).result(timeout=60)


def test_weights_that_may_be_trained_do_not_go_to_another_process_by_name(tmp_path: Path) -> None:
    """Fused optimizers, ``Trainer``'s default, write without torch counting it."""
    trained = Recognizer.from_pretrained(tiny.model(tmp_path))
    weights = list(make_trainable(trained.parts).parameters())
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    torch.optim.AdamW(weights, lr=0.1, fused=True).step()
    with pytest.raises(ModelError, match="changed since it was loaded"):
        pickle.dumps(trained)
