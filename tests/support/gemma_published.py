"""Adapter, backbone, encoder and tokenizer in the published layout, at random and tiny."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import Replace

from diffusion_asr.acoustics.encoder import WhisperEncoder
from diffusion_asr.diffusion_gemma import lora
from diffusion_asr.diffusion_gemma.backbone import BackboneConfig, transformers_config
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.loading import LoadOptions, Settings, load_adapter, save_adapter
from diffusion_asr.diffusion_gemma.projector import AudioProjector, make_published
from diffusion_asr.diffusion_gemma.toolkit import DiffusionGemmaForBlockDiffusion
from tests.support.tiny import ENCODER, WIDTH, randomised

SPECIAL = ("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", "<|audio>", "<|audio|>", "<audio|>")
SIZES = BackboneConfig(
    vocabulary=384, d_model=32, layers=2, heads=2, key_heads=1, head_size=16, feed_forward=48,
    experts=4, canvas=48,
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """Folders of a whole system."""

    adapter: Path
    backbone: Path
    encoder: Path
    rank: int = 3


def tokenizer(file: Path) -> None:
    """Byte fallback, special tokens, and words made of letters."""
    letters = [*(chr(n) for n in range(32, 127)), "\u2581"]
    vocabulary = {token: n for n, token in enumerate(SPECIAL)}
    for piece in (*(f"<0x{n:02X}>" for n in range(256)), *letters, "\u2581t", "he", "\u2581the"):
        vocabulary.setdefault(piece, len(vocabulary))
    merges = [("\u2581", "t"), ("h", "e"), ("\u2581t", "he")]
    made = Tokenizer(BPE(vocabulary, merges, byte_fallback=True))
    made.normalizer = Replace(" ", "\u2581")
    made.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    made.save(str(file))


def published_system(folder: Path, rank: int = 3) -> Published:
    """Write everything; the adapter's settings name the other folders."""
    paths = Published(folder / "adapter", folder / "backbone", folder / "whisper", rank)
    torch.manual_seed(5)
    backbone = DiffusionGemmaForBlockDiffusion(transformers_config(SIZES))
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if weight.ndim > 1 and "vision" not in name:
                weight.copy_(0.3 * torch.randn(weight.shape))
    backbone.save_pretrained(paths.backbone)
    tokenizer(paths.backbone / "tokenizer.json")
    whisper(paths.encoder)
    lora.add_adapters(backbone, rank, 6.0)
    for _, module in lora.list_adapters(backbone):
        torch.nn.init.normal_(module.lora_B.weight, std=0.3)
    projector = randomised(AudioProjector(make_published(WIDTH, 24, SIZES.d_model)), 1)
    settings = Settings(
        backbone=str(paths.backbone), encoder=str(paths.encoder), lora_alpha=6.0,
        audio_token=6, begin_token=5, end_token=7, padded=False,
    )  # fmt: skip
    save_adapter(paths.adapter, _denoiser(backbone, projector), settings)
    return paths


def _denoiser(backbone: object, projector: AudioProjector) -> DiffusionGemmaDenoiser:
    from diffusion_asr.diffusion_gemma.prompt import ANY, Prompt

    return DiffusionGemmaDenoiser(backbone, projector, Prompt(6, {ANY: (2, 5)}, {ANY: (7,)}), "token").eval()


def whisper(folder: Path) -> None:
    """A Whisper encoder in transformers' layout."""
    folder.mkdir(parents=True)
    state = randomised(WhisperEncoder(ENCODER), 0).state_dict()
    save_file({f"model.encoder.{k}": v.contiguous() for k, v in state.items()}, folder / "model.safetensors")
    config = {
        "num_mel_bins": ENCODER.n_mels, "d_model": ENCODER.d_model, "encoder_layers": ENCODER.layers,
        "encoder_attention_heads": ENCODER.heads, "max_source_positions": ENCODER.max_frames,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf8")


def loaded(paths: Published, **options: object) -> DiffusionGemmaDenoiser:
    return load_adapter(str(paths.adapter), LoadOptions(**options)).denoiser  # type: ignore[arg-type]
