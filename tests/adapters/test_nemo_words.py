"""Whatever NeMo hands over, the words, times and confidences are core's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

from nemo.collections.asr.parts.mixins.transcription import TranscriptionTensorDataset
from nemo.collections.asr.parts.utils.diarization_utils import OfflineDiarWithASR

from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import DiffusionASRModel, RecognitionError, words_and_times
from tests.support.nemo_helpers import (
    CLIPS,
    DATA,
    assert_same,
    entry,
    joiner_config,
    language,
    write_manifest,
)
from tests.support.other_device import Accelerator, OtherDevice


def test_paths_give_the_words_of_core(nemo_model: Any, core: Recognizer) -> None:
    heard = nemo_model.transcribe([str(c) for c in CLIPS], batch_size=3, timestamps=True, verbose=False)
    assert len(heard) == len(CLIPS)
    for clip, hypothesis in zip(CLIPS, heard, strict=True):
        assert hypothesis.text
        assert_same(hypothesis, core.transcribe(clip))
        spelled = core.parts.vocabulary.decode(hypothesis.y_sequence)
        assert spelled.replace(" ", "") == hypothesis.text.replace(" ", "")


def test_all_clips_have_the_words_of_core(nemo_model: Any, heard_by_core: Any) -> None:
    for code in {code for code, _, _ in heard_by_core}:
        clips = [(samples, transcript) for one, samples, transcript in heard_by_core if one == code]
        found = nemo_model.transcribe([c for c, _ in clips], source_lang=code, timestamps=True, verbose=False)
        for (_, transcript), hypothesis in zip(clips, found, strict=True):
            assert_same(hypothesis, transcript)


def test_arrays_and_nemos_own_batches(nemo_model: Any, core: Recognizer) -> None:
    clips = [sf.read(c, dtype="float32")[0] for c in CLIPS[:2]]
    expected = [core.transcribe(c).text for c in clips]
    assert [h.text for h in nemo_model.transcribe(clips, verbose=False)] == expected
    assert nemo_model.transcribe(torch.from_numpy(clips[0]), verbose=False)[0].text == expected[0]
    config = {
        "audio_tensors": [torch.from_numpy(c) for c in clips],
        "channel_selector": None,
        "sample_rate": 16_000,
    }

    def padded(rows: Any) -> Any:
        audio = torch.nn.utils.rnn.pad_sequence([r[0] for r in rows], batch_first=True)
        return audio, torch.stack([r[1] for r in rows]), None, None

    batches = torch.utils.data.DataLoader(TranscriptionTensorDataset(config), batch_size=2, collate_fn=padded)
    assert [h.text for h in nemo_model.transcribe(batches, verbose=False)] == expected


def test_short_arrays_keep_their_times(nemo_model: Any, core: Recognizer) -> None:
    samples = sf.read(DATA / "en-arctic_a0095_1592746305.flac", dtype="float32")[0]
    clip = samples[int(1.7 * 16_000) : int(2.4 * 16_000)]
    (hypothesis,) = nemo_model.transcribe([clip], source_lang="en", timestamps=True, verbose=False)
    assert hypothesis.text, "the clip must hold a word, or this test shows nothing"
    assert_same(hypothesis, core.transcribe(clip, language="en"))
    assert all(0 <= w["start"] <= w["end"] <= 0.7 for w in hypothesis.timestamp["word"])


def test_times_only_when_asked_for(nemo_model: Any) -> None:
    clip = str(CLIPS[-1])
    assert nemo_model.transcribe(clip, verbose=False)[0].timestamp == []
    (timed,) = nemo_model.transcribe(clip, timestamps=True, verbose=False)
    for part in timed.timestamp["word"] + timed.timestamp["segment"]:
        assert part["start_offset"] == round(part["start"] * 50)
        assert part["end_offset"] == round(part["end"] * 50)
    assert len(timed.word_confidence) == len(timed.timestamp["word"])


def test_relative_paths(nemo_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.flac").write_bytes(CLIPS[0].read_bytes())
    manifest = write_manifest(tmp_path / "m.json", [{**entry(CLIPS[0]), "audio_filepath": "clip.flac"}])
    listed = nemo_model.transcribe(str(manifest), verbose=False)
    monkeypatch.chdir(tmp_path)
    given = nemo_model.transcribe(["clip.flac"], verbose=False)
    assert listed[0].text == given[0].text != ""


def test_manifest_with_languages_and_parts(nemo_model: Any, core: Recognizer, tmp_path: Path) -> None:
    clip = DATA / "en-arctic_a0095_1592746305.flac"
    entries = [
        entry(clip, lang="de"),
        entry(clip, source_lang="en", lang="de"),
        entry(clip) | {"offset": 1.0, "duration": 1.5, "lang": "en"},
        entry(clip),
    ]
    manifest = write_manifest(tmp_path / "m.json", entries)
    heard = nemo_model.transcribe(str(manifest), source_lang="fr", timestamps=True, verbose=False)
    part = sf.read(clip, dtype="float32")[0][16_000:40_000]
    assert_same(heard[0], core.transcribe(clip, language="de"))
    assert_same(heard[1], core.transcribe(clip, language="en"))
    assert_same(heard[2], core.transcribe(part, language="en"))
    assert_same(heard[3], core.transcribe(clip, language="fr"))


def test_stereo_at_48_khz(nemo_model: Any, core: Recognizer, tmp_path: Path) -> None:
    import soxr

    samples, rate = sf.read(CLIPS[-1], dtype="float32")
    left = soxr.resample(samples, rate, 48_000)
    path = tmp_path / "stereo.wav"
    sf.write(path, np.stack([left, np.zeros_like(left)], axis=1), 48_000)
    assert_same(nemo_model.transcribe(str(path), timestamps=True, verbose=False)[0], core.transcribe(path))
    texts = [nemo_model.transcribe(str(path), channel_selector=n, verbose=False)[0].text for n in (0, 1)]
    assert texts[0]
    assert texts[1] == ""
    both = nemo_model.transcribe(str(path), channel_selector=[0, 1], timestamps=True, verbose=False)[0]
    assert_same(both, core.transcribe(path))
    with pytest.raises(RecognitionError, match="channels 0 to 1"):
        nemo_model.transcribe(str(path), channel_selector=2, verbose=False)


def test_silence_and_empty_clips_give_no_text(nemo_model: Any) -> None:
    heard = nemo_model.transcribe(
        [np.zeros(32_000, np.float32), np.zeros(0, np.float32)], timestamps=True, verbose=False
    )
    assert [(h.text, h.word_confidence, h.timestamp["word"]) for h in heard] == [("", [], [])] * 2


def test_no_clips_are_no_hypotheses(nemo_model: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("\n")
    assert nemo_model.transcribe([], verbose=False) == []
    assert nemo_model.transcribe(str(tmp_path / "empty.json"), verbose=False) == []
    (heard,) = nemo_model.transcribe(CLIPS[0], verbose=False)  # a Path
    assert heard.text


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_precision_and_place_do_not_change_the_words(
    nemo_archive: Path, core: Recognizer, kind: torch.dtype
) -> None:
    model = DiffusionASRModel.restore_from(str(nemo_archive), map_location="meta")
    weights = {name: value.dtype for name, value in model.state_dict().items()}
    model.half().cuda().to(kind).to("meta").double()  # as scripts do where there is an accelerator
    assert {name: value.dtype for name, value in model.state_dict().items()} == weights
    assert {p.device.type for p in model.parameters()} == {model.device.type} == {"cpu"}
    torch.set_default_dtype(kind)  # trainer.precision=16-true
    try:
        with torch.autocast("cpu", dtype=kind):  # amp=True
            found = model.transcribe([str(c) for c in CLIPS[-2:]], timestamps=True, verbose=False)
    finally:
        torch.set_default_dtype(torch.float32)
    for clip, hypothesis in zip(CLIPS[-2:], found, strict=True):
        assert_same(hypothesis, core.transcribe(clip))


def test_arrays_of_an_accelerator(nemo_model: Any, core: Recognizer) -> None:
    samples = torch.from_numpy(sf.read(CLIPS[-1], dtype="float32")[0])
    with Accelerator():
        (found,) = nemo_model.transcribe([OtherDevice(samples)], timestamps=True, verbose=False)
    assert_same(found, core.transcribe(CLIPS[-1]))


def test_bad_input_is_named(nemo_model: Any, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    for path in (empty, tmp_path / "none.wav"):
        with pytest.raises(RecognitionError, match=path.name):
            nemo_model.transcribe([str(path)], verbose=False)
    with pytest.raises(ValueError, match="unknown language 'xx'; this model knows en"):
        nemo_model.transcribe(str(CLIPS[0]), source_lang="xx", verbose=False)
    manifest = write_manifest(tmp_path / "m.json", [entry(CLIPS[0], lang="tlh")])
    with pytest.raises(RecognitionError, match="unknown language 'tlh'"):
        nemo_model.transcribe(str(manifest), verbose=False)
    with pytest.raises(RecognitionError, match=r"a sample is nan at 0\.000 s"):
        nemo_model.transcribe(np.full(32_000, np.nan, np.float32), verbose=False)
    with pytest.raises(DiffusionASRError, match="no model 'nope'"):
        DiffusionASRModel.from_checkpoint("nope")
    with pytest.raises(FileNotFoundError, match=r"nope\.nemo"):
        DiffusionASRModel.restore_from(str(tmp_path / "nope.nemo"))


def test_words_meet_speakers_in_nemos_joiner(nemo_model: Any, tmp_path: Path) -> None:
    """Two speakers in turn: NeMo gives each of our words to the one who speaks."""
    turns = [
        sf.read(DATA / n, dtype="float32")[0] for n in sorted(json.loads((DATA / "texts.json").read_text()))
    ]
    english = [t for t, c in zip(turns, CLIPS, strict=True) if language(c) == "en"]
    recording = tmp_path / "meeting.wav"
    sf.write(recording, np.concatenate([english[0], np.zeros(16_000, np.float32), english[1]]), 16_000)
    change = len(english[0]) / 16_000 + 0.5
    (hypothesis,) = nemo_model.transcribe(str(recording), source_lang="en", timestamps=True, verbose=False)
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
