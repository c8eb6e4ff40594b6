"""The NeMo adapter with the real toolkit and real speech.

NeMo's own scripts are not in its wheel: DIFFUSION_ASR_NEMO_CLONE names a clone of NeMo, whose
examples/asr/transcribe_speech.py and speech_to_text_eval.py are run as they are. Without it the functions of
the installed package that the scripts consist of are run.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

from nemo.collections.asr.models import ASRModel
from nemo.collections.asr.parts.mixins.transcription import TranscriptionTensorDataset
from nemo.collections.asr.parts.utils.diarization_utils import OfflineDiarWithASR
from nemo.core.classes import common as nemo_common
from omegaconf import OmegaConf

from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import DiffusionASRModel, RecognitionError, words_and_times
from diffusion_asr_nemo.decoding import decoding_options, decoding_section
from tests.support.audio_files import SPEECH
from tests.support.nemo_helpers import (
    CLIPS,
    DATA,
    ROOT,
    assert_same,
    entry,
    errors,
    joiner_config,
    language,
    run,
    shared,
    transcribe_like_the_script,
    write_manifest,
)

CLONE = os.environ.get("DIFFUSION_ASR_NEMO_CLONE", "")
needs_shared = pytest.mark.skipif(not (SPEECH / "manifest.jsonl").is_file(), reason="no shared speech here")


@pytest.fixture(scope="module")
def core() -> Recognizer:
    return Recognizer.from_pretrained()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nemo") / "canvas-base.nemo"
    DiffusionASRModel.from_checkpoint().save_to(str(path))
    return path


@pytest.fixture(scope="module")
def model(archive: Path) -> Any:
    return DiffusionASRModel.restore_from(str(archive), map_location="cpu")


def test_paths_give_the_words_of_core(model: Any, core: Recognizer) -> None:
    heard = model.transcribe([str(c) for c in CLIPS], batch_size=3, timestamps=True, verbose=False)
    assert len(heard) == len(CLIPS)
    for clip, hypothesis in zip(CLIPS, heard, strict=True):
        assert hypothesis.text
        assert_same(hypothesis, core.transcribe(clip))
        spelled = core.parts.vocabulary.decode(hypothesis.y_sequence)
        assert spelled.replace(" ", "") == hypothesis.text.replace(" ", "")


@needs_shared
@pytest.mark.parametrize("lang", ["en", "de", "fr", "es", "hi", "zh"])
def test_every_language_gives_the_words_of_core(model: Any, core: Recognizer, lang: str) -> None:
    clip = shared(lang)
    (hypothesis,) = model.transcribe(str(clip), source_lang=lang, return_hypotheses=True, verbose=False)
    assert hypothesis.text
    assert_same(hypothesis, core.transcribe(clip, language=lang))


def test_arrays_and_nemos_own_batches(model: Any, core: Recognizer) -> None:
    clips = [sf.read(c, dtype="float32")[0] for c in CLIPS[:2]]
    expected = [core.transcribe(c).text for c in clips]
    assert [h.text for h in model.transcribe(clips, verbose=False)] == expected
    assert model.transcribe(torch.from_numpy(clips[0]), verbose=False)[0].text == expected[0]
    config = {
        "audio_tensors": [torch.from_numpy(c) for c in clips],
        "channel_selector": None,
        "sample_rate": 16_000,
    }

    def padded(rows: Any) -> Any:
        audio = torch.nn.utils.rnn.pad_sequence([r[0] for r in rows], batch_first=True)
        return audio, torch.stack([r[1] for r in rows]), None, None

    batches = torch.utils.data.DataLoader(TranscriptionTensorDataset(config), batch_size=2, collate_fn=padded)
    assert [h.text for h in model.transcribe(batches, verbose=False)] == expected


def test_short_arrays_keep_their_times(model: Any, core: Recognizer) -> None:
    samples = sf.read(DATA / "en-arctic_a0095_1592746305.flac", dtype="float32")[0]
    clip = samples[int(1.7 * 16_000) : int(2.4 * 16_000)]
    (hypothesis,) = model.transcribe([clip], source_lang="en", timestamps=True, verbose=False)
    assert hypothesis.text, "the clip must hold a word, or this test shows nothing"
    assert_same(hypothesis, core.transcribe(clip, language="en"))
    assert all(0 <= w["start"] <= w["end"] <= 0.7 for w in hypothesis.timestamp["word"])


def test_times_only_when_asked_for(model: Any) -> None:
    clip = str(CLIPS[-1])
    assert model.transcribe(clip, verbose=False)[0].timestamp == []
    (timed,) = model.transcribe(clip, timestamps=True, verbose=False)
    for part in timed.timestamp["word"] + timed.timestamp["segment"]:
        assert part["start_offset"] == round(part["start"] * 50)
        assert part["end_offset"] == round(part["end"] * 50)
    assert len(timed.word_confidence) == len(timed.timestamp["word"])


def test_relative_paths(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.flac").write_bytes(CLIPS[0].read_bytes())
    manifest = write_manifest(tmp_path / "m.json", [{**entry(CLIPS[0]), "audio_filepath": "clip.flac"}])
    listed = model.transcribe(str(manifest), verbose=False)
    monkeypatch.chdir(tmp_path)
    given = model.transcribe(["clip.flac"], verbose=False)
    assert listed[0].text == given[0].text != ""


def test_manifest_with_languages_and_parts(model: Any, core: Recognizer, tmp_path: Path) -> None:
    clip = DATA / "en-arctic_a0095_1592746305.flac"
    entries = [
        entry(clip, lang="de"),
        entry(clip, source_lang="en", lang="de"),
        entry(clip) | {"offset": 1.0, "duration": 1.5, "lang": "en"},
        entry(clip),
    ]
    manifest = write_manifest(tmp_path / "m.json", entries)
    heard = model.transcribe(str(manifest), source_lang="fr", timestamps=True, verbose=False)
    part = sf.read(clip, dtype="float32")[0][16_000:40_000]
    assert_same(heard[0], core.transcribe(clip, language="de"))
    assert_same(heard[1], core.transcribe(clip, language="en"))
    assert_same(heard[2], core.transcribe(part, language="en"))
    assert_same(heard[3], core.transcribe(clip, language="fr"))


def test_stereo_at_48_khz(model: Any, core: Recognizer, tmp_path: Path) -> None:
    import soxr

    samples, rate = sf.read(CLIPS[-1], dtype="float32")
    left = soxr.resample(samples, rate, 48_000)
    path = tmp_path / "stereo.wav"
    sf.write(path, np.stack([left, np.zeros_like(left)], axis=1), 48_000)
    assert_same(model.transcribe(str(path), timestamps=True, verbose=False)[0], core.transcribe(path))
    texts = [model.transcribe(str(path), channel_selector=n, verbose=False)[0].text for n in (0, 1)]
    assert texts[0]
    assert texts[1] == ""
    with pytest.raises(RecognitionError, match="channels 0 to 1"):
        model.transcribe(str(path), channel_selector=2, verbose=False)


def test_silence_and_empty_clips_give_no_text(model: Any) -> None:
    heard = model.transcribe(
        [np.zeros(32_000, np.float32), np.zeros(0, np.float32)], timestamps=True, verbose=False
    )
    assert [(h.text, h.word_confidence, h.timestamp["word"]) for h in heard] == [("", [], [])] * 2


def test_bad_input_is_named(model: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    for path in (empty, tmp_path / "none.wav"):
        with pytest.raises(RecognitionError, match=path.name):
            model.transcribe([str(path)], verbose=False)
    with pytest.raises(ValueError, match="unknown language 'xx'; this model knows en"):
        model.transcribe(str(CLIPS[0]), source_lang="xx", verbose=False)
    manifest = write_manifest(tmp_path / "m.json", [entry(CLIPS[0], lang="tlh")])
    with pytest.raises(RecognitionError, match="unknown language 'tlh'"):
        model.transcribe(str(manifest), verbose=False)
    with pytest.raises(RecognitionError, match=r"a sample is nan at 0\.000 s"):
        model.transcribe(np.full(32_000, np.nan, np.float32), verbose=False)
    with pytest.raises(DiffusionASRError, match="no model 'nope'"):
        DiffusionASRModel.from_checkpoint("nope")
    with pytest.raises(FileNotFoundError, match=r"nope\.nemo"):
        DiffusionASRModel.restore_from(str(tmp_path / "nope.nemo"))


def test_archive_holds_no_pickle_and_leaves_the_allow_list(archive: Path, model: Any) -> None:
    with tarfile.open(archive) as tar:
        kinds = {Path(m.name).suffix for m in tar if m.isfile()}
    assert kinds == {".yaml", ".json", ".safetensors"}
    assert not any("diffusion" in prefix for prefix in nemo_common.ALLOWED_TARGET_PREFIXES)
    assert type(model) is DiffusionASRModel
    with pytest.raises(nemo_common.UnsafeTargetError):  # NeMo's control still refuses other people's classes
        ASRModel.restore_from(str(archive), map_location="cpu")


def test_corrupt_and_foreign_archives_are_refused(archive: Path, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as tar:
        data[tar.getmember("./canvas/denoiser.safetensors").offset_data + 1_000_000] ^= 1
    broken = tmp_path / "broken.nemo"
    broken.write_bytes(data)
    with pytest.raises(RecognitionError, match="corrupt: its sha256"):
        DiffusionASRModel.restore_from(str(broken))
    (tmp_path / "model_config.yaml").write_text("sample_rate: 16000\n")
    foreign = tmp_path / "foreign.nemo"
    with tarfile.open(foreign, "w") as tar:
        tar.add(tmp_path / "model_config.yaml", "./model_config.yaml")
    with pytest.raises(RecognitionError, match="no diffusion-asr model"):
        DiffusionASRModel.restore_from(str(foreign))
    assert DiffusionASRModel.from_checkpoint().recognizer.languages  # a failed restore leaves nothing behind


def test_options_are_kept_and_used(core: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "noisy.nemo"
    DiffusionASRModel.from_checkpoint(language="en", steps=1, start="noise").save_to(str(path))
    restored = DiffusionASRModel.restore_from(str(path))
    (first,) = restored.transcribe(str(CLIPS[-1]), timestamps=True, verbose=False)
    assert_same(first, core.transcribe(CLIPS[-1], language="en", steps=1, start="noise"))
    (more,) = restored.transcribe(str(CLIPS[-1]), steps=6, timestamps=True, verbose=False)
    expected = core.transcribe(CLIPS[-1], language="en", steps=6, start="noise")
    assert_same(more, expected)
    assert first.text != more.text
    assert restored.decoding == DecodingOptions(steps=1, start="noise")
    restored.cfg.decoding.steps = 6  # as NeMo's users change a model's decoding
    assert_same(restored.transcribe(str(CLIPS[-1]), timestamps=True, verbose=False)[0], expected)


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ({"steps": 2, "init": "draft"}, DecodingOptions(steps=2)),
        ({"steps": None, "init": "noise"}, DecodingOptions(start="noise")),
        ({"start": None}, DecodingOptions()),  # hydra's and YAML's bare null
        ({"start": "noise", "seed": 3}, DecodingOptions(start="noise", seed=3)),
        (None, DecodingOptions()),
    ],
)
def test_sections_of_any_version_are_read(section: Any, options: DecodingOptions) -> None:
    assert decoding_options(section) == options
    assert decoding_options(decoding_section(options)) == options


@pytest.mark.parametrize("old", [{"steps": 1, "init": "draft"}, {"steps": 1, "init": "noise"}])
def test_archives_with_the_old_name_of_the_start_still_load(
    archive: Path, core: Recognizer, tmp_path: Path, old: dict[str, Any]
) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    config = OmegaConf.load(tmp_path / "unpacked/model_config.yaml")
    config.decoding = old
    OmegaConf.save(config, tmp_path / "unpacked/model_config.yaml")
    with tarfile.open(tmp_path / "old.nemo", "w") as tar:
        tar.add(tmp_path / "unpacked", ".")
    restored = DiffusionASRModel.restore_from(str(tmp_path / "old.nemo"))
    start = "noise" if old["init"] == "noise" else "null"
    (hypothesis,) = restored.transcribe(str(CLIPS[-1]), source_lang="en", timestamps=True, verbose=False)
    assert_same(hypothesis, core.transcribe(CLIPS[-1], "en", steps=1, start=start))
    assert restored.cfg.decoding.start == start
    assert "init" not in restored.cfg.decoding  # saved again, it has today's name


def test_options_that_make_no_sense_are_told_before_any_work(model: Any) -> None:
    with pytest.raises(RecognitionError, match="unknown decoding options: beams; there are steps"):
        DiffusionASRModel.from_checkpoint("nope", beams=5)
    with pytest.raises(RecognitionError, match="start must be 'null', 'noise'"):
        DiffusionASRModel.from_checkpoint("nope", start="silence")
    with pytest.raises(RecognitionError, match="steps must be a whole number of passes"):
        model.transcribe([str(DATA / "no-such.flac")], steps=0, verbose=False)


def test_trained_weights_survive_nemo_and_core(archive: Path, tmp_path: Path) -> None:
    tuned = DiffusionASRModel.restore_from(str(archive))
    weights = {k: v.float().clone() for k, v in tuned.state_dict().items()}
    weights["canvas.null_bias"] += 0.125
    tuned.load_state_dict(weights)
    tuned.save_to(str(tmp_path / "tuned.nemo"))
    again = DiffusionASRModel.restore_from(str(tmp_path / "tuned.nemo"))
    assert torch.equal(
        again.canvas.null_bias.float(), tuned.canvas.null_bias.to(again.canvas.null_bias.dtype).float()
    )
    again.save_to(str(tmp_path / "tuned.nemo"))  # over the file that it came from
    command = ("unpack", tmp_path / "tuned.nemo", tmp_path / "folder")
    assert run([sys.executable, "-m", "diffusion_asr_nemo", *command]).returncode == 0
    core = Recognizer.from_pretrained(tmp_path / "folder")
    (hypothesis,) = again.transcribe(str(CLIPS[-1]), timestamps=True, verbose=False)
    assert_same(hypothesis, core.transcribe(CLIPS[-1]))
    again.save_folder(tmp_path / "alone", refiner=False)
    alone = Recognizer.from_pretrained(tmp_path / "alone")
    assert isinstance(alone.parts.decoder, DiffusionDecoder)  # the denoiser alone
    assert torch.equal(find_denoiser(alone.parts).null_bias, find_denoiser(core.parts).null_bias)
    with pytest.raises(RecognitionError, match="exists: choose another folder"):
        again.save_folder(tmp_path / "alone")


def test_export_command_and_missing_toolkit(tmp_path: Path) -> None:
    failed = run(
        [sys.executable, "-m", "diffusion_asr_nemo", "export", tmp_path / "x.nemo", "--checkpoint", "nope"]
    )
    assert failed.returncode == 1
    assert "no model 'nope'" in failed.stderr
    assert "Traceback" not in failed.stderr
    code = "import sys; sys.modules['nemo'] = None; import diffusion_asr_nemo"
    assert "pip install 'diffusion-asr[nemo]'" in run([sys.executable, "-c", code]).stderr


@pytest.mark.timeout(900)
def test_nemos_scripts_transcribe_and_score(
    archive: Path, core: Recognizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(which: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nNeMo scripts: {which}\n")

    manifest = write_manifest(tmp_path / "m.json", [entry(c, lang=language(c)) for c in CLIPS])
    out = tmp_path / "out.json"
    if CLONE:
        say(f"unmodified scripts of {CLONE}")
        scripts = Path(CLONE) / "examples/asr"
        common = [
            f"model_path={archive}",
            f"dataset_manifest={manifest}",
            f"output_filename={out}",
            "batch_size=2",
        ]
        scored = run([sys.executable, scripts / "speech_to_text_eval.py", *common], tmp_path)
        assert scored.returncode == 0, scored.stderr[-2000:]
        assert "Dataset WER/CER" in scored.stderr + scored.stdout
        more = ["timestamps=True", "compute_langs=True"]
        done = run([sys.executable, scripts / "transcribe_speech.py", *common, *more], tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        say("DIFFUSION_ASR_NEMO_CLONE is not set: the scripts' functions from the installed package")
        transcribe_like_the_script(archive, manifest, out)
    rows = [json.loads(line) for line in out.read_text(encoding="utf8").splitlines()]
    assert len(rows) == len(CLIPS)
    for clip, row in zip(CLIPS, rows, strict=True):
        transcript = core.transcribe(clip, language=language(clip))
        assert row["pred_text"] == transcript.text
        assert row["pred_lang"] == language(clip)
        assert [(w["word"], w["start"]) for w in row["word"]] == [(w.text, w.start) for w in transcript.words]
        assert 0 <= row["wer"] < 1.5


@pytest.mark.timeout(900)
def test_fine_tuning_lowers_the_loss_and_transcribes(archive: Path, core: Recognizer, tmp_path: Path) -> None:
    clip = DATA / "en-arctic_a0095_1592746305.flac"
    manifest = write_manifest(tmp_path / "train.json", [entry(clip, lang="en")] * 2)
    tuned, log = tmp_path / "tuned.nemo", tmp_path / "logs"
    options = [
        f"init_from={archive}", f"output={tuned}", f"log_dir={log}", f"train_ds.manifest_filepath={manifest}",
        f"validation_ds.manifest_filepath={manifest}", "train_ds.batch_size=2", "validation_ds.batch_size=2",
        "optim.lr=1e-4", "trainer.max_steps=8", "trainer.log_every_n_steps=1",
        "+trainer.enable_progress_bar=false",
    ]  # fmt: skip
    done = run([sys.executable, ROOT / "recipes/nemo/finetune.py", *options], tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    with next(log.rglob("metrics.csv")).open() as lines:
        rows = list(csv.DictReader(lines))
    losses = [float(r["val_loss"]) for r in rows if r["val_loss"]]
    assert losses[-1] < 0.5 * losses[0], losses
    restored = DiffusionASRModel.restore_from(str(tuned))
    # A matrix: in bf16, a single number may round to what it was.
    assert not torch.equal(restored.canvas.inject.weight, find_denoiser(core.parts).inject.weight)
    reference = entry(clip)["text"]
    # The draft shows it: settled, the shipped model makes no error in this clip.
    drafts = (asr.transcribe(clip, "en", steps=1).text for asr in (core, restored.recognizer))
    before, after = (errors(draft, reference) for draft in drafts)
    assert after < before
    assert errors(heard(restored, clip), reference) <= errors(core.transcribe(clip, "en").text, reference)


def heard(model: Any, clip: Path) -> str:
    return str(model.transcribe(str(clip), source_lang="en", verbose=False)[0].text)


def test_training_needs_texts_and_languages(archive: Path, tmp_path: Path) -> None:
    model = DiffusionASRModel.restore_from(str(archive))
    empty = write_manifest(tmp_path / "a.json", [entry(CLIPS[0]) | {"text": ""}])
    with pytest.raises(RecognitionError, match="no entry with a text"):
        model.setup_training_data({"manifest_filepath": str(empty)})
    nameless = write_manifest(tmp_path / "b.json", [entry(CLIPS[0])])
    with pytest.raises(RecognitionError, match="training needs lang, one of en"):
        model.setup_training_data({"manifest_filepath": str(nameless)})


def test_words_meet_speakers_in_nemos_joiner(model: Any, tmp_path: Path) -> None:
    """Two speakers in turn: NeMo gives each of our words to the one who speaks."""
    turns = [
        sf.read(DATA / n, dtype="float32")[0] for n in sorted(json.loads((DATA / "texts.json").read_text()))
    ]
    english = [t for t, c in zip(turns, CLIPS, strict=True) if language(c) == "en"]
    recording = tmp_path / "meeting.wav"
    sf.write(recording, np.concatenate([english[0], np.zeros(16_000, np.float32), english[1]]), 16_000)
    change = len(english[0]) / 16_000 + 0.5
    (hypothesis,) = model.transcribe(str(recording), source_lang="en", timestamps=True, verbose=False)
    words, times = words_and_times({"meeting": hypothesis})
    end = sf.info(recording).duration
    turns_of = {"meeting": [f"0.0 {change:.3f} speaker_0", f"{change:.3f} {end:.3f} speaker_1"]}
    joiner = OfflineDiarWithASR(joiner_config(tmp_path, recording))
    told = joiner.get_transcript_with_speaker_labels(turns_of, words, times)["meeting"]
    spoken = [(w["word"], w["speaker"]) for w in told["words"]]
    expected = [
        (w["word"], "speaker_0" if w["start"] < change else "speaker_1") for w in hypothesis.timestamp["word"]
    ]
    assert spoken == expected
    assert {speaker for _, speaker in spoken} == {"speaker_0", "speaker_1"}
    assert (tmp_path / "pred_rttms/meeting.txt").is_file()
