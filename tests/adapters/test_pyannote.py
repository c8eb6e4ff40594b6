"""The pyannote adapter with the real toolkit, offline. Speech: pyannote's own sample and tests/data."""

import hashlib
import importlib
import os
import pickle
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

pytest.importorskip(
    "pyannote.audio", reason="pyannote.audio is not installed: pip install 'diffusion-asr[pyannote]'"
)

from pyannote.audio import Pipeline
from pyannote.audio import sample as sample_package
from pyannote.audio.pipelines.utils.hook import ArtifactHook, Hooks, ProgressHook, TimingHook
from pyannote.core import Annotation
from pyannote.core import Segment as Span
from pyannote.database.util import load_rttm
from pyannote.metrics.diarization import DiarizationErrorRate

import diffusion_asr_pyannote as adapter
from diffusion_asr import audio
from diffusion_asr.attribution import Turn, attribute, exclusive, join, split
from diffusion_asr.errors import DiffusionASRError, ModelError
from diffusion_asr.formats import render
from diffusion_asr.meeting import DiarizationError, SpeakerCount, offline_diarizer
from diffusion_asr.meeting.diarizer import tidied
from diffusion_asr.transcript import Segment, Transcript, Word
from diffusion_asr_pyannote import models

DATA = Path(__file__).parents[1] / "data"
ENGLISH = DATA / "en-arctic_a0095_1592746305.flac"
GERMAN = DATA / "de-de_rhasspy-0208.flac"
SAMPLE = Path(sample_package.__file__).parent / "sample.wav"
PACKAGE = Path(adapter.__file__).parent


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return Pipeline.from_pretrained(adapter.MEETING)


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the hooks of one run on the sample saw."""
    return {}


@pytest.fixture(scope="module")
def meeting(pipeline: Any, told: dict[str, Any]) -> Any:
    """The sample with the number of speakers given."""
    steps: list[tuple[str, Any, Any]] = []

    def log(step: str, artifact: Any, file: Any = None, total: Any = None, completed: Any = None) -> None:
        steps.append((step, completed, total))

    file = {"audio": str(SAMPLE)}
    with Hooks(ProgressHook(hidden=True), TimingHook(), ArtifactHook("attribution"), log) as hook:
        transcript = pipeline(file, num_speakers=2, language="en", hook=hook)
    told.update(steps=steps, file=file)
    return transcript


# --- joining: pure functions


def words(*spans: tuple[float, float]) -> tuple[Word, ...]:
    return tuple(Word(f"w{n}", start, end) for n, (start, end) in enumerate(spans))


def who(spans: list[tuple[float, float]], turns: Iterable[Turn], **options: Any) -> list[str | None]:
    return [a.speaker for a in attribute(words(*spans), turns, **options)]


AB = (Turn(0.0, 2.0, "A"), Turn(3.0, 5.0, "B"))


def test_a_word_belongs_to_who_talks_longest_in_it() -> None:
    assert who([(0.1, 0.4), (1.5, 3.2), (2.5, 3.9), (4.0, 5.5)], AB) == ["A", "A", "B", "B"]


def test_pieces_of_turns_add_up() -> None:
    turns = [Turn(0.0, 0.3, "A"), Turn(0.3, 0.7, "B"), Turn(0.7, 1.0, "A")]
    assert who([(0.0, 1.0)], turns) == ["A"]


def test_a_word_between_turns_goes_to_the_nearer_one_within_the_limit() -> None:
    assert who([(2.1, 2.3), (2.7, 2.9)], AB) == ["A", "B"]
    assert who([(2.45, 2.55)], AB) == ["A"]  # equally far: the earlier
    assert who([(2.2, 2.3), (5.9, 6.0), (5.3, 5.4)], AB, limit=0.5) == ["A", None, "B"]
    assert who([(2.2, 2.3)], AB, limit=0.0) == [None]
    assert who([(1.0, 1.5)], []) == [None]


def test_the_nearest_turn_is_the_one_that_ends_last_not_the_one_that_began_last() -> None:
    turns = [Turn(0.0, 5.0, "long"), Turn(1.0, 2.0, "short")]
    assert who([(5.1, 5.2)], turns) == ["long"]


def test_words_without_length_and_very_short_turns() -> None:
    assert who([(3.5, 3.5), (2.0, 2.0)], AB) == ["B", "A"]
    assert who([(1.0, 1.4)], [Turn(0.0, 1.1, "A"), Turn(1.1, 1.13, "B"), Turn(1.13, 2.0, "A")]) == ["A"]


def test_confidence_is_the_share_of_the_word_and_overlap_is_marked() -> None:
    inside, half, near = attribute(
        words((0.5, 1.0), (1.8, 2.2), (2.25, 2.4)), AB, overlapping=[*AB, Turn(0, 0.6, "C")]
    )
    assert (inside.confidence, inside.overlapped) == (1.0, True)
    assert (half.confidence, half.overlapped) == (0.5, False)
    assert near.confidence == pytest.approx(0.25)


def test_who_talks_first_keeps_the_floor_in_the_exclusive_view() -> None:
    turns = exclusive([Turn(0, 4, "A"), Turn(1, 2, "B"), Turn(3, 6, "C")])
    assert turns == [Turn(0, 4, "A"), Turn(4, 6, "C")]


def test_a_turn_change_splits_the_segment_at_the_word() -> None:
    spoken = (Word("Ja.", 0.5, 1.0), Word("Was", 1.0, 1.9), Word("denn?", 3.1, 3.5), Word("Nun", 9.0, 9.5))
    transcript = Transcript((Segment(0.5, 9.5, "Ja. Was denn? Nun", spoken, "de"),), 10.0)
    out = join(transcript, AB)
    assert [(s.speaker, s.text, s.start, s.end) for s in out.segments] == [
        ("A", "Ja. Was", 0.5, 1.9),
        ("B", "denn?", 3.1, 3.5),
        (None, "Nun", 9.0, 9.5),
    ]
    assert [w.speaker for w in out.words] == ["A", "A", "B", None]
    assert {s.language for s in out.segments} == {"de"}
    assert out.duration == 10.0


def test_hanzi_stay_unspaced_and_an_unsplit_segment_keeps_its_text() -> None:
    spoken = tuple(Word(c, n / 2, n / 2 + 0.4) for n, c in enumerate("你好吗", start=3))
    whole = Segment(1.5, 2.9, "你好 吗", spoken, "zh")
    assert [s.text for s in join(Transcript((whole,)), [Turn(0, 2.4, "A"), Turn(2.4, 3, "B")]).segments] == [
        "你好",
        "吗",
    ]
    assert join(Transcript((whole,)), [Turn(0, 9, "A")]).segments[0].text == "你好 吗"


def test_a_segment_without_words_goes_whole_to_its_main_speaker() -> None:
    out = join(Transcript((Segment(1.5, 4.0, "hello"),)), AB)
    assert [(s.speaker, s.words) for s in out.segments] == [("B", ())]


def test_joining_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="limit"):
        attribute([], AB, limit=-1)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        split(Segment(0, 1, "a", words((0, 1))), [])


def test_joining_an_hour_takes_well_under_a_second() -> None:
    turns = [Turn(n * 2.0, n * 2.0 + 1.9, f"S{n % 5}") for n in range(1800)]
    spoken = words(*[(n * 0.36, n * 0.36 + 0.3) for n in range(10_000)])
    begun = time.perf_counter()
    found = attribute(spoken, turns)
    assert time.perf_counter() - begun < 1.0
    assert all(
        a.speaker == f"S{int(w.start // 2) % 5}"
        for a, w in zip(found, spoken, strict=True)
        if a.confidence == 1
    )


# --- the pipeline on real speech


def test_the_shipped_folder_and_its_yaml_load(pipeline: Any) -> None:
    assert type(pipeline) is adapter.SpeakerAttributedTranscription
    assert (
        type(Pipeline.from_pretrained(adapter.OFFLINE_DIARIZATION / "config.yaml"))
        is adapter.OfflineDiarization
    )
    assert pipeline.instantiated


def test_a_meeting_has_two_speakers_who_alternate(meeting: Any) -> None:
    assert isinstance(meeting, Transcript)
    speakers = [s.speaker for s in meeting.segments]
    assert set(speakers) - {None} == {"SPEAKER_00", "SPEAKER_01"}
    assert sum(a != b for a, b in pairwise(speakers)) >= 3
    assert all(w.speaker == s.speaker for s in meeting.segments for w in s.words)


def test_attribution_follows_the_exclusive_view(meeting: Any) -> None:
    turns = adapter.turns_of(meeting.exclusive_speaker_diarization)
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(turns))
    for word in meeting.words:
        inside = [t for t in turns if t.start <= word.start and word.end <= t.end]
        assert not inside or word.speaker == inside[0].speaker


def test_the_words_are_those_of_core(pipeline: Any, meeting: Any) -> None:
    """If decoded first; cut first, every turn is decoded on its own."""

    class Known(Pipeline):  # type: ignore[misc]
        def apply(self, file: Any, hook: Any = None) -> Any:
            return meeting.speaker_diarization

    whole = adapter.SpeakerAttributedTranscription(Known(), pipeline.recognizer, order="decode-first")
    core = pipeline.recognizer.transcribe(SAMPLE, language="en", steps=4)
    ours = whole(SAMPLE, language="en", steps=4)
    assert [(w.text, w.start, w.end) for w in core.words] == [(w.text, w.start, w.end) for w in ours.words]
    assert meeting.duration == pytest.approx(30.0)


@pytest.mark.parametrize(("clip", "language"), [(ENGLISH, "en"), (GERMAN, "de"), (GERMAN, None)])
def test_the_same_clip_gives_the_words_of_core(pipeline: Any, clip: Path, language: str | None) -> None:
    core = pipeline.recognizer.transcribe(clip, language=language, steps=4)
    ours = pipeline(clip, language=language, steps=4)
    assert [w.text for w in ours.words] == [w.text for w in core.words] != []
    assert ours.language == core.language
    assert len({s.speaker for s in ours.segments} - {None}) == 1


def test_a_waveform_in_memory_gives_what_its_file_gives(pipeline: Any) -> None:
    samples, rate = sf.read(ENGLISH, dtype="float32")
    ours = pipeline(
        {"waveform": torch.from_numpy(samples)[None], "sample_rate": rate, "uri": "arctic"}, language="en"
    )
    assert ours.text == pipeline(ENGLISH, language="en").text
    assert ours.speaker_diarization.uri == "arctic"


def test_one_channel_can_be_chosen_and_48_khz_stereo_is_taken(pipeline: Any, tmp_path: Path) -> None:
    samples, rate = sf.read(ENGLISH, dtype="float32")
    clip = tmp_path / "stereo.wav"
    sf.write(clip, np.stack([samples, np.zeros_like(samples)], axis=1), rate)
    file = {"waveform": torch.from_numpy(np.stack([samples, np.zeros_like(samples)])), "sample_rate": rate}
    left = pipeline({**file, "channel": 0}, language="en")
    assert left.text == pipeline(ENGLISH, language="en").text
    assert pipeline({**file, "channel": 1}, language="en").segments == ()
    wide = torch.from_numpy(np.repeat(samples, 3))[None].repeat(2, 1)
    assert list(pipeline({"waveform": wide, "sample_rate": 3 * rate}, language="en").words)


def test_a_list_of_files_is_taken_as_pyannote_does(pipeline: Any) -> None:
    pairs = list(pipeline([ENGLISH, GERMAN], steps=2))
    assert [file["uri"] for file, _ in pairs] == [ENGLISH.stem, GERMAN.stem]
    assert all(transcript.segments for _, transcript in pairs)


def test_hooks_see_every_stage_with_progress(meeting: Any, told: dict[str, Any]) -> None:
    stages = list(dict.fromkeys(step for step, _, _ in told["steps"]))
    assert stages[0] == "segmentation"
    assert stages[-3:] == ["diarization", "transcription", "attribution"]
    progress = [
        (done, total) for step, done, total in told["steps"] if step == "transcription" and done is not None
    ]
    assert progress[0][0] == 0
    assert progress[-1] == (30.0, 30.0)
    assert {"segmentation", "embeddings", "transcription"} <= told["file"]["timing"].keys()
    assert told["file"]["artifact"]["attribution"] == meeting


@pytest.mark.parametrize("form", ["json", "srt", "vtt", "stm", "ctm", "rttm", "seglst"])
def test_every_format_takes_the_result(meeting: Any, form: str) -> None:
    text = render(meeting, form)
    assert form == "ctm" or "SPEAKER_00" in text


def test_any_diarization_that_gives_turns_is_taken(pipeline: Any) -> None:
    class Known(Pipeline):  # type: ignore[misc]  # pyannote is untyped
        def apply(self, file: Any, hook: Any = None, num_speakers: Any = None) -> Any:
            turns = Annotation(uri=file["uri"])
            turns[Span(0.0, 1.5)], turns[Span(1.2, 60.0)] = "Ana", f"of {num_speakers}"
            return turns

    ours = adapter.SpeakerAttributedTranscription(Known(), pipeline.recognizer)
    out = ours(ENGLISH, num_speakers=2, language="en")
    assert {w.speaker for w in out.words} == {"Ana", "of 2"}
    assert all(w.speaker == "of 2" for w in out.words if w.start > 1.5)


def test_the_command_finds_the_same_turns_in_a_process_of_its_own(meeting: Any) -> None:
    stages: list[str] = []
    samples = audio.read(SAMPLE)
    found = offline_diarizer().diarize(samples, SpeakerCount(2), lambda name, *_: stages.append(name))
    ours, theirs = adapter.turns_of(meeting.speaker_diarization), tidied(found, 30.0).turns
    assert [t.speaker for t in ours] == [t.speaker for t in theirs]
    assert [x for t in ours for x in (t.start, t.end)] == pytest.approx(
        [x for t in theirs for x in (t.start, t.end)]
    )
    assert {"segmentation", "embeddings"} <= set(stages)


def test_a_failure_in_that_process_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    diarizer = offline_diarizer()
    monkeypatch.setattr(diarizer, "_module", "no_such_module")
    with pytest.raises(DiarizationError, match="no_such_module"):
        diarizer.diarize(np.zeros(16_000, np.float32), SpeakerCount(), lambda *_: None)


def test_two_labels_that_are_written_the_same_way_are_told() -> None:
    turns = Annotation()
    turns[Span(0.0, 1.0)], turns[Span(1.0, 2.0)] = 1, "1"
    with pytest.raises(ValueError, match="two speakers of the same name"):
        adapter.turns_of(turns)


# --- bad input: the toolkit's kind of error, our message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "xx"}, "unknown language 'xx'; this model knows"),
        ({"num_speakers": 0}, "num_speakers=0"),
        ({"min_speakers": 3, "max_speakers": 2}, "min_speakers is above max_speakers"),
    ],
)
def test_impossible_options_are_value_errors_with_our_message(
    pipeline: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        pipeline(ENGLISH, **options)
    assert isinstance(caught.value, DiffusionASRError)


def test_steps_below_one_are_refused_before_any_work(pipeline: Any) -> None:
    with pytest.raises(ValueError, match="step"):
        pipeline(ENGLISH, steps=0)


def test_bad_audio_is_a_value_error_with_our_message(pipeline: Any, tmp_path: Path) -> None:
    text = tmp_path / "notes.wav"
    text.write_text("not sound at all")
    empty = tmp_path / "empty.wav"
    empty.touch()
    for file, message in ((text, r"not sound|cannot be read"), (empty, r"empty \(0 bytes\)")):
        with pytest.raises(ValueError, match=message):
            pipeline(file)
    with pytest.raises(ValueError, match="does not exist"):
        pipeline(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="a sample is nan"):
        pipeline({"waveform": torch.full((1, 16_000), float("nan")), "sample_rate": 16_000})
    with pytest.raises(ValueError, match="channel 3"):
        pipeline({"waveform": torch.zeros(1, 16_000), "sample_rate": 16_000, "channel": 3})


def test_no_speech_gives_no_text_and_no_speaker(pipeline: Any, tmp_path: Path) -> None:
    clip = tmp_path / "header.wav"
    sf.write(clip, np.zeros(0, np.float32), 16_000)
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 1e-3, (1, 80_000)).astype(np.float32))
    for file in (clip, {"waveform": noise, "sample_rate": 16_000}):
        out = pipeline(file, num_speakers=2)
        assert (out.segments, out.speaker_diarization.labels()) == ((), [])


def test_a_missing_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        adapter.SpeakerAttributedTranscription(recognizer=tmp_path / "none")


def test_a_diarization_that_gives_no_turns_is_told(pipeline: Any) -> None:
    class Wrong(Pipeline):  # type: ignore[misc]
        def apply(self, file: Any, hook: Any = None) -> Any:
            return {"turns": []}

    with pytest.raises(ValueError, match="returned dict"):
        adapter.SpeakerAttributedTranscription(Wrong(), pipeline.recognizer)(ENGLISH)


# --- the offline diarization


def test_der_on_pyannotes_sample_with_the_count_given(meeting: Any) -> None:
    (reference,) = load_rttm(SAMPLE.with_suffix(".rttm")).values()
    assert DiarizationErrorRate()(reference, meeting.speaker_diarization) <= 0.08


def test_the_count_can_be_bounded(pipeline: Any) -> None:
    assert len(pipeline.diarization(pipeline_file(SAMPLE), max_speakers=1).speaker_diarization.labels()) == 1
    assert len(pipeline.diarization(pipeline_file(SAMPLE), min_speakers=3).speaker_diarization.labels()) >= 3


def pipeline_file(path: Path) -> dict[str, Any]:
    samples, rate = sf.read(path, dtype="float32")
    return {"waveform": torch.from_numpy(samples)[None], "sample_rate": rate, "uri": path.stem}


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
    points = project.get("entry-points", {}).get("diffusion_asr.adapters", {})
    assert importlib.import_module(points["pyannote"]) is adapter
    assert pickle.loads(pickle.dumps(Turn(0, 1, "A"))) == Turn(0, 1, "A")
