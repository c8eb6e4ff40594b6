"""DiffusionGemma behind the ``Denoiser`` Protocol.

The prompt, with a clip's audio embeddings in its slots, is encoded once into a key-value cache, which every
denoising step reads and none changes. A canvas is one of two kinds:

- *token canvas* (the published system): tokens in order, then end of text; positions follow the prompt's.
- *time canvas* (``diffusion-gemma-tiny``): one slot for each audio embedding, collapsed as in CTC. Slot i has
  the position of audio embedding i, so where to listen is at distance zero in every layer, and that embedding
  is added to its token's, as canvas-base tells each slot its own acoustics.

Self-conditioning takes the answer of an earlier step as its expected embedding, (B, L, D), instead of logits
(B, L, V): the same arithmetic as in transformers, at a hundredth of the memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import Slots
from diffusion_asr.diffusion_gemma import backbone as backbones
from diffusion_asr.diffusion_gemma.projector import AudioProjector
from diffusion_asr.diffusion_gemma.prompt import ANY, Prompt, PromptRows, scatter_audio
from diffusion_asr.diffusion_gemma.toolkit import DynamicCache
from diffusion_asr.errors import ModelError

Canvas = Literal["token", "time"]


class GemmaState(NamedTuple):
    """What stays the same over all denoising steps of a batch."""

    cache: Any  # of the encoded prompts; read only
    prompt_mask: Tensor  # (B, P)
    positions: Tensor  # (B, L) of the canvas
    slots: Slots
    heard: Tensor  # (B, A, D) audio embeddings
    counts: Tensor  # (B,) real ones of each clip
    last_hidden: Tensor  # (B, P, D) the encoder's states, for the autoregressive loss

    @property
    def slot_mask(self) -> Tensor:
        """(B, L) True on real slots."""
        return self.slots.mask


@dataclass(frozen=True, slots=True)
class TimeCanvas:
    """What a recogniser asks of a denoiser with a time canvas."""

    languages: tuple[str, ...]
    slot_frames: int


class DiffusionGemmaDenoiser(nn.Module):
    """See the module's text."""

    def __init__(
        self,
        backbone: Any,
        projector: AudioProjector,
        prompt: Prompt,
        canvas: Canvas,
        spelled: int | None = None,
    ) -> None:
        """Put one together.

        Args:
            backbone: A ``DiffusionGemmaForBlockDiffusion``, adapted or not.
            projector: Acoustic states to embeddings.
            prompt: Around the audio.
            canvas: Its kind.
            spelled: So many ids, from 0 on, spell something; None is all.

        Raises:
            ModelError: Parts that do not fit together.
        """
        super().__init__()
        self.backbone, self.projector, self.prompt, self.canvas = backbone, projector, prompt, canvas
        self.spelled = spelled
        vocabulary, width = backbones.get_embeddings(backbone).shape
        if projector.config.linears[-1] != width:
            raise ModelError(
                f"the projector writes {projector.config.linears[-1]} values, the backbone reads {width}: "
                "give the backbone that the adapter was trained on"
            )
        prompt.check(vocabulary, 0, backbones.get_window(backbone))

    @property
    def config(self) -> TimeCanvas:
        """Languages that the prompt knows, and encoder frames to an audio embedding."""
        languages = tuple(code for code in self.prompt.before if code != ANY)
        return TimeCanvas(languages, self.projector.config.subsampling)

    @property
    def device(self) -> torch.device:
        """Where canvases live."""
        return backbones.get_embeddings(self.backbone).device

    @property
    def vocabulary(self) -> int:
        """Token ids that the backbone knows."""
        return len(backbones.get_embeddings(self.backbone))

    def prepare(
        self, memory: AcousticMemory, languages: Sequence[str], canvas: int | None = None
    ) -> GemmaState:
        """Hear a batch and encode its prompts.

        Args:
            memory: B clips.
            languages: One code for each.
            canvas: Slots of a token canvas; None takes the backbone's own length. A time canvas has as many
                slots as the clip has audio embeddings.

        Raises:
            ModelError: Acoustic states of the wrong width, or a prompt beyond the sliding window.
        """
        heard, counts = self.projector(memory)
        self.prompt.check(self.vocabulary, int(counts.max()), backbones.get_window(self.backbone))
        rows = self.prompt.rows(counts, languages)
        cache, hidden = self.encode(rows, heard, counts)
        step = self.projector.config.subsampling
        if self.canvas == "time":
            mask = torch.arange(heard.shape[1]) < counts[:, None]
            positions = rows.first[:, None] + torch.arange(heard.shape[1])
            times = torch.arange(heard.shape[1]) * step + step // 2
        else:
            length = canvas or int(self.backbone.config.canvas_length)
            mask = torch.ones(len(counts), length, dtype=torch.bool)
            positions = rows.mask.sum(1, keepdim=True) + torch.arange(length)
            times = torch.zeros(length, dtype=torch.long)
        device = self.device
        return GemmaState(
            cache, rows.mask.to(device), positions.to(device), Slots(times[None], mask), heard, counts, hidden
        )

    def encode(
        self, rows: PromptRows, heard: Tensor, counts: Tensor, follow: Tensor | None = None
    ) -> tuple[Any, Tensor]:
        """The cache and final states of prompts with audio in their slots, and of tokens that follow them.

        ``follow`` (B, N) are tokens after the prompts, for the autoregressive loss; prompts must then be
        unpadded, or their padding comes before these tokens (it is masked, and has no positions).
        """
        encoder, device = self.backbone.model.encoder, self.device
        embed = encoder.get_input_embeddings()
        embedded = scatter_audio(embed(rows.ids.to(device)), rows, self.prompt.audio, heard, counts)
        mask = rows.mask
        if follow is not None:
            embedded = torch.cat([embedded, embed(follow.to(device))], dim=1)
            mask = torch.cat([mask, torch.ones(follow.shape, dtype=torch.bool)], dim=1)
        positions = (mask.long().cumsum(1) - 1).clamp(min=0).to(device)
        padded = None if bool(mask.all()) else mask.to(device)
        out = encoder(
            inputs_embeds=embedded,
            attention_mask=padded,
            position_ids=positions,
            past_key_values=DynamicCache(config=self.backbone.config.get_text_config()),
        )
        return out.past_key_values, out.last_hidden_state

    def null_canvas(self, state: GemmaState) -> Tensor:
        """(B, L) of a time canvas: the projector's own say in every slot, through the head."""
        return self.heard_logits(state.heard)[..., : self.spelled].argmax(-1)

    def hidden(self, canvas: Tensor, state: GemmaState, previous: Tensor | None = None) -> Tensor:
        """The decoder's final states, (B, L) to (B, L, D); the cache stays as it is."""
        decoder = self.backbone.model.decoder
        visible = torch.cat([state.prompt_mask, state.slot_mask.to(state.prompt_mask.device)], dim=1)
        acoustics = state.heard if self.canvas == "time" else None
        with _conditioned(decoder.self_conditioning, previous, acoustics):
            out = decoder(
                decoder_input_ids=canvas.to(self.device),
                past_key_values=state.cache,
                decoder_attention_mask=None if bool(visible.all()) else visible,
                decoder_position_ids=state.positions,
            )
        return out.last_hidden_state  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, pieces: Tensor | None = None) -> Tensor:
        """Soft-capped float32 scores, (…, D) to (…, V), or to (…, S) for the ids ``pieces`` (S,)."""
        table = backbones.get_embeddings(self.backbone)
        scores = self.backbone.lm_head(hidden) if pieces is None else F.linear(hidden, table[pieces])
        cap = self.backbone.final_logit_softcapping
        return torch.tanh(scores.float() / cap) * cap  # type: ignore[no-any-return]

    def soften(self, logits: Tensor, pieces: Tensor | None = None) -> Tensor:
        """Expected embeddings (B, L, D) of a distribution: what self-conditioning reads."""
        embed = self.backbone.model.decoder.embed_tokens
        table = embed.weight if pieces is None else embed.weight[pieces]
        chances = logits.to(table.dtype).softmax(dim=-1, dtype=torch.float32).to(table.dtype)
        return torch.matmul(chances, table) * embed.embed_scale.to(table.dtype)  # type: ignore[no-any-return]

    def conditioning(self, hidden: Tensor, logits: Tensor, pieces: Tensor | None = None) -> Tensor:
        """See ``Denoiser.conditioning``: a pass is told the expected embeddings of an earlier answer."""
        return self.soften(logits, pieces)

    def heard_logits(self, heard: Tensor, pieces: Tensor | None = None) -> Tensor:
        """The projector's own say, through the head (no cap): (B, A, D) to (B, A, V), for CTC."""
        table = backbones.get_embeddings(self.backbone)
        return F.linear(heard, table if pieces is None else table[pieces]).float()


@contextmanager
def _conditioned(module: nn.Module, previous: Tensor | None, acoustics: Tensor | None) -> Iterator[None]:
    """Self-conditioning on expected embeddings: transformers would make them from logits (B, L, V).

    ``acoustics`` (B, L, D) are added to the canvas's own embeddings, which pass through the same module.
    """
    if previous is None and acoustics is None:
        yield
        return

    def change(_: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        embedded, signal = given
        if acoustics is not None:
            embedded = embedded + acoustics.to(embedded.dtype)
        return embedded, signal if previous is None else previous.to(embedded.dtype)

    handle = module.register_forward_pre_hook(change)
    try:
        yield
    finally:
        handle.remove()
