"""The acoustic encoder against the reference implementation, and a batch against its clips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from diffusion_asr.acoustics.encoder import EncoderConfig, WhisperEncoder
from tests.support.tiny import ENCODER, noise, randomised


def their_encoder(config: EncoderConfig) -> Any:
    """transformers' encoder of the same sizes; it takes exactly ``2 * max_frames`` frames of features."""
    whisper = pytest.importorskip("transformers.models.whisper")
    sizes = whisper.configuration_whisper.WhisperConfig(
        d_model=config.d_model, encoder_layers=config.layers, encoder_attention_heads=config.heads,
        encoder_ffn_dim=4 * config.d_model, max_source_positions=config.max_frames,
        num_mel_bins=config.n_mels,
    )  # fmt: skip
    return whisper.modeling_whisper.WhisperEncoder(sizes).eval()


@pytest.mark.parametrize("frames", [2, 4, 98, 1000])
@torch.inference_mode()
def test_states_are_theirs(frames: int) -> None:
    config = EncoderConfig(d_model=32, layers=3, heads=4, max_frames=frames // 2)
    theirs = randomised(their_encoder(config), 5)
    ours = WhisperEncoder(config).eval()
    ours.load_state_dict(theirs.state_dict())
    mel = torch.randn(2, 80, frames, generator=torch.Generator().manual_seed(frames))
    torch.testing.assert_close(ours(mel), theirs(mel).last_hidden_state, atol=1e-4, rtol=0)


def real_weights() -> dict[str, Tensor]:
    path = Path(os.environ.get("DIFFUSION_ASR_WORK", "none")) / "weights/whisper/model.safetensors"
    if not path.is_file():
        pytest.skip("DIFFUSION_ASR_WORK names no folder with Whisper base's weights")
    with safe_open(path, framework="pt") as data:
        names = [name for name in data.keys() if name.startswith("encoder.")]  # noqa: SIM118  (not a dict)
        return {name.removeprefix("encoder."): data.get_tensor(name) for name in names}


@torch.inference_mode()
def test_whisper_base_is_theirs() -> None:
    weights = real_weights()
    config = EncoderConfig(max_frames=100)  # two seconds: theirs cannot take less than it has positions
    weights["embed_positions.weight"] = weights["embed_positions.weight"][:100].clone()
    theirs, ours = their_encoder(config), WhisperEncoder(config).eval()
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    mel, _ = ours.log_mel(torch.from_numpy(noise(2.0))[None])
    torch.testing.assert_close(ours(mel), theirs(mel).last_hidden_state, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def tiny() -> WhisperEncoder:
    return randomised(WhisperEncoder(ENCODER), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_is_exactly_its_clips(dtype: torch.dtype) -> None:
    encoder = randomised(WhisperEncoder(ENCODER), 0).to(dtype)
    encoder.log_mel.float()
    lengths = [16_000, 100, 8159, 31_999]
    clips = [torch.from_numpy(noise(2.0, seed))[:n] for seed, n in enumerate(lengths)]
    batch = encoder.encode(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), torch.tensor(lengths))
    for k, clip in enumerate(clips):
        alone = encoder.encode(clip[None])
        n = alone.states.shape[1]
        assert int(batch.lengths[k]) == n
        assert torch.equal(batch.states[k, :n], alone.states[0])
        assert not batch.states[k, n:].any()


@pytest.mark.parametrize(
    ("samples", "states"), [(1, 1), (160, 1), (320, 1), (480, 2), (16_000, 50), (16_160, 51), (480_000, 1500)]
)
def test_fifty_states_a_second(tiny: WhisperEncoder, samples: int, states: int) -> None:
    found = tiny.encode(torch.from_numpy(noise(30.0))[None, :samples])
    assert found.states.shape == (1, states, ENCODER.d_model)
    assert len(found) == 1
    assert found.lengths.tolist() == [states]
    assert found.seconds.tolist() == pytest.approx([states / 50])


def test_the_whole_clip_is_heard(tiny: WhisperEncoder) -> None:
    clip = torch.from_numpy(noise(3.0))[None]
    other = clip.clone()
    other[:, -200:] = 0.7
    first, second = tiny.encode(clip).states, tiny.encode(other).states
    assert not torch.allclose(first[:, 0], second[:, 0], atol=1e-6)
