"""From audio to transcript with a tiny model of random weights: what fits together, not what is heard."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_asr.acoustics.encoder import WhisperEncoder
from diffusion_asr.decoding.decoder import UNDETERMINED, DecodingOptions, Hypothesis
from diffusion_asr.errors import AudioError, LanguageError, ModelError
from diffusion_asr.loading import load_parts
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Transcript
from tests.support import tiny
from tests.support.audio_files import sine, write
from tests.support.tiny import ROOT, eager, noise

LANGUAGES = ("en", "de", "fr", "es", "hi", "zh")


@pytest.fixture(scope="module")
def asr(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """Takes everything for speech."""
    return eager(tiny.parts(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def strict(asr: Recognizer) -> Recognizer:
    """The same model behind the real speech detector."""
    return Recognizer(asr.parts)


def clips(*seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    waves = [torch.from_numpy(noise(s, seed)) for seed, s in enumerate(seconds)]
    lengths = torch.tensor([len(w) for w in waves])
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths


def same(a: Hypothesis, b: Hypothesis) -> bool:
    return (a.text, a.language) == (b.text, b.language) and torch.equal(a.decoded.canvas, b.decoded.canvas)


# --- encode ------------------------------------------------------------------------------------------------


def test_encode(asr: Recognizer) -> None:
    waves, lengths = clips(2.0, 0.5, 1.001)
    memory = asr.encode(waves, lengths)
    assert memory.states.shape == (3, 100, tiny.WIDTH)
    assert memory.lengths.tolist() == [100, 25, 50]
    assert memory.frame_rate == 50
    assert torch.isfinite(memory.states).all()


def test_encode_takes_one_sample_and_thirty_seconds(asr: Recognizer) -> None:
    assert asr.encode(torch.zeros(1, 1)).lengths.tolist() == [1]
    assert asr.encode(torch.zeros(1, 480_000)).lengths.tolist() == [1500]


@pytest.mark.parametrize(
    ("waves", "message"),
    [
        (torch.zeros(16_000), r"\(batch, samples\)"),
        (torch.zeros(1, 2, 16_000), r"\(batch, samples\)"),
        (torch.zeros(0, 16_000), r"\(batch, samples\)"),
        (torch.zeros(2, 0), r"\(batch, samples\)"),
        (torch.zeros(1, 480_001), "30 s at most; use transcribe"),
        (torch.full((1, 100), float("nan")), "NaN"),
        (torch.tensor([[0.0, float("inf")]]), "infinite"),
    ],
)
def test_encode_refuses(asr: Recognizer, waves: torch.Tensor, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        asr.encode(waves)


@pytest.mark.parametrize("lengths", [[16_000], [16_000, 0], [16_000, -5], [16_000, 16_001], [9, 9, 9]])
def test_encode_refuses_wrong_lengths(asr: Recognizer, lengths: list[int]) -> None:
    with pytest.raises(AudioError, match="lengths"):
        asr.encode(torch.zeros(2, 16_000), torch.tensor(lengths))


# --- decode ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["null", "noise"])
@pytest.mark.parametrize("steps", [None, 1, 3])
def test_hypotheses(asr: Recognizer, start: str, steps: int | None) -> None:
    memory = asr.encode(*clips(2.0, 0.6, 1.2))
    found = asr.decode(memory, ["en", "zh", None], steps=steps, start=start, trace=True)
    assert [h.language for h in found][:2] == ["en", "zh"]
    assert found[2].language in LANGUAGES
    for hypothesis, frames in zip(found, (100, 30, 60), strict=True):
        slots = (frames + 3) // 4
        assert hypothesis.decoded.canvas.shape == (slots,)
        assert len(hypothesis.decoded.trace) == hypothesis.decoded.passes
        assert steps is None or hypothesis.decoded.passes == steps
        assert hypothesis.text == join_words(hypothesis.words)
        assert 0 <= hypothesis.confidence <= 1
        assert all(0 <= w.start < w.end for w in hypothesis.words)
        assert all(a.end <= b.start + 1e-6 for a, b in pairwise(hypothesis.words))


def test_no_word_ends_after_its_clip(asr: Recognizer) -> None:
    """0.5 s are 25 states: seven slots, which would last 0.56 s."""
    memory = asr.encode(*clips(0.5))
    loud = [asr.decode(memory, "en", steps=1, start="noise", seed=n)[0] for n in range(9)]
    ends = [h.words[-1].end for h in loud if h.words]
    assert ends
    assert max(ends) <= 0.5


@pytest.mark.parametrize("start", ["null", "noise"])
@pytest.mark.parametrize("steps", [None, 2])
def test_a_batch_is_its_clips(asr: Recognizer, start: str, steps: int | None) -> None:
    seconds = (2.0, 0.02, 7.3, 1.1)
    waves, lengths = clips(*seconds)
    languages = ["en", "de", "hi", None]
    together = asr.decode(asr.encode(waves, lengths), languages, steps=steps, start=start)
    for k, length in enumerate(lengths.tolist()):
        memory = asr.encode(waves[k : k + 1, :length])
        assert same(asr.decode(memory, [languages[k]], steps=steps, start=start)[0], together[k])


def test_the_seed_decides(asr: Recognizer) -> None:
    memory = asr.encode(*clips(3.0))
    before = torch.random.get_rng_state()

    def run(**seed: Any) -> Hypothesis:
        return asr.decode(memory, "en", steps=1, start="noise", **seed)[0]

    assert same(run(seed=3), run(seed=3))
    assert same(run(), run())
    assert not same(run(seed=3), run(seed=4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_detected_languages_are_probabilities(asr: Recognizer) -> None:
    rows = asr.detect_language(asr.encode(*clips(1.0, 2.0)))
    assert len(rows) == 2
    for row in rows:
        assert tuple(row) == asr.languages == LANGUAGES
        assert sum(row.values()) == pytest.approx(1.0, abs=1e-5)
    best = [max(row, key=lambda k: row[k]) for row in rows]
    memory = asr.encode(*clips(1.0, 2.0))
    for automatic in (None, "auto", [None, "auto"]):
        found = asr.decode(memory, automatic, steps=1)
        assert [h.language for h in found] == best


def test_windows_come_as_they_are_done_and_known_ones_are_not_decoded_again(
    asr: Recognizer,
) -> None:
    done: dict[tuple[float, float], tuple[Any, ...]] = {}
    sound = noise(65.0)
    whole = asr.transcribe(
        sound, on_window=lambda start, end, segments: done.update({(start, end): segments})
    )
    assert len(done) == 3
    assert [segment for segments in done.values() for segment in segments] == list(whole.segments)
    first, *_ = done
    decoded: list[float] = []
    again = asr.transcribe(
        sound, known={first: done[first]}, on_hypothesis=lambda start, _: decoded.append(start)
    )
    assert again == whole
    assert decoded == [start for start, _ in done][1:]


def test_a_language_has_many_names(asr: Recognizer) -> None:
    memory = asr.encode(torch.from_numpy(noise(1.0))[None].repeat(2, 1))
    assert asr.choose_languages(memory, "German") == ["de", "de"]
    assert asr.choose_languages(memory, ["zh-CN", "<|hi|>"]) == ["zh", "hi"]
    detected, told = asr.choose_languages(memory, [None, "French"])
    assert detected in LANGUAGES
    assert told == "fr"
    assert {s.language for s in asr.transcribe(noise(1.0), language="es-MX").segments} <= {"es"}


@pytest.mark.parametrize("language", ["xx", "", "english-", ["en", "xx"], ["en"], ["en", "de", "fr"], []])
def test_wrong_languages_are_refused(asr: Recognizer, language: Any) -> None:
    with pytest.raises(LanguageError):
        asr.decode(asr.encode(*clips(0.1, 0.2)), language)


def test_wrong_options_are_refused(asr: Recognizer) -> None:
    memory = asr.encode(*clips(0.1))
    with pytest.raises(ValueError, match="'null', 'noise' or canvases of token ids, not 'nul'"):
        asr.decode(memory, start="nul")
    with pytest.raises(ValueError, match="steps must be a whole number of passes, 1 or more"):
        asr.decode(memory, steps=0)
    with pytest.raises(
        TypeError, match="unknown decoding options: init; there are steps, max_steps, verify, start"
    ):
        asr.decode(memory, init="noise")


def test_options_come_as_a_value_as_well_and_changes_on_top(asr: Recognizer) -> None:
    memory, options = asr.encode(*clips(2.0)), DecodingOptions(steps=3, start="noise", seed=5)
    (value,), (named,) = asr.decode(memory, "en", options), asr.decode(memory, "en", **_fields(options))
    assert same(value, named)
    (changed,) = asr.decode(memory, "en", options, steps=1)
    assert changed.decoded.passes == 1
    assert same(changed, asr.decode(memory, "en", start="noise", steps=1, seed=5)[0])


def _fields(options: DecodingOptions) -> dict[str, Any]:
    return {field.name: getattr(options, field.name) for field in fields(options)}


def test_a_given_canvas_is_the_first(asr: Recognizer) -> None:
    memory = asr.encode(*clips(1.0, 2.0))
    found = asr.decode(memory, "en", start=((5, 5, 0, 6), (7,)), trace=True)
    first = [h.decoded.trace[0].canvas.tolist() for h in found]
    assert first == [[5, 5, 0, 6, *[0] * 9], [7, *[0] * 24]]


def test_a_model_that_cannot_tell_the_language(asr: Recognizer) -> None:
    """Its decoder is told so; one that must know the language says it."""
    deaf = Recognizer(replace(asr.parts, language=None))
    memory = deaf.encode(*clips(1.0, 0.5))
    assert deaf.detect_language(memory) == [{}, {}]
    assert deaf.choose_languages(memory, ["de", None]) == ["de", UNDETERMINED]
    with pytest.raises(LanguageError, match=f"'{UNDETERMINED}'"):
        deaf.decode(memory)


# --- transcribe --------------------------------------------------------------------------------------------


def wav(path: Path, samples: np.ndarray) -> Path:
    """Float samples, so that a file holds exactly what an array does."""
    return write(path, samples.reshape(-1, 1), 16_000, "WAV/FLOAT")


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(40_000, np.float32), noise(3.0)])
def test_silence_and_noise_give_no_text(strict: Recognizer, samples: np.ndarray, tmp_path: Path) -> None:
    found = strict.transcribe(samples)
    assert found == Transcript((), duration=round(len(samples) / 16_000, 3))
    assert found.text == ""
    if len(samples):
        path = wav(tmp_path / "x.wav", samples)
        assert strict.transcribe(path) == replace(found, source=str(path))


LAST_SLOT = 2e-3  # seconds: times are rounded


def check(found: Transcript, seconds: float) -> None:
    """What holds of every transcript."""
    assert found.duration == pytest.approx(seconds, abs=1e-3)
    assert found.segments
    for segment in found.segments:
        assert segment.text == join_words(segment.words)
        assert segment.words
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
        assert segment.language in LANGUAGES
    words = list(found.words)
    assert all(0 <= w.start < w.end <= seconds + LAST_SLOT for w in words)
    assert all(a.start <= b.start and a.end <= b.start + LAST_SLOT for a, b in pairwise(words))


def test_a_recording_longer_than_a_window(asr: Recognizer) -> None:
    samples, told, windows = noise(75.0), [], []
    found = asr.transcribe(
        samples, language="en", steps=1, start="noise",
        progress=lambda done, total: told.append((done, total)),
        on_hypothesis=lambda start, hypothesis: windows.append((start, hypothesis)),
    )  # fmt: skip
    check(found, 75.0)
    assert len(windows) >= 3
    starts = [start for start, _ in windows]
    assert starts == sorted(starts)
    assert starts[0] == 0.0
    assert all(b - a <= 30.0 for a, b in pairwise(starts))
    assert all(h.decoded.trace for _, h in windows)
    assert [w.text for w in found.words] == [w.text for _, h in windows for w in h.words]
    assert told[-1] == (75.0, 75.0)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_windows_do_not_overlap(asr: Recognizer) -> None:
    found = asr.transcribe(noise(75.0), language="en", steps=1, start="noise")
    words = list(found.words)
    assert all(a.end <= b.start + 2e-3 for a, b in pairwise(words))
    assert words[-1].end <= found.duration


def test_a_batch_is_its_clips_in_bf16(tmp_path: Path) -> None:
    """A padded batch would round differently there."""
    whole = tiny.parts(tmp_path)
    assert isinstance(whole.encoder, WhisperEncoder)
    whole.encoder.bfloat16()
    whole.encoder.log_mel.float()
    tiny.canvas_denoiser(whole).bfloat16()
    asr = Recognizer(whole)
    waves, lengths = clips(4.0, 9.1, 2.3, 6.7)
    together = asr.decode(asr.encode(waves, lengths), "en", start="noise")
    for k, length in enumerate(lengths.tolist()):
        alone = asr.decode(asr.encode(waves[k : k + 1, :length]), "en", start="noise")
        assert same(alone[0], together[k])


def test_sources_of_the_same_sound_give_the_same_text(asr: Recognizer, tmp_path: Path) -> None:
    samples = noise(33.0)
    path = wav(tmp_path / "x.wav", samples)
    expected = asr.transcribe(samples, language="fr")
    check(expected, 33.0)
    for source in (path, str(path)):
        assert asr.transcribe(source, language="fr") == replace(expected, source=str(path))
    for array in (torch.from_numpy(samples), samples[None], samples[:, None], samples.astype(np.float64)):
        assert asr.transcribe(array, language="fr") == expected
    for channels in (np.stack([samples, samples]), np.stack([samples, samples], axis=1)):
        assert asr.transcribe(channels, language="fr") == expected


def test_another_sample_rate(asr: Recognizer) -> None:
    found = asr.transcribe(sine(2.0, 44_100), sample_rate=44_100, language="en", steps=1, start="noise")
    assert found.duration == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize(
    "samples",
    [
        np.array([0.0, np.nan, 0.0], np.float32),
        np.array([0.0, np.inf], np.float32),
        np.zeros((2, 3, 4), np.float32),
        np.zeros((20, 16_000), np.float32),
        np.zeros(100, np.complex64),
        np.full(16_000, 20_000.0, np.float32),
    ],
)
def test_impossible_arrays_are_refused(asr: Recognizer, samples: np.ndarray) -> None:
    with pytest.raises(AudioError):
        asr.transcribe(samples)


def test_bad_calls_are_refused(asr: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(LanguageError, match=r"'xx'.*en, de, fr, es, hi, zh"):
        asr.transcribe(noise(1.0), language="xx")
    with pytest.raises(ValueError, match="nul"):
        asr.transcribe(noise(1.0), start="nul")
    with pytest.raises(TypeError, match="init"):
        asr.transcribe(noise(1.0), init="noise")
    with pytest.raises(AudioError, match=r"absent\.wav"):
        asr.transcribe(tmp_path / "absent.wav")


@pytest.mark.parametrize("wrong", [{"start": "nul"}, {"steps": 0}, {"entropy_bound": -1.0}])
def test_bad_calls_are_refused_in_silence_too(strict: Recognizer, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        strict.transcribe(np.zeros(16_000, np.float32), **wrong)


def test_transcribe_is_repeatable_and_leaves_the_global_generator(asr: Recognizer) -> None:
    before = torch.random.get_rng_state()
    first = asr.transcribe(noise(4.0), start="noise", steps=2)
    assert first == asr.transcribe(noise(4.0), start="noise", steps=2)
    seeded = [asr.transcribe(noise(4.0), start="noise", steps=1, seed=seed) for seed in (7, 7, 8)]
    assert seeded[0] == seeded[1] != seeded[2]
    assert torch.equal(torch.random.get_rng_state(), before)


# --- the package -------------------------------------------------------------------------------------------


def test_a_model_folder_transcribes(tmp_path: Path) -> None:
    """In the compute type of this machine, as users have it."""
    recognizer = eager(load_parts(tiny.model(tmp_path)))
    check(recognizer.transcribe(noise(3.0), steps=1, start="noise"), 3.0)
    with pytest.raises(ModelError, match="no model 'nothing'"):
        Recognizer.from_pretrained("nothing")


BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("transformers", "speechbrain", "nemo", "pyannote", "lightning"):
            raise ImportError(f"{name} is not needed by the core")
sys.meta_path.insert(0, Block())
import diffusion_asr
assert "torch" not in sys.modules, "import diffusion_asr loads torch"
import tests.support.tiny, numpy
asr = diffusion_asr.Recognizer.from_pretrained(sys.argv[1])
assert "torch._dynamo" not in sys.modules, "loading a model imports torch's compiler"
assert asr.transcribe(numpy.zeros(16000, "float32")).text == ""
asr = diffusion_asr.Recognizer(asr.parts, detector=tests.support.tiny.AlwaysSpeech())
assert asr.transcribe(tests.support.tiny.noise(2.0), start="noise", steps=1).segments
print("done")
"""


def test_the_core_needs_no_toolkit(tmp_path: Path) -> None:
    model = tiny.model(tmp_path)
    found = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(model)], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": f"{ROOT / 'core'}:{ROOT}", "PATH": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout == "done\n"
