"""The adapter through transformers' own doors: Auto classes, ``generate``, the stock task, saved folders."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from diffusion_asr import Recognizer
from diffusion_asr.decoding.decoder import Decoded
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import ModelError
from tests.support import tiny
from tests.support.transformers_helpers import (
    CLIPS,
    ENGLISH,
    adapter,
    shipped_core,
    shipped_model,
    shipped_pipeline,
    tiny_model,
    transformers,
)

generate_tokens = importlib.import_module("diffusion_asr_transformers.generation").generate_tokens
main = importlib.import_module("diffusion_asr_transformers.__main__").main


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    shipped_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_model(tmp_path_factory.mktemp("small"))


def read(path: Path) -> Any:
    return sf.read(path, dtype="float32")[0]


@pytest.mark.parametrize("task", ["automatic-speech-recognition", "diffusion-asr"])
def test_a_saved_folder_is_a_pipelines_model(saved: Path, task: str) -> None:
    again = transformers.pipeline(task, model=str(saved))
    assert isinstance(again, adapter.DiffusionASRPipeline)
    assert again(ENGLISH) == shipped_pipeline()(ENGLISH)
    assert again.model.config.languages == list(shipped_core().languages)
    assert again.tokenizer.decode(again.tokenizer("Good day.").input_ids) == "Good day."
    assert again.feature_extractor.sampling_rate == 16_000


def test_the_task_has_the_embedded_model_as_its_default() -> None:
    named = transformers.pipeline("diffusion-asr")
    assert named.model.config.find_checkpoint() == "canvas-base"
    assert named(ENGLISH, steps=1) == shipped_pipeline()(ENGLISH, steps=1)
    with pytest.raises(ModelError, match="no model 'canvas-huge'"):
        adapter.DiffusionASRForSpeech.from_pretrained("canvas-huge")


def test_auto_classes_load_a_saved_folder_and_the_embedded_model(saved: Path) -> None:
    for folder in (saved, adapter.CANVAS_BASE):
        processor = transformers.AutoProcessor.from_pretrained(folder)
        assert isinstance(processor, adapter.DiffusionASRProcessor)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        assert isinstance(tokenizer, adapter.DiffusionASRTokenizer)
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
        assert isinstance(extractor, adapter.DiffusionASRFeatureExtractor)
        config = transformers.AutoConfig.from_pretrained(folder)
        assert type(config) in transformers.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
    assert isinstance(transformers.AutoModel.from_pretrained(saved), adapter.DiffusionASRForSpeech)
    assert isinstance(transformers.AutoModel.from_config(config), adapter.DiffusionASRForSpeech)


def test_a_repository_of_the_hub_is_fetched_where_it_is_named(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.save_pretrained(tmp_path / "there")
    fetched: list[Any] = []

    def snapshot_download(name: str, **options: Any) -> str:
        fetched.append((name, options))
        return str(tmp_path / "there")

    hub = importlib.import_module("diffusion_asr_transformers.hub")
    monkeypatch.setattr(hub, "cached_file", lambda name, file, **_: str(tmp_path / "there" / file))
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    model = adapter.DiffusionASRForSpeech.from_pretrained("somebody/model", revision="v1", token=None)
    assert model.recognizer.languages == small.recognizer.languages
    assert fetched == [("somebody/model", {"allow_patterns": ["*.json", "recognizer/*"], "revision": "v1"})]
    processor = adapter.DiffusionASRProcessor.from_pretrained(
        "somebody/model", language="en", task="transcribe"
    )
    assert len(processor.tokenizer) == small.config.vocab_size
    adapter.DiffusionASRForSpeech.from_pretrained(tmp_path / "there")
    assert len(fetched) == 2, "a folder is never looked for elsewhere"


def test_a_model_without_a_canvas_vocabulary_is_a_pipeline_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(tmp_path)
    model.config.checkpoint = "somebody/gemma"
    hub = importlib.import_module("diffusion_asr_transformers.hub")
    monkeypatch.setattr(hub, "cached_file", lambda *_, **__: None)
    asr = adapter.DiffusionASRPipeline(model=model)
    assert asr.tokenizer is None
    assert asr(ENGLISH)["text"] == model.recognizer.transcribe(ENGLISH).text != ""


def test_windows_of_one_recording_do_not_run_together(small: Any) -> None:
    class Windows:
        languages = ("en", "zh")

        def __init__(self) -> None:
            self.told = itertools.cycle(["ab", " ab"])

        def decode(self, memory: Any, languages: Any, options: Any) -> list[Decoded]:
            ids = small.recognizer.parts.vocabulary.spelling(next(self.told))
            return [tiny.decoded(tiny.canvas_of(ids)) for _ in languages]

    recognizer = tiny.eager(dataclasses.replace(small.recognizer.parts, decoder=Windows()))
    sound = np.ones(16_000 * 80, np.float32)
    out = generate_tokens(recognizer, [sound], ["en"], DecodingOptions())
    tokenizer = adapter.DiffusionASRTokenizer.from_pretrained(small.config.find_checkpoint())
    assert tokenizer.decode(out.sequences[0]) == out.transcripts[0].text
    assert out.transcripts[0].text.split() == ["ab"] * 4


def test_a_leaderboards_way_has_the_words_of_core() -> None:
    """Processor, cast to the model's precision, ``generate`` with what scripts hand over, ``decode``."""
    processor = transformers.AutoProcessor.from_pretrained(adapter.CANVAS_BASE)
    model = shipped_model()
    assert model.can_generate()
    assert model.generation_config.is_multilingual
    inputs = processor(
        [read(path) for path in CLIPS],
        sampling_rate=processor.feature_extractor.sampling_rate,
        return_tensors="pt",
        padding="longest",
        return_attention_mask=True,
        device="cpu",
    ).to("cpu", dtype=torch.bfloat16)
    ids = model.generate(**inputs, max_new_tokens=None, min_new_tokens=None)
    expected = [shipped_core().transcribe(path).text for path in CLIPS]
    assert processor.decode(ids, skip_special_tokens=True) == expected
    assert processor.batch_decode(ids, skip_special_tokens=True) == expected
    assert all(expected)


def test_generate_takes_a_language_for_each_clip_and_gives_times(small: Any) -> None:
    sound = torch.from_numpy(read(ENGLISH)).expand(2, -1)
    out = small.generate(
        sound, language=["German", "<|hi|>"], task="transcribe", return_dict_in_generate=True
    )
    assert [t.language for t in out.transcripts] == ["de", "hi"]
    assert out.sequences.shape[0] == 2
    first = out.transcripts[0]
    assert first == small.recognizer.transcribe(sound[0].numpy(), "de")
    assert torch.equal(
        small.generate(input_features=sound[:1], language="de")[0], out.sequences[0][out.sequences[0] != 0]
    )
    with pytest.raises(ValueError, match="3 languages for 2 clips"):
        small.generate(sound, language=["de", "de", "de"])


def test_generate_hears_any_length_and_no_padding() -> None:
    model, clip = shipped_model(), read(ENGLISH)
    twice = np.concatenate([clip, np.zeros(48_000, np.float32), clip, np.zeros(600_000, np.float32), clip])
    padded = torch.from_numpy(np.pad(twice, (0, 16_000)))[None]
    mask = (torch.arange(padded.shape[1]) < len(twice)).long()[None]
    ids = model.generate(padded, attention_mask=mask, language="en", steps=1)
    text = shipped_pipeline().tokenizer.decode(ids[0], skip_special_tokens=True)
    assert text == shipped_core().transcribe(twice, "en", steps=1).text
    assert text.count("cried") == 3


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (None, {}, "one of inputs"),
        (torch.zeros(1, 2, 3), {}, "give \\(batch, samples\\)"),
        (torch.full((1, 800), float("nan")), {}, "nan"),
        (torch.zeros(1, 800), {"attention_mask": torch.ones(1, 5)}, "does not fit"),
        (torch.zeros(1, 800), {"task": "translate"}, "translate"),
        (torch.zeros(1, 800), {"num_beans": 5}, "unknown options num_beans"),
        (torch.zeros(1, 800), {"language": "Klingon"}, "Klingon"),
    ],
)
def test_generate_says_what_is_wrong(small: Any, inputs: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small.generate(inputs, **options)


@pytest.mark.parametrize(
    "idle",
    [
        {"max_new_tokens": 128}, {"num_beams": 5}, {"do_sample": True}, {"repetition_penalty": 1.2},
        {"chunk_length_s": 30}, {"stride_length_s": (4, 2)}, {"condition_on_prev_tokens": False},
        {"no_speech_threshold": 0.6}, {"compression_ratio_threshold": 1.35}, {"batch_size": 16},
        {"forced_decoder_ids": [[1, 2]]}, {"temperature": (0.0, 0.2, 0.4)}, {"num_workers": 2},
    ],
    ids=lambda idle: next(iter(idle)),
)  # fmt: skip
def test_arguments_for_other_models_are_named_and_change_nothing(small: Any, idle: dict[str, Any]) -> None:
    asr = adapter.DiffusionASRPipeline(model=small)
    sound = np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32)
    ((name, value),) = idle.items()
    for given in (idle, {"generate_kwargs": idle}):
        with pytest.warns(UserWarning, match=f"ignored: {name}"):
            found = asr(sound, **given)
        assert found == asr(sound, temperature=0.0 if name == "temperature" else None)
    with pytest.warns(UserWarning, match=f"ignored: {name}"):
        small.generate(torch.from_numpy(sound)[None], **{name: value})


@pytest.mark.parametrize(
    "quiet", [{"num_beams": 1}, {"max_new_tokens": None}, {"task": "transcribe"}, {"batch_size": 1}]
)
@pytest.mark.filterwarnings("error")
def test_what_is_done_anyway_needs_no_warning(small: Any, quiet: dict[str, Any]) -> None:
    assert "text" in adapter.DiffusionASRPipeline(model=small)(np.ones(8000, np.float32), **quiet)


@pytest.mark.parametrize("name", ["de", "german", "German", "de-DE", "<|de|>", "Deutsch", "de_DE.UTF-8"])
def test_languages_by_name_and_tag(small: Any, name: str) -> None:
    asr = adapter.DiffusionASRPipeline(model=small)
    found = asr(ENGLISH, generate_kwargs={"language": name}, return_language=True)
    assert {chunk["language"] for chunk in found["chunks"]} == {"de"}


def test_a_generation_config_is_an_argument_and_is_saved(small: Any, tmp_path: Path) -> None:
    sound = torch.from_numpy(read(ENGLISH))[None]
    german = small.generate(sound, language="de", return_dict_in_generate=True).transcripts
    asked = transformers.GenerationConfig(language="german", num_beams=3)
    with pytest.warns(UserWarning, match="num_beams"):
        assert small.generate(sound, asked, return_dict_in_generate=True).transcripts == german
    small.generation_config.language = "german"
    try:
        small.save_pretrained(tmp_path / "german")
        assert small.generate(sound, return_dict_in_generate=True).transcripts == german
        found = adapter.DiffusionASRPipeline(model=small)(sound[0], return_language=True)
        assert {chunk["language"] for chunk in found["chunks"]} == {"de"}
    finally:
        small.generation_config.language = None
    again = adapter.DiffusionASRForSpeech.from_pretrained(tmp_path / "german")
    assert again.generation_config.language == "german"
    assert again.generation_config.is_multilingual


def test_saving_twice_replaces_the_model(small: Any, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path / "model")
    first = {p.name: p.read_bytes() for p in (tmp_path / "model/recognizer").iterdir()}
    model = adapter.DiffusionASRForSpeech.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        model.denoiser.null_bias += 1.0
    for _ in range(2):  # onto the folder that it was loaded from
        model.save_pretrained(tmp_path / "model")
    again = adapter.DiffusionASRForSpeech.from_pretrained(tmp_path / "model")
    assert torch.equal(again.denoiser.null_bias, model.denoiser.null_bias)
    again.save_pretrained(tmp_path / "model")
    after = {p.name: p.read_bytes() for p in (tmp_path / "model/recognizer").iterdir()}
    assert first.keys() == after.keys()
    assert first["denoiser.safetensors"] != after["denoiser.safetensors"]
    assert first["encoder.safetensors"] == after["encoder.safetensors"]
    assert sorted(p.name for p in (tmp_path / "model").iterdir() if p.name.startswith(".")) == []
    assert Recognizer.from_pretrained(tmp_path / "model/recognizer").languages == model.recognizer.languages


def test_what_is_no_model_is_never_replaced(small: Any, tmp_path: Path) -> None:
    mine = tmp_path / "model/recognizer/thesis.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(ModelError, match="not a model that could be replaced"):
        small.save_pretrained(tmp_path / "model")
    assert mine.read_text() == "years of work"


def test_a_corrupt_saved_model_is_refused(small: Any, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path)
    path = tmp_path / "recognizer/denoiser.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="corrupt"):
        adapter.DiffusionASRForSpeech.from_pretrained(tmp_path)


def test_a_pipeline_saves_all_of_itself_and_no_code(saved: Path, tmp_path: Path) -> None:
    pipeline = transformers.pipeline("diffusion-asr", model=str(saved))
    for _ in range(2):
        pipeline.save_pretrained(tmp_path / "whole")
    assert not list((tmp_path / "whole").rglob("*.py"))
    config = json.loads((tmp_path / "whole/config.json").read_text())
    assert config["checkpoint"] == "recognizer"
    assert "custom_pipelines" not in config
    assert "auto_map" not in config
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "whole")
    processor.save_pretrained(tmp_path / "alone")
    for folder in ("whole", "alone"):
        tokenizer = adapter.DiffusionASRTokenizer.from_pretrained(tmp_path / folder)
        assert tokenizer.decode(tokenizer("Guten Morgen.").input_ids) == "Guten Morgen."


@pytest.mark.parametrize(
    "text", ["Guten Morgen, Anna.", "ha ha ha", "नमस्ते दोस्तों।", "你好，我是人。", "Hello नमस्ते। Bye"]
)
def test_the_tokenizer_writes_what_it_read(text: str) -> None:
    tokenizer = shipped_pipeline().tokenizer
    ids = tokenizer(text).input_ids
    assert tokenizer.decode([*ids, 0, 0], skip_special_tokens=True) == text
    assert tokenizer.convert_tokens_to_ids(tokenizer.convert_ids_to_tokens(ids)) == ids
    assert len(tokenizer) == tokenizer.vocab_size == len(tokenizer.get_vocab())
    assert tokenizer.pad_token_id == 0


def test_a_processor_takes_texts_as_labels() -> None:
    processor = adapter.DiffusionASRProcessor.from_pretrained("canvas-base", language="English")
    batch = processor(
        [read(ENGLISH)] * 2, text=["Good day.", "Good."], sampling_rate=16_000, return_tensors="pt"
    )
    assert processor.batch_decode(batch["labels"], skip_special_tokens=True) == ["Good day.", "Good."]
    assert processor(text="Good.")["input_ids"] == processor.tokenizer("Good.").input_ids
    with pytest.raises(ValueError, match="audio, text or both"):
        processor()


def test_transformers_own_pipeline_made_by_hand_has_the_same_words() -> None:
    processor = transformers.AutoProcessor.from_pretrained(adapter.CANVAS_BASE)
    stock = transformers.AutomaticSpeechRecognitionPipeline(
        model=shipped_model(),
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
    )
    with pytest.warns(UserWarning, match="num_beams"):  # a default of that pipeline
        found = stock(str(ENGLISH))
    assert found == shipped_pipeline()(ENGLISH)


def test_other_models_keep_transformers_own_pipeline(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(
        json.dumps({token: n for n, token in enumerate(["<pad>", "<unk>", "|", "a", "b"])})
    )
    tokenizer = transformers.Wav2Vec2CTCTokenizer(
        tmp_path / "vocab.json", bos_token=None, eos_token=None, pad_token="<pad>", unk_token="<unk>"
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    convolutions = {
        "conv_dim": [8],
        "conv_kernel": [10],
        "conv_stride": [320],
        "num_conv_pos_embedding_groups": 2,
    }
    config = transformers.Wav2Vec2Config(
        vocab_size=5, num_conv_pos_embeddings=4, pad_token_id=0, **sizes, **convolutions
    )
    model = transformers.Wav2Vec2ForCTC(config).eval()
    model.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    with pytest.raises(OSError, match="preprocessor"):  # transformers' own words for what is missing
        transformers.pipeline("automatic-speech-recognition", model=str(tmp_path / "theirs"))
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "theirs")
    theirs = transformers.pipeline("automatic-speech-recognition", model=str(tmp_path / "theirs"))
    assert type(theirs) is transformers.AutomaticSpeechRecognitionPipeline
    assert set(theirs(np.random.default_rng(0).normal(size=8000).astype(np.float32))) == {"text"}


def test_a_script_that_does_not_know_us_runs_unmodified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    script = tmp_path / "their_script.py"
    script.write_text(
        "import sys\n"
        "from beside import NAME\n"
        "from transformers import AutoConfig, AutoProcessor\n"
        "config = AutoConfig.from_pretrained(sys.argv[1])\n"
        "processor = AutoProcessor.from_pretrained(sys.argv[1])\n"
        "print(__name__, NAME, config.model_type, type(processor).__name__)\n"
        "sys.exit(3)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["runner", str(script), str(adapter.CANVAS_BASE)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert capsys.readouterr().out.split() == ["__main__", "beside", "diffusion_asr", "DiffusionASRProcessor"]


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), ([], 2), (["no-such.py"], 2)])
def test_the_runner_says_how(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["runner", *arguments])
    assert main() == code
    said = capsys.readouterr()
    expected = "no such script" if arguments == ["no-such.py"] else str(adapter.CANVAS_BASE)
    assert expected in said.out + said.err
