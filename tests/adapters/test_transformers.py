"""The transformers adapter, with the real transformers: what comes out, and what is said of errors."""

from __future__ import annotations

import copy
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from diffusion_asr.decoding.decoder import Decoded
from diffusion_asr.errors import ModelError
from diffusion_asr.models.tuned import make_trainable
from diffusion_asr.transcript import Segment, Transcript, Word
from tests.support import tiny
from tests.support.transformers_helpers import (
    CLIPS,
    DATA,
    ENGLISH,
    Elsewhere,
    adapter,
    shipped_core,
    shipped_model,
    shipped_pipeline,
    tiny_model,
    transformers,
)


@pytest.fixture(scope="module")
def asr() -> Any:
    return shipped_pipeline()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return adapter.DiffusionASRPipeline(model=tiny_model(tmp_path_factory.mktemp("small")))


@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_the_words_are_cores(asr: Any, path: Path) -> None:
    expected = shipped_core().transcribe(path)
    found = asr(str(path), return_timestamps="word", return_language=True)
    assert found["text"] == expected.text != ""
    assert [(c["text"].strip(), *c["timestamp"]) for c in found["chunks"]] == [
        (w.text, w.start, w.end) for w in expected.words
    ]
    assert "".join(c["text"] for c in found["chunks"]) == found["text"]
    assert {c["language"] for c in found["chunks"]} == {path.stem[:2]}


@pytest.mark.parametrize("kind", ["word", True])
def test_chunks_join_to_the_whole_in_every_language(small: Any, kind: Any) -> None:
    def said(text: str, language: str, words: str) -> Segment:
        return Segment(0.0, 1.0, text, tuple(Word(w, 0.0, 1.0) for w in words.split("|")), language)

    transcript = Transcript(
        (
            said("你好，AI 了。", "zh", "你|好，|AI|了。"),
            said("我是人。", "zh", "我|是|人。"),
            said("Good day, day.", "en", "Good|day,|day."),
            said("नमस्ते।", "hi", "नमस्ते।"),
        )
    )
    found = small.postprocess({"transcript": transcript, "extras": {}}, return_timestamps=kind)
    assert "".join(c["text"] for c in found["chunks"]) == found["text"] == transcript.text
    assert len(found["chunks"]) == (11 if kind == "word" else 4)


def test_options_of_the_pipeline_hold_for_its_calls(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    always = adapter.DiffusionASRPipeline(model=model, return_timestamps="word", language="German")
    sound = sf.read(ENGLISH, dtype="float32")[0]
    assert always(sound)["chunks"]
    found = always(sound, return_timestamps=True, return_language=True, language=None)
    assert [c["language"] for c in found["chunks"]] == [
        s.language for s in model.recognizer.transcribe(sound).segments
    ]
    assert {c["language"] for c in always(sound, return_language=True)["chunks"]} == {"de"}


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("no-such-file.wav", {}, "no-such-file.wav"),
        (np.full(16000, np.nan, np.float32), {}, "sample is nan"),
        (b"not audio", {}, "the bytes: .*sound"),
        (b"", {}, "0 bytes"),
        ("https://example.org/a.wav", {}, "download"),
        ({"array": np.zeros(5)}, {}, "sampling_rate"),
        ({"array": np.zeros(5), "sampling_rate": "fast"}, {}, "sample rate is 'fast'"),
        ({"text": "row"}, {}, "a dictionary needs"),
        (5, {}, "int is no sound"),
        (None, {}, "NoneType is no sound"),
        ([[0.0, 0.1], None], {}, "NoneType is no sound"),
        (ENGLISH, {"generate_kwargs": {"language": "tlh"}}, "tlh"),
        (ENGLISH, {"generate_kwargs": {"language": ["en", "de"]}}, "one language"),
        (ENGLISH, {"generate_kwargs": {"task": "translate"}}, "translate"),
        (ENGLISH, {"generate_kwargs": {"langauge": "en"}}, "unknown options langauge"),
        (ENGLISH, {"steps": 0}, "steps must be a whole number of passes"),
        (ENGLISH, {"start": "silence"}, "start must be 'null', 'noise'"),
        (ENGLISH, {"trace": True}, "unknown options trace"),
        (ENGLISH, {"temperature": []}, "temperature"),
        (ENGLISH, {"temperature": (-1.0, 0.2)}, "temperature"),
        (ENGLISH, {"return_timestamps": "char"}, "char"),
    ],
)
@pytest.mark.filterwarnings("ignore:ignored")
def test_bad_input_is_a_value_error_with_our_message(
    small: Any, inputs: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        small(inputs, **options)


def test_empty_files_are_told_and_empty_sound_has_no_text(asr: Any, tmp_path: Path) -> None:
    (tmp_path / "nothing.wav").touch()
    with pytest.raises(ValueError, match=r"nothing.wav.*empty \(0 bytes\)"):
        asr(str(tmp_path / "nothing.wav"))
    sf.write(tmp_path / "header.wav", np.zeros(0, np.float32), 16_000)
    assert asr(str(tmp_path / "header.wav")) == {"text": ""}


def test_silence(asr: Any) -> None:
    for samples in (0, 1, 32000):
        assert asr(np.zeros(samples, np.float32), return_timestamps="word") == {"text": "", "chunks": []}
    loud = {"array": np.zeros((2, 48000), np.float32), "sampling_rate": 48000}
    assert asr(loud)["text"] == ""


def test_a_device_is_taken_and_named(small: Any) -> None:
    with pytest.warns(UserWarning, match="ignored: device=cuda:0"):
        there = adapter.DiffusionASRPipeline(model=small.model, device="cuda:0")
    assert there.device.type == "cpu"
    assert there(np.ones(8000, np.float32)) == small(np.ones(8000, np.float32))


def test_the_model_stays_on_the_cpu_and_in_its_precision() -> None:
    model = shipped_model()
    before = [(p.device, p.dtype) for p in model.parameters()]
    assert sum(p.numel() for p in model.parameters()) > 60e6, "the whole model, not only its denoiser"
    for send in (lambda: model.to("meta"), model.half, lambda: torch.nn.ModuleList([model]).to("meta")):
        with pytest.warns(UserWarning, match=r"ignored: (meta|torch.float16)"):
            send()
    assert [(p.device, p.dtype) for p in model.parameters()] == before
    assert model.device.type == "cpu"


def test_inputs_may_lie_on_another_device(small: Any) -> None:
    model, sound = small.model, torch.rand(2, 16_000) - 0.5
    mask = torch.ones(2, 16_000, dtype=torch.long)
    mask[1, 9000:] = 0
    ids = model.generate(Elsewhere(sound), attention_mask=Elsewhere(mask))
    assert ids.device.type == "meta"
    assert ids.shape == model.generate(sound, attention_mask=mask).shape
    assert model(Elsewhere(sound), attention_mask=Elsewhere(mask)).logits.device.type == "meta"


def test_loading_names_a_device_or_precision_that_it_leaves() -> None:
    with pytest.warns(UserWarning, match="ignored: device_map, dtype"):
        model = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(
            adapter.CANVAS_BASE, device_map="cuda", dtype=torch.float16, attn_implementation="sdpa"
        )
    assert model.device.type == "cpu"


def test_forward_is_one_parallel_pass() -> None:
    core, model = shipped_core(), shipped_model()
    samples = torch.from_numpy(sf.read(ENGLISH, dtype="float32")[0])[None]
    with torch.inference_mode():
        logits = model(samples, language=["English"]).logits
        assert torch.equal(model(samples).logits, logits)  # the language is detected
        padded = torch.nn.functional.pad(samples, (0, 8000))
        mask = torch.ones_like(samples, dtype=torch.long)
        assert torch.equal(model(padded, torch.nn.functional.pad(mask, (0, 8000))).logits, logits)
    (hypothesis,) = core.decode(core.encode(samples), "en", steps=1)
    canvas: Decoded = hypothesis.decoded
    assert logits.shape == (1, len(canvas.canvas), len(core.parts.vocabulary))
    assert bool(torch.isfinite(logits).all())
    english = torch.tensor(core.parts.vocabulary.pieces_for("en"))
    written = english[logits[0][:, english].argmax(-1)]
    assert torch.equal(written, canvas.canvas)
    tokenizer = shipped_pipeline().tokenizer
    assert tokenizer.decode(written, group_tokens=True) == hypothesis.text  # as from a CTC model


def test_precision_of_the_caller_and_compilation_change_nothing() -> None:
    model = shipped_model()
    samples = torch.from_numpy(sf.read(ENGLISH, dtype="float32")[0])[None]
    with torch.inference_mode():
        logits, ids = model(samples, language="en").logits, model.generate(samples)
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                assert torch.equal(model(samples, language="en").logits, logits)
                assert torch.equal(model.generate(samples), ids)
        compiled: Any = torch.compile(model)
        assert torch.equal(compiled(samples, language="en").logits, logits)
        assert torch.equal(compiled.generate(samples), ids)


def test_a_model_goes_to_another_process_and_is_copied(tmp_path: Path) -> None:
    asr = pickle.loads(pickle.dumps(shipped_pipeline()))
    assert asr(ENGLISH, steps=1) == shipped_pipeline()(ENGLISH, steps=1)
    assert not asr.model.training
    tiny.model(tmp_path / "tiny")
    model = adapter.DiffusionASRForSpeech.from_pretrained(tmp_path / "tiny")
    again = copy.deepcopy(model)
    assert again.encoder is again.recognizer.parts.encoder is not model.encoder


def trainable(folder: Path) -> tuple[Any, Any]:
    model = tiny_model(folder)
    make_trainable(model.recognizer.parts)
    return model, adapter.DiffusionASRProcessor.from_pretrained(model.config.find_checkpoint())


@pytest.mark.filterwarnings("ignore:'pin_memory'")
def test_transformers_trainer_trains_saves_and_writes(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    model, processor = trainable(tmp_path)
    sound = sf.read(ENGLISH, dtype="float32")[0]

    def collate(texts: list[str]) -> Any:
        return processor([sound] * len(texts), text=texts, sampling_rate=16_000, return_tensors="pt")

    options = transformers.Seq2SeqTrainingArguments(
        output_dir=str(tmp_path / "run"), max_steps=2, save_steps=1, report_to=[],
        per_device_train_batch_size=2,
        remove_unused_columns=False, predict_with_generate=True, disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    trainer = transformers.Seq2SeqTrainer(
        model, options, data_collator=collate, train_dataset=["the ab", "ab"] * 2, processing_class=processor
    )
    before = model.denoiser.null_bias.detach().clone()
    trainer.train()
    predicted = trainer.predict(["ab"]).predictions
    expected = model.recognizer.transcribe(sound).text
    assert processor.batch_decode(predicted, skip_special_tokens=True) == [expected] != [""]
    again = adapter.DiffusionASRForSpeech.from_pretrained(tmp_path / "run/checkpoint-2")
    assert again.recognizer.parts.version.endswith("+tuned")
    assert not torch.equal(model.denoiser.null_bias, before)
    with pytest.raises(ModelError, match="save_pretrained it first"):
        pickle.dumps(model)


def test_labels_give_a_loss_that_trains_the_denoiser(tmp_path: Path) -> None:
    model, processor = trainable(tmp_path)
    batch = processor(
        [np.ones(16_000, np.float32), np.ones(8000, np.float32)],
        text=["the ab", "ab"],
        sampling_rate=16_000,
        return_tensors="pt",
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(8):
        torch.manual_seed(0)
        loss = model(**batch, language="en", return_dict=False)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    batch["labels"][batch["labels"] == 0] = -100  # as collators pad
    torch.manual_seed(0)
    assert model(**batch, language="en").loss.item() < losses[-1]
    model.save_pretrained(tmp_path / "tuned")
    again = adapter.DiffusionASRForSpeech.from_pretrained(tmp_path / "tuned")
    trained = model.denoiser.null_bias.to(again.denoiser.null_bias.dtype)
    assert torch.equal(again.denoiser.null_bias, trained)


DOCS = DATA.parents[1] / "docs/transformers.md"


@pytest.mark.filterwarnings("ignore:ignored")
def test_the_examples_of_the_docs_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copyfile(ENGLISH, tmp_path / "talk.flac")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf8"), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)
    assert "cried" in names["text"]


def test_without_the_toolkit_the_error_names_the_install_command() -> None:
    code = "import sys; sys.modules['transformers'] = None; import diffusion_asr_transformers"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "pip install 'diffusion-asr[transformers]'" in done.stderr
