"""The three losses: what they count, and what they move."""

from __future__ import annotations

import math

import pytest
import torch

from diffusion_asr.diffusion_gemma import lora
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.objective import (
    LossOptions,
    TokenBatch,
    compute_autoregressive_loss,
    compute_ctc_loss,
    compute_losses,
    draw_noise_level,
)
from diffusion_asr.errors import ModelError
from tests.support import gemma_tiny
from tests.support.tiny import memory

TEXTS = [[20, 21, 21, 30], [40], [], [33, 34, 35]]
LENGTHS = [80, 40, 24, 61]
LANGUAGES = ["de", "en", "en", "de"]


def batch(length: int = 12) -> TokenBatch:
    return TokenBatch.of(TEXTS, length, end=1, pad=0)


def test_canvases_end_and_are_padded() -> None:
    made = batch(6)
    assert made.canvas.tolist() == [
        [20, 21, 21, 30, 1, 0], [40, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [33, 34, 35, 1, 0, 0],
    ]  # fmt: skip
    assert made.counts.tolist() == [4, 1, 0, 3]
    with pytest.raises(ModelError, match="4 tokens and its end do not fit a canvas of 4"):
        batch(4)


def test_noise_is_high_more_often() -> None:
    torch.manual_seed(0)
    level = draw_noise_level(20_000, 0.05)
    assert 0.05 <= float(level.min()) < 0.06
    assert 0.99 < float(level.max()) <= 1
    assert float((level > 0.5).float().mean()) == pytest.approx(math.sqrt(0.5 / 0.95), abs=0.02)


def autoregressive(model: DiffusionGemmaDenoiser, rows: list[int]) -> float:
    languages = [LANGUAGES[n] for n in rows]
    state = model.prepare(memory([LENGTHS[n] for n in rows]), languages)
    texts = TokenBatch.of([TEXTS[n] for n in rows], 12, end=1, pad=0)
    prompts = model.prompt.rows(state.counts, languages)
    return float(compute_autoregressive_loss(model, prompts, state, texts))


def test_next_tokens_do_not_depend_on_padding() -> None:
    model = gemma_tiny.denoiser()
    alone = [autoregressive(model, [n]) * (len(TEXTS[n]) + 1) for n in range(4)]
    tokens = sum(len(text) + 1 for text in TEXTS)
    assert autoregressive(model, [0, 1, 2, 3]) == pytest.approx(sum(alone) / tokens, rel=1e-3)


def test_next_token_is_scored_by_what_comes_before() -> None:
    """By hand, on one unpadded clip: the whole prompt and text through the causal encoder."""
    model = gemma_tiny.denoiser()
    state = model.prepare(memory([80]), ["de"])
    rows = model.prompt.rows(state.counts, ["de"])
    _, hidden = model.encode(rows, state.heard, state.counts, follow=torch.tensor([TEXTS[0]]))
    log_probs = model.logits(hidden[0, rows.ids.shape[1] - 1 :]).log_softmax(-1)
    by_hand = -sum(float(log_probs[n, token]) for n, token in enumerate([*TEXTS[0], 1])) / 5
    assert autoregressive(model, [0]) == pytest.approx(by_hand, rel=1e-4)


def test_heard_loss_is_ctc_for_each_token() -> None:
    model = gemma_tiny.denoiser()
    state = model.prepare(memory(LENGTHS), LANGUAGES)
    total = 0.0
    for n, text in enumerate(TEXTS):
        log_probs = model.heard_logits(state.heard[n, : state.counts[n]]).log_softmax(-1)
        total += float(
            torch.nn.functional.ctc_loss(
                log_probs[:, None], torch.tensor([text], dtype=torch.long), state.counts[n : n + 1],
                torch.tensor([len(text)]), reduction="sum",
            )
        )  # fmt: skip
    found = compute_ctc_loss(model, state.heard, state.counts, batch(), blank=0)
    assert float(found) == pytest.approx(total / 8, rel=1e-4)


def test_only_projector_and_both_stacks_adapters_are_moved() -> None:
    model = gemma_tiny.denoiser()
    lora.add_adapters(model.backbone, 2, 4.0)
    for _, module in lora.list_adapters(model.backbone):
        torch.nn.init.normal_(module.lora_B.weight, std=0.1)
    model.projector.requires_grad_(True)
    torch.manual_seed(1)
    parts = compute_losses(model, memory(LENGTHS), LANGUAGES, batch(), LossOptions())
    assert set(parts) == {"diffusion", "autoregressive", "ctc"}
    torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
    moved = {n for n, w in model.named_parameters() if w.grad is not None and bool(w.grad.any())}
    frozen = {n for n, w in model.named_parameters() if "lora_" not in n and not n.startswith("projector")}
    assert not moved & frozen
    for stack in ("encoder.language_model", "decoder"):
        for projection in "qko":
            assert f"backbone.model.{stack}.layers.0.self_attn.{projection}_proj.lora_A.weight" in moved
    assert {"projector.convolutions.0.weight", "projector.linears.0.weight"} <= moved


def test_without_ctc_the_heads_say_is_not_trained() -> None:
    model = gemma_tiny.denoiser()
    parts = compute_losses(
        model, memory(LENGTHS), LANGUAGES, batch(), LossOptions(autoregressive=0, ctc=0, conditioned=0)
    )
    assert set(parts) == {"diffusion"}
