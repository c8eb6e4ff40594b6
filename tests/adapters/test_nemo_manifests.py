"""NeMo's manifests: several, empty, and with their sound in tar archives."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import soundfile as sf
import torch

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

from diffusion_asr.errors import AudioError
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import DiffusionASRModel, RecognitionError
from diffusion_asr_nemo.clips import entry_clip, samples_of
from diffusion_asr_nemo.manifests import data_entries
from tests.support.nemo_helpers import CLIPS, entry, language, write_manifest


def tarred(folder: Path) -> dict[str, object]:
    """A data set's configuration whose clips lie in two archives, as NeMo's converter writes them."""
    for number in (0, 1):
        with tarfile.open(folder / f"audio_{number}.tar", "w") as tar:
            for clip in CLIPS[number::2]:
                tar.add(clip, f"./{clip.name}")
    rows = [
        entry(clip, lang=language(clip), shard_id=n % 2) | {"audio_filepath": clip.name}
        for n, clip in enumerate(CLIPS)
    ]
    manifest = write_manifest(folder / "tarred.json", rows)
    archives = str(folder / "audio__OP_0..1_CL_.tar")
    return {"manifest_filepath": str(manifest), "is_tarred": True, "tarred_audio_filepaths": archives}


def test_sound_is_read_from_tar_archives(tmp_path: Path) -> None:
    entries = data_entries(tarred(tmp_path))
    assert len(entries) == len(CLIPS)
    for clip, found in zip(CLIPS, entries, strict=True):
        samples = samples_of(entry_clip(found))
        assert torch.equal(torch.from_numpy(samples), torch.from_numpy(sf.read(clip, dtype="float32")[0]))
    part = samples_of(entry_clip(entries[0] | {"offset": 0.5, "duration": 1.0}))
    assert torch.equal(
        torch.from_numpy(part), torch.from_numpy(samples_of(entry_clip(entries[0]))[8000:24_000])
    )


def test_a_model_is_set_up_with_tarred_data(nemo_archive: Path, tmp_path: Path, core: Recognizer) -> None:
    model = DiffusionASRModel.restore_from(str(nemo_archive))
    model.setup_training_data({**tarred(tmp_path), "batch_size": len(CLIPS), "shuffle": False})
    (batch,) = model.train_dataloader()
    spell = core.parts.vocabulary.encode
    for clip, utterance in zip(CLIPS, batch, strict=True):
        assert utterance.tokens.tolist() == spell(entry(clip)["text"], language(clip))
        assert len(utterance.samples) == sf.info(clip).frames
    model.setup_test_data(
        {"manifest_filepath": str(write_manifest(tmp_path / "t.json", [entry(CLIPS[0], lang="German")]))}
    )
    ((one,),) = model.test_dataloader()
    assert one.language == "de"
    model.setup_validation_data({"manifest_filepath": None})
    assert not model.val_dataloader()
    with pytest.raises(RecognitionError, match="Lhotse's input_cfg is not read"):
        model.setup_training_data({"manifest_filepath": None, "input_cfg": "x.yaml"})


def test_what_no_archive_holds_is_told(tmp_path: Path) -> None:
    config = tarred(tmp_path)
    write_manifest(tmp_path / "tarred.json", [{"audio_filepath": "other.flac", "duration": 1.0, "text": "x"}])
    with pytest.raises(AudioError, match=r"other\.flac is in none of"):
        data_entries(config)
    with pytest.raises(AudioError, match=r"audio_7\.tar: not a readable tar archive"):
        data_entries({**config, "tarred_audio_filepaths": str(tmp_path / "audio_7.tar")})
    (tmp_path / "audio_7.tar").write_bytes(b"no archive")
    with pytest.raises(AudioError, match=r"audio_7\.tar: not a readable tar archive"):
        data_entries({**config, "tarred_audio_filepaths": [[str(tmp_path / "audio_7.tar")]]})


def test_several_manifests_are_one(tmp_path: Path) -> None:
    paths = [write_manifest(tmp_path / f"{n}.json", [entry(clip)]) for n, clip in enumerate(CLIPS)]
    for given in (",".join(map(str, paths)), [str(p) for p in paths], [[str(p)] for p in paths]):
        assert [e["audio_filepath"] for e in data_entries({"manifest_filepath": given})] == list(
            map(str, CLIPS)
        )


@pytest.mark.parametrize("text", ["", "\n\n", json.dumps({"audio_filepath": str(CLIPS[0]), "text": ""})])
def test_manifests_without_an_utterance_are_told(nemo_archive: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    model = DiffusionASRModel.restore_from(str(nemo_archive))
    with pytest.raises(RecognitionError, match=r"m\.json: no entry with a text of 0 to 30 s"):
        model.setup_training_data({"manifest_filepath": str(tmp_path / "m.json")})
