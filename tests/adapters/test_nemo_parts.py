"""The parts that NeMo's users reach for: ``tokenizer``, ``preprocessor``, ``forward``, ``decoding``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import soundfile as sf
import torch

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

from nemo.collections.asr.metrics.wer import word_error_rate
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecodingConfig
from nemo.collections.asr.parts.submodules.multitask_decoding import MultiTaskDecodingConfig
from nemo.collections.asr.parts.submodules.rnnt_decoding import RNNTDecodingConfig
from nemo.collections.common.tokenizers.tokenizer_spec import TokenizerSpec
from omegaconf import OmegaConf

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.recognizer import Recognizer
from diffusion_asr_nemo import DiffusionASRModel, RecognitionError
from tests.support.nemo_helpers import CLIPS, entry
from tests.support.other_device import DEVICE, Accelerator, OtherDevice

CLIP = CLIPS[-1]


@pytest.fixture(scope="module")
def wave() -> torch.Tensor:
    return torch.from_numpy(sf.read(CLIP, dtype="float32")[0])[None]


def test_the_tokenizer_is_nemos_kind(nemo_model: Any, core: Recognizer) -> None:
    tokenizer, spell = nemo_model.tokenizer, core.parts.vocabulary.encode
    assert isinstance(tokenizer, TokenizerSpec)
    assert tokenizer.vocab_size == len(tokenizer.vocab) == len(core.parts.vocabulary)
    for text, language in (
        ("Grüße aus Köln!", "de"),
        ("今天很好", "zh"),
        ("हिन्दी है", "hi"),
        ("So be it.", "en"),
    ):
        ids = tokenizer.text_to_ids(text, language)
        assert ids == spell(text, language)
        assert tokenizer.ids_to_text(torch.tensor(ids)) == text
        assert tokenizer.tokens_to_text(tokenizer.ids_to_tokens(ids)) == text
    assert tokenizer.ids_to_text([tokenizer.pad_id]) == ""
    assert tokenizer.text_to_ids("So be it.") == spell("So be it.", "en")
    assert "vocab_size" in str(nemo_model.oomptimizer_schema)


def test_features_are_the_encoders(nemo_model: Any, core: Recognizer, wave: torch.Tensor) -> None:
    mel, frames = nemo_model.preprocessor(input_signal=wave, length=torch.tensor([wave.shape[1]]))
    expected, count = core.parts.encoder.log_mel(wave)  # type: ignore[attr-defined]
    assert torch.equal(mel, expected)
    assert frames.tolist() == count.tolist()
    section = nemo_model.cfg.preprocessor
    assert (section.sample_rate, section.features) == (16_000, mel.shape[1])
    assert section.window_stride * mel.shape[2] == pytest.approx(wave.shape[1] / 16_000, abs=0.02)


def collapse(row: torch.Tensor) -> list[int]:
    return [i for i in row.unique_consecutive().tolist() if i]


def test_forward_gives_the_draft(nemo_model: Any, wave: torch.Tensor) -> None:
    lengths = torch.tensor([wave.shape[1]])
    log_probs, slots, greedy = nemo_model.forward(input_signal=wave, input_signal_length=lengths)
    assert log_probs.shape == (1, int(slots), nemo_model.tokenizer.vocab_size)
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(1, int(slots)), atol=1e-3)
    assert torch.equal(greedy, log_probs.argmax(-1))
    reference = entry(CLIP)["text"]
    text = nemo_model.tokenizer.ids_to_text(collapse(greedy[0]))
    assert word_error_rate([text.lower()], [reference.lower()]) < 0.6  # one pass alone
    mel, frames = nemo_model.preprocessor(input_signal=wave, length=lengths)
    _, _, same = nemo_model(processed_signal=mel, processed_signal_length=frames)
    drafted = nemo_model.tokenizer.ids_to_text(collapse(same[0]))  # the encoder adds no silence to features
    assert word_error_rate([drafted.lower()], [reference.lower()]) < 0.6
    with pytest.raises(RecognitionError, match="either input_signal or processed_signal"):
        nemo_model()
    with Accelerator():
        there, _, again = nemo_model.forward(OtherDevice(wave), OtherDevice(lengths))
        assert there.device == DEVICE
        assert torch.equal(again.cpu(), greedy)


def test_other_vocabularies_are_refused(nemo_model: Any) -> None:
    with pytest.raises(RecognitionError, match="vocabulary is part of the model"):
        nemo_model.change_vocabulary(new_vocabulary=["a", "b"])


@pytest.fixture
def small(nemo_archive: Path) -> Any:
    """A model whose decoding is changed."""
    model = DiffusionASRModel.restore_from(str(nemo_archive))
    model.change_decoding_strategy({"steps": 2, "start": "noise"})
    return model


def test_decoding_strategies(small: Any, tmp_path: Path) -> None:
    ours = DecodingOptions(steps=2, start="noise")
    assert small.decoding.options == ours
    for kind in (CTCDecodingConfig, RNNTDecodingConfig, MultiTaskDecodingConfig):
        small.change_decoding_strategy(kind(strategy="beam"))  # NeMo's say nothing about a canvas
        small.change_decoding_strategy(OmegaConf.structured(kind), decoder_type="ctc", verbose=False)
        assert small.decoding.options == ours
    small.change_decoding_strategy()
    assert small.decoding.options == ours
    small.cfg.decoding.strategy = "greedy_batch"
    small.change_decoding_strategy(small.cfg.decoding)
    assert small.decoding.options == ours
    small.change_decoding_strategy(OmegaConf.create({"strategy": "greedy", "temperature": 0.5, "seed": 3}))
    assert small.decoding.options == DecodingOptions(steps=2, start="noise", temperature=0.5, seed=3)
    with pytest.raises(RecognitionError, match="unknown decoding options: stepz"):
        small.change_decoding_strategy({"stepz": 4})
    with pytest.raises(RecognitionError, match="steps must be a whole number"):
        small.change_decoding_strategy({"steps": 0})
    small.save_to(str(tmp_path / "changed.nemo"))
    assert DiffusionASRModel.restore_from(str(tmp_path / "changed.nemo")).decoding.options.seed == 3
