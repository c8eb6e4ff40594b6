"""Whatever SpeechBrain hands over, and wherever it has moved it, the words are core's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from diffusion_asr import Recognizer
from tests.support.other_device import DEVICE, Accelerator, OtherDevice
from tests.support.utterances import DATA, RATE

sb = pytest.importorskip("speechbrain", reason="pip install 'diffusion-asr[speechbrain]'")
adapter = pytest.importorskip("diffusion_asr_speechbrain", exc_type=ImportError)

CLIP = DATA / "en-arctic_a0239_1592711579.flac"


@pytest.fixture(scope="module")
def asr(tmp_path_factory: pytest.TempPathFactory) -> Any:
    saved = tmp_path_factory.mktemp("speechbrain")
    return adapter.DiffusionASR.from_hparams(source=adapter.CANVAS_BASE, savedir=saved)


@pytest.fixture(scope="module")
def wave() -> torch.Tensor:
    return torch.from_numpy(sf.read(CLIP, dtype="float32")[0])[None]


def padded(waves: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(w) for w in waves], batch_first=True)
    return rows, torch.tensor([len(w) / rows.shape[1] for w in waves])


def test_all_clips_have_the_words_of_core_by_every_way(asr: Any, heard_by_core: Any, tmp_path: Path) -> None:
    codes, waves = [code for code, _, _ in heard_by_core], [samples for _, samples, _ in heard_by_core]
    expected = [transcript.text for _, _, transcript in heard_by_core]
    assert sum(text == "" for text in expected) == 1  # nobody speaks in one of them
    rows, lengths = padded(waves)
    words, tokens = asr.transcribe_batch(rows, lengths, language=codes)
    assert words == expected
    assert [asr.tokenizer.decode_ids(ids) for ids in tokens] == expected

    english = [n for n, code in enumerate(codes) if code == "en"]
    model = adapter.DiffusionModule(language="en")
    search = adapter.DiffusionSearcher(model)
    rows, lengths = padded([waves[n] for n in english])
    states, _, _ = model(rows, torch.zeros(len(rows), 1, dtype=torch.long))  # as recipes do
    hyps, _, scores, _ = search(states.detach(), lengths)
    assert [model.tokenizer.decode(ids) for ids in hyps] == [expected[n] for n in english]
    assert [score > 0 for score in scores.tolist()] == [expected[n] != "" for n in english]
    path = tmp_path / "clip.wav"
    sf.write(path, waves[english[0]], RATE, subtype="FLOAT")
    assert asr.transcribe_file(path, "en") == expected[english[0]]


class Nobody:
    """A detector that never finds speech."""

    def probabilities(self, blocks: Iterable[Any]) -> Iterator[Any]:
        for block in blocks:
            yield np.zeros(-(-len(block) // 512), np.float32)


def test_both_behaviours_are_there(asr: Any, core: Recognizer, wave: torch.Tensor) -> None:
    whole = core.decode(core.encode(wave), "en")[0].text
    model = adapter.DiffusionModule(language="en")
    model.recognizer = Recognizer(model.recognizer.parts, Nobody())
    assert [h.text for h in model.transcribe(wave)] == [""]
    assert [h.text for h in model.transcribe(wave, detect_speech=False)] == [whole]
    states = model.encode(wave)
    assert [h.text for h in model.search(states)] == [""]
    assert [h.text for h in model.search(states, detect_speech=False)] == [whole]
    assert [h.text for h in model.search(states.clone())] == [whole]  # of unknown sound
    model.detect_speech = False
    assert [h.text for h in model.transcribe(wave)] == [h.text for h in model.search(states)] == [whole]
    long = torch.zeros(1, 31 * RATE)
    assert asr.transcribe_batch(long, torch.ones(1))[0] == [""]  # found first, a clip may have any length


@pytest.mark.parametrize("kind", [torch.int16, torch.int32, torch.float64, torch.float16])
def test_batches_of_any_number_type_have_the_same_words(
    asr: Any, core: Recognizer, wave: torch.Tensor, kind: torch.dtype
) -> None:
    scale = 1 if kind.is_floating_point else -float(torch.iinfo(kind).min)
    rows = (wave.double() * scale).to(kind)
    expected = core.transcribe(wave[0].numpy(), "en").text
    for detect_speech in (True, False):
        assert asr.transcribe_batch(rows, torch.ones(1), "en", detect_speech)[0] == [expected]


def test_values_that_no_sound_has_are_told(asr: Any, wave: torch.Tensor) -> None:
    with pytest.raises(adapter.RecognitionError, match="divide by 32768"):
        asr.transcribe_batch(wave * 32768, torch.ones(1))
    with pytest.raises(adapter.RecognitionError, match="give one for each of 1 clips"):
        asr.transcribe_batch(wave, torch.ones(2))
    with pytest.raises(adapter.RecognitionError, match="2 languages for 1 clips"):
        asr.transcribe_batch(wave, torch.ones(1), ["en", "de"])


def test_autocast_does_not_change_the_words(asr: Any, core: Recognizer, wave: torch.Tensor) -> None:
    expected = core.transcribe(wave[0].numpy(), "en").text
    model = adapter.DiffusionModule(language="en", trainable=True)
    loss, search = adapter.DiffusionLoss(model), adapter.DiffusionSearcher(asr.mods.model)
    ids = torch.tensor([[*model.tokenizer.encode(expected), model.tokenizer.eos_index]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert asr.transcribe_batch(wave, torch.ones(1), "en")[0] == [expected]
        assert asr.transcribe_file(CLIP, "en") == expected
        assert asr.detect_language_batch(wave)[1][0]["en"] > 0.5
        _, log_probs, _ = model(wave, ids)
        loss(log_probs, ids, torch.ones(1)).backward()
        hyps, *_ = search(asr.mods.model.encode(wave), torch.ones(1))
    assert log_probs.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.float16):
        assert asr.transcribe_batch(wave, torch.ones(1), "en")[0] == [expected]
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    assert asr.tokenizer.decode(hyps[0]) == expected


def test_modules_stay_where_core_is(asr: Any, core: Recognizer, wave: torch.Tensor) -> None:
    weights = {name: value.dtype for name, value in asr.mods.model.state_dict().items()}
    asr.mods.to("meta")  # where another module would lose its weights
    asr.mods.model.half().double().cuda()
    assert {name: value.dtype for name, value in asr.mods.model.state_dict().items()} == weights
    assert {p.device.type for p in asr.mods.parameters()} == {"cpu"}
    assert asr.transcribe_batch(wave, torch.ones(1), "en")[0] == [core.transcribe(CLIP, "en").text]


def test_tensors_of_an_accelerator_are_brought_to_core_and_back(core: Recognizer, wave: torch.Tensor) -> None:
    """As far as it can be shown without one: tensors that refuse to meet those of the CPU."""
    expected = core.transcribe(CLIP, "en").text
    model = adapter.DiffusionModule(language="en", trainable=True)
    loss, search = adapter.DiffusionLoss(model), adapter.DiffusionSearcher(model)
    ids = torch.tensor([[*model.tokenizer.encode(expected), model.tokenizer.eos_index]])
    with Accelerator():
        there, lengths, tokens = (OtherDevice(t) for t in (wave, torch.ones(1), ids))
        with pytest.raises(RuntimeError, match="and on the CPU in one operation"):
            there + wave
        heard = model.transcribe(there, lengths)
        states, log_probs, _ = model(there, tokens)
        assert {states.device, log_probs.device} == {DEVICE}
        hyps, _, scores, _ = search(states.detach(), lengths)
        told = loss(log_probs, tokens, lengths)
        assert {scores.device, told.device} == {DEVICE}
    assert float(told.cpu()) > 0
    assert [h.text for h in heard] == [model.tokenizer.decode(hyps[0])] == [expected]


def test_habits_of_speechbrains_interfaces(asr: Any, core: Recognizer, wave: torch.Tensor) -> None:
    expected = core.transcribe(CLIP).text
    states = asr.mods.encoder(wave, torch.ones(1))  # as EncoderDecoderASR.transcribe_batch does
    hyps, *_ = asr.mods.decoder(states, torch.ones(1))
    assert asr.tokenizer.decode_ids(hyps[0]) == expected
    assert asr.tokenizer.encode_as_ids(expected) == asr.tokenizer.encode(expected)
    assert asr.tokenizer.get_piece_size() == len(asr.tokenizer) == len(core.parts.vocabulary)
    assert asr.mods.whisper is asr.mods.model
    places, probabilities = asr.detect_language_batch(wave, torch.ones(1))
    assert probabilities == core.detect_language(core.encode(wave))
    assert list(probabilities[0])[int(places[0])] == "en"
    _, (in_file,) = asr.detect_language_file(DATA / "de-de_rhasspy-0208.flac")
    assert max(in_file, key=lambda code: in_file[code]) == "de"
    assert sum(in_file.values()) == pytest.approx(1.0, abs=1e-4)


def test_an_exported_folder_is_a_source(core: Recognizer, wave: torch.Tensor, tmp_path: Path) -> None:
    module = adapter.DiffusionModule(trainable=True)
    with torch.no_grad():
        module.denoiser.null_bias += 0.25
    keeper = sb.utils.checkpoints.Checkpointer(tmp_path / "save", recoverables={"whisper": module})
    keeper.save_checkpoint(meta={"WER": 1.0})
    adapter.export(tmp_path / "save", tmp_path / "tuned", refiner=False)
    tuned = adapter.DiffusionASR.from_hparams(
        source=tmp_path / "tuned", savedir=tmp_path / "kept", overrides={"language": "en"}
    )
    expected = Recognizer.from_pretrained(tmp_path / "tuned")
    assert tuned.transcribe_batch(wave, torch.ones(1))[0] == [expected.transcribe(CLIP, "en").text]
    assert tuned.mods.model.recognizer.parts.version == expected.parts.version != core.parts.version
    by_name = adapter.DiffusionASR.from_hparams(source="canvas-base", savedir=tmp_path / "named")
    assert by_name.mods.model.recognizer.parts.version == core.parts.version
    (tmp_path / "tuned/denoiser.safetensors").write_bytes(b"x")
    with pytest.raises(adapter.RecognitionError, match="corrupt"):
        adapter.DiffusionASR.from_hparams(source=tmp_path / "tuned", savedir=tmp_path / "broken")


def test_the_readmes_python_runs(wave: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DATA.parents[1] / "recipes/speechbrain/README.md").read_text(encoding="utf8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    sf.write("talk.wav", wave[0].numpy(), RATE)
    names: dict[str, Any] = {"wavs": wave, "wav_lens": torch.ones(1)}
    exec(compile(block, "recipes/speechbrain/README.md", "exec"), names)
    assert names["words"] == [names["asr"].tokenizer.decode(names["hyps"][0])] != [""]
    assert max(names["probabilities"][0], key=names["probabilities"][0].get) == "en"


def test_languages_by_name_and_tag(core: Recognizer, wave: torch.Tensor) -> None:
    model = adapter.DiffusionModule(language="de-DE")
    assert (model.language, model.tokenizer.language) == ("de", "de")
    german, english = (core.transcribe(CLIP, code).text for code in ("de", "en"))
    assert german != english
    for given, expected in ((None, german), ("English", english), ("<|en|>", english), ("auto", english)):
        (heard,) = model.transcribe(wave, None, given)
        assert heard.text == expected
