"""The canvas denoiser: Whisper's decoder without the causal mask, on slots that know their time.

A canvas is (B, L) token ids, one per slot; a slot stands for a point in time. Each slot's embedding is
the sum of its current token, its own acoustics (the encoder states around its time) and its position;
layers attend over all slots in both directions and over the whole acoustic memory, with learned biases
by distance in time. One call predicts the clean token of every slot at once.

Prepared state (cross-attention keys and values, slot acoustics) is computed once per clip and serves
every denoising step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import Slots, make_slots
from diffusion_asr.decoding.layers import PROMPT, DecoderLayer
from diffusion_asr.languages import LANGUAGES

BLOCK = 4096  # pieces whose rows are copied at a time
WINDOW = 8  # encoder states gathered around a slot's time


@dataclass(frozen=True, slots=True)
class DenoiserConfig:
    """Sizes of a canvas denoiser."""

    vocabulary: int
    d_model: int = 512
    layers: int = 6
    heads: int = 8
    languages: tuple[str, ...] = LANGUAGES
    slot_frames: int = 4  # encoder frames per slot: 4 is 80 ms
    memory_pool: int = 2  # encoder frames averaged into one state that slots attend to
    max_slots: int = 380
    time_buckets: int = 32


class PreparedState(NamedTuple):
    """What stays the same over all denoising steps of a batch."""

    keys: tuple[Tensor, ...]  # per layer (B, H, T, D / H)
    values: tuple[Tensor, ...]
    cross_bias: tuple[Tensor, ...]  # per layer (B, H, P + L, T)
    self_bias: tuple[Tensor, ...]  # per layer (B, H, P + L, P + L)
    acoustics: Tensor  # (B, L, D)
    prompt: Tensor  # (B, P, D)
    slots: Slots

    @property
    def slot_mask(self) -> Tensor:
        """(B, L) True on real slots."""
        return self.slots.mask


def bucket_times(difference: Tensor, count: int) -> Tensor:
    """Bucket a signed distance in frames: exact near zero, logarithmic further out, to +-30 s."""
    half = count // 2
    scaled = torch.log1p(difference.abs().float()) / torch.log1p(torch.tensor(1500.0)) * (half - 1)
    return torch.where(difference < 0, half - 1 - scaled, half + scaled).round().long().clamp(0, count - 1)


def pool_states(states: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Means of ``size`` neighbouring real states, (B, T, D) to (B, ceil(T / size), D), and their mask."""
    missing = -states.shape[1] % size
    states, mask = F.pad(states, (0, 0, 0, missing)), F.pad(mask, (0, missing))
    batch, frames, width = states.shape
    used = mask.view(batch, frames // size, size).to(states.dtype)
    total = (states.view(batch, frames // size, size, width) * used[..., None]).sum(2)
    return total / used.sum(2, keepdim=True).clamp(min=1), used.any(2)


class CanvasDenoiser(nn.Module):
    """See the module's text."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        d, self.config = config.d_model, config
        self.embed_tokens = nn.Embedding(config.vocabulary, d)
        self.embed_positions = nn.Embedding(config.max_slots + PROMPT, d)
        self.embed_prompt = nn.Embedding(PROMPT - 1 + len(config.languages), d)
        self.gather = nn.Linear(WINDOW * d, d)
        self.inject = nn.Linear(d, d)
        self.inject_norm = nn.LayerNorm(d)
        self.condition = nn.Linear(d, d)
        self.layers = nn.ModuleList(DecoderLayer(d, config.heads) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(d)
        self.null_bias = nn.Parameter(torch.zeros(1))
        shape = (config.layers, config.heads, config.time_buckets)
        self.cross_time = nn.Parameter(torch.zeros(shape))
        self.self_time = nn.Parameter(torch.zeros(shape))

    def acoustics(self, states: Tensor, slots: Slots) -> Tensor:
        """Encoder states around each slot, (B, T, D) to (B, L, D)."""
        offsets = torch.arange(-WINDOW // 2, WINDOW // 2, device=states.device)
        padded = F.pad(states, (0, 0, WINDOW // 2, WINDOW // 2 + self.config.slot_frames))
        around = slots.times[..., None] + offsets + WINDOW // 2
        clips = torch.arange(len(states), device=states.device)
        near = padded[clips[:, None, None], around.expand(len(states), -1, -1)]
        return self.inject(self.inject_norm(F.gelu(self.gather(near.flatten(2)))))  # type: ignore[no-any-return]

    def prepare(
        self, memory: AcousticMemory, languages: Sequence[str], slots: Slots | None = None
    ) -> PreparedState:
        """Once per batch of clips; ``languages`` holds one code for each clip."""
        states = memory.states.to(self.gather.weight.dtype)
        slots = slots or make_slots(memory, self.config.slot_frames)
        heard, audible = pool_states(states, memory.mask, self.config.memory_pool)
        pairs = [layer.encoder_attn.project(heard) for layer in self.layers]  # type: ignore[union-attr, operator]
        prompt = [[0, PROMPT - 1 + self.config.languages.index(name), 1, 2] for name in languages]
        times = slots.times
        pool = self.config.memory_pool
        frames = torch.arange(heard.shape[1], device=heard.device) * pool + pool // 2
        cross = bucket_times(frames - times[..., None], self.config.time_buckets)
        own = bucket_times(times[:, None] - times[..., None], self.config.time_buckets)
        visible = torch.cat([slots.mask.new_ones(len(slots.mask), PROMPT), slots.mask], dim=1)
        return PreparedState(
            tuple(k for k, _ in pairs),
            tuple(v for _, v in pairs),
            self._bias(self.cross_time, F.pad(cross, (0, 0, PROMPT, 0), value=-1), audible),
            self._bias(self.self_time, F.pad(own, (PROMPT, 0, PROMPT, 0), value=-1), visible),
            self.acoustics(states, slots),
            self.embed_prompt(torch.tensor(prompt, device=heard.device)),
            slots,
        )

    def _bias(self, table: Tensor, buckets: Tensor, visible: Tensor) -> tuple[Tensor, ...]:
        """Additive attention biases per layer, (B, H, queries, keys); bucket -1 has none."""
        padded = F.pad(table, (0, 1))
        hidden = table.new_zeros(visible.shape).masked_fill(~visible, -1e4)
        return tuple(padded[n][:, buckets].transpose(0, 1) + hidden[:, None, None] for n in range(len(table)))

    def null_canvas(self, state: PreparedState) -> Tensor:
        """(B, L) all null: the first pass over it is the draft, and nothing in it is random."""
        return torch.zeros_like(state.slot_mask, dtype=torch.long)

    def hidden(self, canvas: Tensor, state: PreparedState, previous: Tensor | None = None) -> Tensor:
        """The final normalised states of all slots, (B, L, D)."""
        slots = self.embed_tokens(canvas).to(state.acoustics.dtype) + state.acoustics
        if previous is not None:
            slots = slots + self.condition(previous)
        x = torch.cat([state.prompt, slots], dim=1)
        x = x + self.embed_positions.weight[: x.shape[1]].to(x.dtype)
        for n, layer in enumerate(self.layers):
            x = layer(x, state.self_bias[n], state.keys[n], state.values[n], state.cross_bias[n])
        return self.layer_norm(x)[:, PROMPT:]  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, pieces: Tensor | None = None) -> Tensor:
        """(…, D) to (…, V), or to (…, S) for the sorted ids ``pieces`` (S,), null first."""
        table = self.embed_tokens.weight if pieces is None else self.embed_tokens(pieces)
        scores = F.linear(hidden, table.to(hidden.dtype))
        scores[..., 0] += self.null_bias.to(scores.dtype)  # in place: a copy would be 35 MB in 30 s
        return scores

    def conditioning(self, hidden: Tensor, logits: Tensor, pieces: Tensor | None = None) -> Tensor:
        """See ``Denoiser.conditioning``: a pass is told the states of the first one."""
        return hidden

    def likeliest(self, hidden: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """In each slot, the log-probability and the place of the likeliest of ``pieces``, null first.

        The third output (…) is the logarithm of the sum over all ``pieces``: with it ``logits`` gives the
        log-probability of any other. All logits at once would be 60 MB in 30 s, and the table's rows 80 MB.
        """
        best = hidden.new_full(hidden.shape[:-1], -torch.inf, dtype=torch.float)
        total, places = best.clone(), torch.zeros_like(best, dtype=torch.long)
        for start in range(0, len(pieces), BLOCK):
            table = self.embed_tokens(pieces[start : start + BLOCK])
            scores = F.linear(hidden, table.to(hidden.dtype)).float()
            if start == 0:
                scores[..., 0] += self.null_bias.float()
            top, place = scores.max(-1)
            places = torch.where(top > best, place + start, places)
            best, total = torch.maximum(best, top), torch.logaddexp(total, scores.logsumexp(-1))
        return best - total, places, total
