"""What every decoder promises (``decoding/decoder.py``): one suite for all of them.

A new decoder is one more line in ``MAKERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from diffusion_asr import Recognizer
from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.audio import files as audio
from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.decoder import UNDETERMINED, Decoded, Decoder, DecodingOptions
from diffusion_asr.decoding.sweeps.reader import CanvasReader, Reading
from diffusion_asr.errors import LanguageError
from tests.support import tiny
from tests.support.tiny import DATA

GRID = 0.16  # seconds: the coarsest slots there are, the last of which may end after its clip
SHORTEST = 17  # slots: a canvas for the shorter of ``noisy``'s clips

pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Subject:
    """A decoder, and two clips of different length that it has heard."""

    asr: Recognizer
    memory: AcousticMemory
    languages: tuple[str, str]

    @property
    def decoder(self) -> Decoder:
        return self.asr.parts.decoder

    def decode(self, **options: Any) -> list[Decoded]:
        return self.decoder.decode(self.memory, self.languages, DecodingOptions(**options))

    def alone(self, clip: int, **options: Any) -> Decoded:
        memory, languages = self.memory.clip(clip), self.languages[clip : clip + 1]
        (found,) = self.decoder.decode(memory, languages, DecodingOptions(**options))
        return found

    def slots(self) -> list[int]:
        """Lengths of the canvases that the first pass reads."""
        return [len(found.trace[0].canvas) for found in self.decode(steps=1, trace=True)]


def heard(asr: Recognizer, *clips: Tensor) -> Subject:
    waves = torch.nn.utils.rnn.pad_sequence(list(clips), batch_first=True)
    memory = asr.encode(waves, torch.tensor([len(clip) for clip in clips]))
    return Subject(asr, memory, ("en", "de"))


def noisy(asr: Recognizer) -> Subject:
    return heard(asr, *(torch.from_numpy(tiny.noise(seconds, 3)) for seconds in (1.3, 2.1)))


def only(way: Literal["sweeps", "causal"], asr: Recognizer) -> Recognizer:
    """The same model with one of its decoder's two ways, whatever the options say."""
    parts = asr.parts
    assert isinstance(parts.decoder, CanvasDecoder)
    return Recognizer(replace(parts, decoder=getattr(parts.decoder, way)), asr.detector)


def gemma(folder: Path) -> Subject:
    pytest.importorskip("transformers.models.diffusion_gemma")
    from tests.support.gemma_published import published_system

    return noisy(Recognizer.from_pretrained(str(published_system(folder).adapter)))


def shipped(_: Path) -> Subject:
    names = ("en-arctic_a0239_1592711579.flac", "de-de_rhasspy-0208.flac")
    return heard(
        Recognizer.from_pretrained(), *(torch.from_numpy(audio.read_audio(DATA / name)) for name in names)
    )


MAKERS: dict[str, Callable[[Path], Subject]] = {
    "parallel": lambda folder: noisy(tiny.eager(tiny.parts(folder))),
    "causal": lambda folder: noisy(only("causal", tiny.eager(tiny.parts(folder, refined=True)))),
    "sweeps": lambda folder: noisy(only("sweeps", tiny.eager(tiny.parts(folder, refined=True)))),
    "either": lambda folder: noisy(tiny.eager(tiny.parts(folder, refined=True))),
    "gemma": gemma,
    "shipped": shipped,
    "shipped, swept": lambda folder: replace(shipped(folder), asr=only("sweeps", shipped(folder).asr)),
}


@pytest.fixture(scope="module", params=MAKERS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


def same(a: Decoded, b: Decoded) -> bool:
    """But for the trace."""
    return (
        torch.equal(a.canvas, b.canvas)
        and torch.equal(a.confidence, b.confidence)
        and torch.equal(a.slot_times, b.slot_times)
        and (a.parallel_passes, a.causal_passes, a.timing_passes, a.starts)
        == (b.parallel_passes, b.causal_passes, b.timing_passes, b.starts)
    )


# --- what comes out ----------------------------------------------------------------------------------------


def test_it_says_which_languages_it_writes(subject: Subject) -> None:
    known = subject.decoder.languages
    assert known == subject.asr.languages
    assert len(set(known)) == len(known) > 0
    for code in known:
        found = subject.decoder.decode(subject.memory, [code, code], DecodingOptions(steps=1))
        assert len(found) == 2


@pytest.mark.parametrize("start", ["null", "noise"])
@pytest.mark.parametrize("steps", [None, 1, 3])
def test_a_canvas_in_time_for_each_clip(subject: Subject, start: str, steps: int | None) -> None:
    found = subject.decode(steps=steps, start=start)
    assert len(found) == 2
    frames = subject.memory.lengths / subject.memory.frame_rate
    for clip, seconds in zip(found, frames.tolist(), strict=True):
        assert clip.canvas.ndim == 1
        assert clip.canvas.shape == clip.confidence.shape == clip.slot_times.shape
        assert clip.canvas.dtype == torch.long
        assert clip.slot_seconds > 0
        assert bool(((clip.confidence >= 0) & (clip.confidence <= 1)).all())
        times = clip.slot_times.tolist()
        assert times == sorted(times)
        assert all(0 <= time <= seconds + GRID for time in times)
        tokens = read_tokens(clip.canvas)
        assert all(subject.asr.parts.vocabulary.bytes_of(token) for token in tokens)
        assert list(clip.starts) == sorted(clip.starts)
        assert len(clip.starts) in (0, len(tokens))
        assert clip.timing_passes >= 0


def test_only_pieces_of_the_language_are_written(subject: Subject) -> None:
    for n, code in enumerate(subject.languages):
        allowed = set(subject.asr.parts.vocabulary.pieces_for(code))
        assert set(subject.alone(n, start="noise").canvas.tolist()) <= {0, *allowed}


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"steps": 4, "start": "noise", "seed": 3}])
def test_a_clip_does_not_depend_on_its_neighbours(subject: Subject, options: dict[str, Any]) -> None:
    together = subject.decode(**options)
    assert all(same(subject.alone(n, **options), found) for n, found in enumerate(together))
    memory = AcousticMemory(
        subject.memory.states.flip(0), subject.memory.mask.flip(0), subject.memory.frame_rate,
        None if subject.memory.tail is None else subject.memory.tail.flip(0),
    )  # fmt: skip
    other = subject.decoder.decode(memory, subject.languages[::-1], DecodingOptions(**options))
    assert all(same(a, b) for a, b in zip(together, other[::-1], strict=True))


# --- noise -------------------------------------------------------------------------------------------------


def test_the_seed_decides_alone(subject: Subject) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (subject.decode(start="noise", steps=2, seed=n, trace=True) for n in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    noise, repeated, fresh = ([found.trace[0].canvas for found in each] for each in (first, again, other))
    assert all(torch.equal(a, b) for a, b in zip(noise, repeated, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(noise, fresh, strict=True))


def test_nothing_is_random_from_null(subject: Subject) -> None:
    """At least in the canvas that is read first."""
    first, other = (subject.decode(steps=1, seed=seed, trace=True) for seed in (0, 1))
    for a, b in zip(first, other, strict=True):
        assert torch.equal(a.trace[0].canvas, b.trace[0].canvas)


# --- passes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["null", "noise"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_steps_bound_the_passes(subject: Subject, start: str, steps: int) -> None:
    for found in (*subject.decode(steps=steps, start=start), *subject.decode(max_steps=steps, start=start)):
        assert found.parallel_passes >= 1
        assert found.causal_passes >= 0
        assert found.passes == found.parallel_passes + found.causal_passes <= steps


def test_one_step_is_one_parallel_pass(subject: Subject) -> None:
    for found in subject.decode(steps=1):
        assert (found.parallel_passes, found.causal_passes) == (1, 0)


@pytest.mark.parametrize("steps", [1, 3, None])
def test_parallel_passes_are_what_the_networks_did(
    subject: Subject, steps: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser: Any = getattr(subject.decoder, "denoiser")  # noqa: B009 - not part of the Protocol
    hidden, calls = denoiser.hidden, 0

    def counting(*given: Any) -> Tensor:
        nonlocal calls
        calls += 1
        found: Tensor = hidden(*given)
        return found

    monkeypatch.setattr(denoiser, "hidden", counting)
    read = CanvasReader.read

    def reading(*given: Any) -> list[Reading]:
        nonlocal calls
        calls += 1
        return read(*given)

    monkeypatch.setattr(CanvasReader, "read", reading)
    found = subject.alone(0, steps=steps)
    assert calls == found.parallel_passes


@pytest.mark.parametrize("options", [{}, {"steps": 1}, {"steps": 5}, {"steps": 3, "start": "noise"}])
def test_a_trace_holds_every_pass_and_changes_nothing(subject: Subject, options: dict[str, Any]) -> None:
    plain, traced = subject.decode(**options), subject.decode(**options, trace=True)
    for found, kept in zip(plain, traced, strict=True):
        assert found.trace == ()
        assert same(found, kept)
        kinds = [step.kind for step in kept.trace]
        assert kinds.count("parallel") == kept.parallel_passes
        assert kinds.count("causal") == kept.causal_passes
        assert [step.step for step in kept.trace] == list(range(1, kept.passes + 1))
        for step in kept.trace:
            columns = (step.canvas, step.predicted, step.confidence, step.accepted)
            assert len({len(column) for column in columns}) == 1
            assert step.accepted.dtype == torch.bool
            assert bool(((step.confidence >= 0) & (step.confidence <= 1)).all())
        assert all(len(a.canvas) == len(b.canvas) for a, b in pairwise(kept.trace))


# --- how it may start --------------------------------------------------------------------------------------


def test_a_given_canvas_is_read_first(subject: Subject) -> None:
    """Whole, or filled up with nulls."""
    slots = subject.slots()
    size = min(*slots, SHORTEST)
    whole = tuple(tuple((5 + n + 3 * clip) % 60 for n in range(size)) for clip in range(2))
    for given in (whole, ((7, 9), ())):
        found = subject.decode(start=given, steps=2, trace=True)
        expected = [[*ids, *[0] * (size - len(ids))] for ids, size in zip(given, slots, strict=True)]
        assert [clip.trace[0].canvas.tolist() for clip in found] == expected


def test_canvases_that_do_not_fit_are_refused(subject: Subject) -> None:
    with pytest.raises(ValueError, match="give one for each clip"):
        subject.decode(start=((7,),))
    with pytest.raises(ValueError, match=r"start's canvas 1 has \d+ slots.*give no more"):
        subject.decode(start=((7,), (7,) * (max(subject.slots()) + 1)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of passes, 1 or more"),
        ({"max_steps": -1}, "max_steps must be a whole number of passes, 1 or more"),
        ({"start": "silence"}, "start must be 'null', 'noise' or canvases of token ids"),
        ({"entropy_bound": -0.5}, "entropy_bound must be a number of 0 or more"),
        ({"temperature": float("nan")}, "temperature must be a number of 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    subject: Subject, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        subject.asr.decode(subject.memory, "en", **wrong)


@pytest.mark.parametrize("options", [{"entropy_bound": 0.0}, {"entropy_bound": 1e6}, {"temperature": 0.5}])
def test_options_are_taken_or_not_needed(subject: Subject, options: dict[str, Any]) -> None:
    found = subject.decode(steps=3, start="noise", **options)
    assert all(1 <= clip.passes <= 3 for clip in found)


@pytest.mark.parametrize("languages", [("xx", "en"), ("en",), ("en", "de", "en"), ("EN", "de"), ()])
def test_wrong_languages_are_refused(subject: Subject, languages: tuple[str, ...]) -> None:
    with pytest.raises(LanguageError):
        subject.decoder.decode(subject.memory, languages, DecodingOptions(steps=1))


def test_an_undetermined_language_is_written_or_refused(subject: Subject) -> None:
    """Never guessed in silence: a decoder that needs the language says so."""
    both = (UNDETERMINED, UNDETERMINED)
    if subject.asr.parts.language is None:
        assert len(subject.decoder.decode(subject.memory, both, DecodingOptions(steps=1))) == 2
    else:
        with pytest.raises(LanguageError, match=f"'{UNDETERMINED}'"):
            subject.decoder.decode(subject.memory, both, DecodingOptions(steps=1))
