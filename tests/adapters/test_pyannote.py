"""The pyannote adapter with the real toolkit, offline. Speech: pyannote's own sample and tests/data."""

import json
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
from pyannote.audio.pipelines.speaker_diarization import DiarizeOutput
from pyannote.audio.pipelines.utils.hook import ArtifactHook, Hooks, ProgressHook, TimingHook
from pyannote.core import Annotation
from pyannote.core import Segment as Span
from pyannote.database.util import load_rttm
from pyannote.metrics.diarization import DiarizationErrorRate

import diffusion_asr_pyannote as adapter
from diffusion_asr.audio import files as audio
from diffusion_asr.errors import DiffusionASRError, ModelError
from diffusion_asr.formats import render
from diffusion_asr.meeting import DiarizationError, SpeakerCount, make_offline_diarizer
from diffusion_asr.meeting.diarizer import tidy_diarization
from diffusion_asr.meeting.offline import OfflineDiarizer
from diffusion_asr.transcript import Transcript

DATA = Path(__file__).parents[1] / "data"
ENGLISH = DATA / "en-arctic_a0095_1592746305.flac"
GERMAN = DATA / "de-de_rhasspy-0208.flac"
SAMPLE = Path(sample_package.__file__).parent / "sample.wav"


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
    with clip.open("rb") as opened:
        for given in (str(clip), opened):
            found = pipeline({"audio": given, "channel": 0, "uri": "left"}, language="en")
            assert found.text == left.text
    with pytest.raises(ValueError, match="no channel 3"):
        pipeline({"audio": clip, "channel": 2})
    with pytest.raises(ValueError, match="track 1 of a waveform"):
        pipeline(file, track=1)
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
    samples = audio.read_audio(SAMPLE)
    found = make_offline_diarizer().diarize(samples, SpeakerCount(2), lambda name, *_: stages.append(name))
    ours, theirs = adapter.turns_of(meeting.speaker_diarization), tidy_diarization(found, 30.0).turns
    assert [t.speaker for t in ours] == [t.speaker for t in theirs]
    assert [x for t in ours for x in (t.start, t.end)] == pytest.approx(
        [x for t in theirs for x in (t.start, t.end)]
    )
    assert {"segmentation", "embeddings"} <= set(stages)


def test_a_failure_in_that_process_is_one_error() -> None:
    diarizer = OfflineDiarizer("no_such_module", "none")
    with pytest.raises(DiarizationError, match="no_such_module"):
        diarizer.diarize(np.zeros(16_000, np.float32), SpeakerCount(), lambda *_: None)


def test_two_labels_that_are_written_the_same_way_are_told() -> None:
    turns = Annotation()
    turns[Span(0.0, 1.0)], turns[Span(1.0, 2.0)] = 1, "1"
    with pytest.raises(ValueError, match="two speakers of the same name"):
        adapter.turns_of(turns)


# --- in the place of pyannote's own


def test_the_result_serves_scripts_that_take_a_diarization(meeting: Any, tmp_path: Path) -> None:
    """The documented ways of pyannote.audio 3.1 (an ``Annotation``) and 4 (a ``DiarizeOutput``)."""
    turns = [(turn, speaker) for turn, _, speaker in meeting.itertracks(yield_label=True)]
    assert turns == [(t, s) for t, _, s in meeting.speaker_diarization.itertracks(yield_label=True)] != []
    assert list(meeting.itertracks()) == list(meeting.speaker_diarization.itertracks())
    assert meeting.labels() == ["SPEAKER_00", "SPEAKER_01"]
    assert meeting.uri == "sample"
    assert meeting.get_timeline().duration() == meeting.speaker_diarization.get_timeline().duration() > 10
    assert meeting.label_duration("SPEAKER_00") > 5
    with (tmp_path / "sample.rttm").open("w") as file:
        meeting.write_rttm(file)
    assert load_rttm(tmp_path / "sample.rttm")["sample"].labels() == meeting.labels()
    assert isinstance(meeting.words, tuple)
    assert meeting.words[0].speaker in meeting.labels()


@pytest.fixture(scope="module")
def output(pipeline: Any) -> Any:
    """What the diarization alone gives."""
    return pipeline.diarization(pipeline_file(SAMPLE), num_speakers=2)


def test_the_result_is_serialized_as_pyannote_s_with_the_words_beside(meeting: Any, output: Any) -> None:
    plain, theirs = json.loads(json.dumps(meeting.serialize())), output.serialize()
    assert plain["diarization"][0].keys() == theirs["diarization"][0].keys()
    assert plain.keys() == theirs.keys() | {"transcript"}
    for view in theirs:
        assert {row["speaker"] for row in plain[view]} == {row["speaker"] for row in theirs[view]}
    told = [(w["text"], w["start"], w["speaker"]) for s in plain["transcript"] for w in s["words"]]
    assert told == [(w.text, round(w.start, 3), w.speaker) for w in meeting.words]


def test_each_speaker_has_an_embedding(meeting: Any, output: Any) -> None:
    assert meeting.speaker_embeddings.shape[0] == 2
    assert np.allclose(meeting.speaker_embeddings, output.speaker_embeddings)
    assert not np.allclose(*meeting.speaker_embeddings)


def test_embeddings_follow_speakers_who_are_renamed_or_never_talk(pipeline: Any) -> None:
    class Known(Pipeline):  # type: ignore[misc]
        def apply(self, file: Any, hook: Any = None) -> Any:
            turns = Annotation()
            turns[Span(0.0, 1.0)], turns[Span(1.0, 2.0)], turns[Span(90.0, 91.0)] = "unknown", "b b", "a"
            return DiarizeOutput(turns, turns, np.array([[1.0], [2.0], [3.0]]))  # a, b b, unknown

    out = adapter.SpeakerAttributedTranscription(Known(), pipeline.recognizer)(ENGLISH, steps=1)
    assert out.labels() == ["b b", "unknown_2"]
    assert out.speaker_embeddings.tolist() == [[2.0], [3.0]]


@pytest.mark.parametrize("given", [adapter.OFFLINE_DIARIZATION, adapter.OFFLINE_DIARIZATION / "config.yaml"])
def test_our_own_class_takes_our_own_constants(given: Path, pipeline: Any) -> None:
    ours = adapter.SpeakerAttributedTranscription(given, pipeline.recognizer)
    assert type(ours.diarization) is adapter.OfflineDiarization
    assert ours.instantiated


def test_a_pipeline_like_ours_gives_its_diarization(pipeline: Any) -> None:
    ours = adapter.SpeakerAttributedTranscription(adapter.MEETING, pipeline.recognizer)
    assert type(ours.diarization) is adapter.OfflineDiarization


def test_what_is_no_diarization_is_told_without_asking_the_hub(pipeline: Any, tmp_path: Path) -> None:
    with pytest.raises(adapter.PipelineInputError, match="none: no such folder or file"):
        adapter.SpeakerAttributedTranscription(tmp_path / "none", pipeline.recognizer)
    with pytest.raises(adapter.PipelineInputError, match="not int"):
        adapter.SpeakerAttributedTranscription(3, pipeline.recognizer)


def test_parameters_of_a_diarization_are_taken_as_they_are(pipeline: Any) -> None:
    """As a script tunes or sets them for pyannote's own pipeline, and under the part's name."""
    ours = adapter.SpeakerAttributedTranscription(recognizer=pipeline.recognizer)
    bare = adapter.OfflineDiarization().default_parameters()
    changed = {**bare, "clustering": {**bare["clustering"], "threshold": 0.61}}
    assert ours.instantiate(changed) is ours
    assert ours.diarization.clustering.threshold == 0.61
    ours.instantiate({"diarization": bare})
    assert ours.parameters(instantiated=True) == {"diarization": bare}
    ours.instantiate(ours.parameters(instantiated=True))
    with pytest.raises(ValueError, match="'threshhold' does not exist"):
        ours.instantiate({"clustering": {"threshhold": 0.5}})
    ours.freeze({"segmentation": {"min_duration_off": 0.2}})
    assert ours.parameters(frozen=True)["diarization"]["segmentation"] == {"min_duration_off": 0.2}


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
    with pytest.raises(adapter.PipelineInputError, match="steps must be a whole number of passes"):
        pipeline(ENGLISH, steps=0)
    with pytest.raises(adapter.PipelineInputError, match="unknown decoding options: beams"):
        pipeline(ENGLISH, beams=5)
    with pytest.raises(adapter.PipelineInputError, match="start must be 'null', 'noise'"):
        adapter.SpeakerAttributedTranscription(recognizer=pipeline.recognizer, start="silence")


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
