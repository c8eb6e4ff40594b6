"""The transformers adapter, with the real transformers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import soxr
import torch

from diffusion_asr import Recognizer
from diffusion_asr.errors import ModelError

transformers = pytest.importorskip("transformers", reason="pip install 'diffusion-asr[transformers]'")
adapter = pytest.importorskip("diffusion_asr_transformers", exc_type=ImportError)

CLIPS = {"en": "en-arctic_a0239_1592711579.flac", "de": "de-de_rhasspy-0208.flac"}
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def core() -> Recognizer:
    return Recognizer.from_pretrained()


@pytest.fixture(scope="module")
def asr() -> Any:
    model = adapter.DiffusionASRForSpeech.from_pretrained()
    return transformers.pipeline(
        "automatic-speech-recognition", model=model, pipeline_class=adapter.DiffusionASRPipeline
    )


@pytest.mark.parametrize("language", CLIPS)
def test_the_words_are_cores(asr: Any, core: Recognizer, language: str) -> None:
    path = DATA / CLIPS[language]
    expected = core.transcribe(path, language=language)
    found = asr(str(path), return_timestamps="word", generate_kwargs={"language": language})
    assert found["text"] == expected.text != ""
    assert [(c["text"], *c["timestamp"]) for c in found["chunks"]] == [
        (w.text, w.start, w.end) for w in expected.words
    ]


def test_every_kind_of_input_gives_the_same_text(asr: Any) -> None:
    path = DATA / CLIPS["en"]
    samples, rate = sf.read(path, dtype="float32")
    expected = asr(path, language="en", chunk_length_s=30)["text"]
    kinds = [str(path), path.read_bytes(), {"array": samples, "sampling_rate": rate}, {"path": str(path)}]
    kinds.append({"raw": np.stack([samples, samples]), "sampling_rate": rate})  # stereo
    assert [x["text"] for x in asr(kinds, language="en", batch_size=2)] == [expected] * len(kinds)
    assert [x["text"] for x in asr((k for k in kinds[:2]), language="en")] == [expected] * 2
    assert rate == 16000
    assert asr(samples, language="en")["text"] == expected


def test_segments_and_languages(asr: Any) -> None:
    found = asr(DATA / CLIPS["de"], return_timestamps=True, return_language=True, language="de", steps=2)
    assert found["chunks"]
    assert " ".join(c["text"] for c in found["chunks"]) == found["text"]
    assert {c["language"] for c in found["chunks"]} == {"de"}


def test_the_registered_task_loads_a_saved_folder(asr: Any, tmp_path: Path) -> None:
    asr.save_pretrained(tmp_path / "saved")
    assert list((tmp_path / "saved").rglob("*.safetensors"))
    again = transformers.pipeline("diffusion-asr", model=str(tmp_path / "saved"))
    assert isinstance(again, adapter.DiffusionASRPipeline)
    path = DATA / CLIPS["en"]
    assert again(path, language="en") == asr(path, language="en")
    assert transformers.AutoConfig.from_pretrained(tmp_path / "saved").languages == asr.model.config.languages
    loaded = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path / "saved")
    assert isinstance(loaded, adapter.DiffusionASRForSpeech)
    with pytest.raises(ModelError, match="exists"):
        loaded.save_pretrained(tmp_path / "saved")


def test_the_task_has_the_embedded_model_as_its_default(asr: Any, tmp_path: Path) -> None:
    path = DATA / CLIPS["de"]
    assert transformers.pipeline("diffusion-asr")(path, language="de") == asr(path, language="de")
    named = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(adapter.CANVAS_BASE)
    assert named.config.languages == asr.model.config.languages
    with pytest.raises(ModelError, match="no model 'canvas-huge'"):
        adapter.DiffusionASRForSpeech.from_pretrained("canvas-huge")


def test_a_corrupt_saved_model_is_refused(asr: Any, tmp_path: Path) -> None:
    asr.model.save_pretrained(tmp_path)
    path = tmp_path / "recognizer/denoiser.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="corrupt"):
        adapter.DiffusionASRForSpeech.from_pretrained(tmp_path)


def test_trained_weights_are_what_is_saved(tmp_path: Path) -> None:
    model = adapter.DiffusionASRForSpeech.from_pretrained()
    with torch.no_grad():
        model.denoiser.null_bias += 1.0
    model.save_pretrained(tmp_path)
    again = adapter.DiffusionASRForSpeech.from_pretrained(tmp_path)
    assert torch.equal(again.denoiser.null_bias, model.denoiser.null_bias)


def test_forward_is_one_parallel_pass(core: Recognizer) -> None:
    model = adapter.DiffusionASRForSpeech(adapter.DiffusionASRConfig(), core)
    samples, _ = sf.read(DATA / CLIPS["en"], dtype="float32")
    with torch.inference_mode():
        logits = model(torch.from_numpy(samples)[None], language=["en"]).logits
        assert torch.equal(model(torch.from_numpy(samples)[None]).logits, logits)  # the language is detected
    (hypothesis,) = core.decode(core.encode(torch.from_numpy(samples)[None]), "en", steps=1)
    assert logits.shape == (1, len(hypothesis.decoded.canvas), len(core.parts.vocabulary))
    assert bool(torch.isfinite(logits).all())
    english = torch.tensor(core.parts.vocabulary.pieces_for("en"))
    assert torch.equal(english[logits[0][:, english].argmax(-1)], hypothesis.decoded.canvas)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("no-such-file.wav", {}, "no-such-file.wav"),
        (np.full(16000, np.nan, np.float32), {}, "sample is nan"),
        (b"not audio", {}, "bytes are not audio"),
        ("https://example.org/a.wav", {}, "download"),
        ({"array": np.zeros(5)}, {}, "sampling_rate"),
        (DATA / CLIPS["en"], {"generate_kwargs": {"language": "tlh"}}, "tlh"),
        (DATA / CLIPS["en"], {"generate_kwargs": {"task": "translate"}}, "translate"),
        (DATA / CLIPS["en"], {"generate_kwargs": {"num_beams": 5}}, "num_beams"),
        (DATA / CLIPS["en"], {"steps": 0}, "steps must be a whole number of passes"),
        (DATA / CLIPS["en"], {"start": "silence"}, "start must be 'null', 'noise'"),
        (DATA / CLIPS["en"], {"trace": True}, "unknown options trace"),
        (DATA / CLIPS["en"], {"return_timestamps": "phone"}, "phone"),
    ],
)
def test_bad_input_is_a_value_error_with_our_message(
    asr: Any, inputs: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        asr(inputs, **options)


def test_a_clip_of_48_khz_stereo_has_the_words_of_core(asr: Any, core: Recognizer, tmp_path: Path) -> None:
    samples, rate = sf.read(DATA / CLIPS["en"], dtype="float32")
    wide = soxr.resample(samples, rate, 48_000)
    stereo, path = np.stack([wide, 0.5 * wide]), tmp_path / "wide.wav"
    sf.write(path, stereo.T, 48_000, subtype="FLOAT")
    expected = core.transcribe(path, "en").text
    assert expected
    assert asr(str(path), language="en")["text"] == expected
    assert asr({"array": stereo, "sampling_rate": 48_000}, language="en")["text"] == expected


def test_empty_files_are_told_and_empty_sound_has_no_text(asr: Any, tmp_path: Path) -> None:
    (tmp_path / "nothing.wav").touch()
    with pytest.raises(ValueError, match=r"nothing.wav.*empty \(0 bytes\)"):
        asr(str(tmp_path / "nothing.wav"))
    sf.write(tmp_path / "header.wav", np.zeros(0, np.float32), 16_000)
    assert asr(str(tmp_path / "header.wav")) == {"text": ""}


def test_without_the_toolkit_the_error_names_the_install_command() -> None:
    code = "import sys; sys.modules['transformers'] = None; import diffusion_asr_transformers"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "pip install 'diffusion-asr[transformers]'" in done.stderr


def test_silence(asr: Any) -> None:
    for samples in (0, 1, 32000):
        assert asr(np.zeros(samples, np.float32), return_timestamps="word") == {"text": "", "chunks": []}
    loud = {"array": np.zeros((2, 48000), np.float32), "sampling_rate": 48000}
    assert asr(loud)["text"] == ""
