"""The losses that adapt DiffusionGemma to speech.

Uniform-noise diffusion on the canvas (cross-entropy where it was corrupted), next-token prediction by the
causal encoder, and CTC on the projector through the frozen head. The last one is what made the reference
system's frozen backbone listen, by its publishers' account; ``python -m recipes.diffusion_gemma ablation``
tries it at small scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.process import corrupt_canvas
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser, GemmaState
from diffusion_asr.diffusion_gemma.prompt import PromptRows
from diffusion_asr.errors import ModelError


@dataclass(frozen=True, slots=True)
class LossOptions:
    """What counts how much.

    Attributes:
        autoregressive: Weight of next-token prediction; 0 leaves it out.
        ctc: Weight of CTC on the projector; 0 leaves it out.
        least_noise: Smallest share of slots that are corrupted.
        conditioned: Share of clips with self-conditioning.
        blank: CTC's blank, a token that no text holds.
    """

    autoregressive: float = 1.0
    ctc: float = 1.0
    least_noise: float = 0.05
    conditioned: float = 0.5
    blank: int = 0


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Texts of some clips on token canvases."""

    canvas: Tensor  # (B, L): the tokens, end of text, then padding
    counts: Tensor  # (B,) tokens without the end of text

    @classmethod
    def of(cls, texts: Sequence[Sequence[int]], length: int, end: int, pad: int) -> TokenBatch:
        """Lay texts out.

        Raises:
            ModelError: A text that has no room on a canvas of ``length``.
        """
        canvas = torch.full((len(texts), length), pad)
        for row, text in zip(canvas, texts, strict=True):
            if len(text) >= length:
                raise ModelError(f"a text of {len(text)} tokens and its end do not fit a canvas of {length}")
            row[: len(text)] = torch.tensor(text, dtype=torch.long)
            row[len(text)] = end
        return cls(canvas, torch.tensor([len(text) for text in texts]))


def draw_noise_level(clips: int, least: float) -> Tensor:
    """Shares of slots to corrupt, (B, 1), weighted to high noise: where recognition begins."""
    return 1 - (1 - least) * torch.rand(clips, 1).square()


def compute_diffusion_loss(
    denoiser: DiffusionGemmaDenoiser, state: GemmaState, clean: Tensor, options: LossOptions
) -> Tensor:
    """Mean cross-entropy at corrupted slots of the canvas ``clean`` (B, L)."""
    noisy, chosen = corrupt_canvas(
        clean, draw_noise_level(len(clean), options.least_noise), denoiser.vocabulary
    )
    previous = None
    if options.conditioned > 0:
        with torch.no_grad():
            soft = denoiser.soften(denoiser.logits(denoiser.hidden(noisy, state)))
        previous = soft * (torch.rand(len(clean), 1, 1) < options.conditioned).to(soft)
    logits = denoiser.logits(denoiser.hidden(noisy, state, previous))
    wanted = clean.to(logits.device).masked_fill(~chosen.to(logits.device), -100)
    loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum")
    return loss / chosen.sum().clamp(min=1)


def compute_autoregressive_loss(
    denoiser: DiffusionGemmaDenoiser, rows: PromptRows, state: GemmaState, batch: TokenBatch
) -> Tensor:
    """Mean cross-entropy of each next token, the end included, by the causal encoder."""
    most = int(batch.counts.max()) + 1
    text = batch.canvas[:, :most]
    _, hidden = denoiser.encode(rows, state.heard, state.counts, follow=text[:, :-1])
    prompts, width = rows.ids.shape[1], hidden.shape[-1]
    last = (rows.mask.sum(1) - 1).to(hidden.device)
    first = hidden.gather(1, last[:, None, None].expand(-1, 1, width))
    logits = denoiser.logits(torch.cat([first, hidden[:, prompts:]], dim=1))
    real = torch.arange(most) <= batch.counts[:, None]
    wanted = text.masked_fill(~real, -100).to(logits.device)
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())


def compute_ctc_loss(
    denoiser: DiffusionGemmaDenoiser, heard: Tensor, counts: Tensor, batch: TokenBatch, blank: int
) -> Tensor:
    """CTC of the projector's own say, per token; a text with no room counts nothing."""
    log_probs = denoiser.heard_logits(heard).log_softmax(-1).transpose(0, 1)
    targets = torch.cat([row[:n] for row, n in zip(batch.canvas, batch.counts.tolist(), strict=True)])
    losses = F.ctc_loss(
        log_probs, targets.to(log_probs.device), counts, batch.counts, blank, "none", zero_infinity=True
    )
    return losses.sum() / batch.counts.sum().clamp(min=1)


def compute_losses(
    denoiser: DiffusionGemmaDenoiser,
    memory: AcousticMemory,
    languages: Sequence[str],
    batch: TokenBatch,
    options: LossOptions,
) -> dict[str, Tensor]:
    """All losses of a batch on token canvases, each with its weight applied; their sum is to be minimised."""
    state = denoiser.prepare(memory, languages, batch.canvas.shape[1])
    parts = {"diffusion": compute_diffusion_loss(denoiser, state, batch.canvas, options)}
    if options.autoregressive > 0:
        rows = denoiser.prompt.rows(state.counts, languages)
        autoregressive = compute_autoregressive_loss(denoiser, rows, state, batch)
        parts["autoregressive"] = options.autoregressive * autoregressive
    if options.ctc > 0:
        heard = compute_ctc_loss(denoiser, state.heard, state.counts, batch, options.blank)
        parts["ctc"] = options.ctc * heard
    return parts
