"""The edit denoiser: Whisper's decoder reads a whole token canvas at once and says how to repair it.

A canvas here is a sequence of tokens that may hold wrong, missing and superfluous ones: a draft, or noise.
One parallel pass gives, for every position, the clean token that should follow the prefix and an operation
for the token that stands there: keep, replace, delete, or insert before (an edit-based diffusion: Reid et
al. 2022, DiffusER; operations as in the Levenshtein Transformer, Gu et al. 2019). All edits of a step are
applied together. The layers keep the causal mask that Whisper's weights were trained with, so nothing that
its decoder knows is lost; cost follows the number of steps, not the length of the text.

Tokens are anchored in time. Each stands at a slot of the draft's canvas; the state that has read it is told
the acoustics of that slot and of the next token's slot, and attends to the memory with learned biases by the
distance to both. So a position knows which stretch of sound it has to write down, even while the tokens
before it are still wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_asr import int8
from diffusion_asr.denoiser import PROMPT, DecoderLayer, Slots, time_buckets
from diffusion_asr.encoder import AcousticMemory

KEEP, REPLACE, DELETE, INSERT = range(4)
END = 0  # the null token ends a token canvas
MAX_TOKENS = 440
_LOUDNESS = 1 / 32  # brings acoustics to the size of Whisper's token embeddings, or they drown them
STRIDE = 3  # slots from one token to the next where nothing tells: 240 ms


class Anchored(NamedTuple):
    """A token at its slot."""

    token: int
    slot: int


@dataclass(frozen=True, slots=True)
class RefinerConfig:
    """Sizes of an edit denoiser; the defaults are Whisper base's decoder."""

    vocabulary: int
    d_model: int = 512
    layers: int = 6
    heads: int = 8
    languages: tuple[str, ...] = ("en", "de", "fr", "es", "hi", "zh")
    time_buckets: int = 32


class HeardState(NamedTuple):
    """What stays the same over all steps of a batch."""

    keys: tuple[Tensor, ...]  # per layer (B, H, T, D / H)
    values: tuple[Tensor, ...]
    mask: Tensor  # (B, T)
    prompt: Tensor  # (B, P, D)
    acoustics: Tensor  # (B, L, D) of the canvas's slots
    times: Tensor  # (1, L) or (B, L) encoder frame at a slot's centre
    last: Tensor  # (B,) the last real slot


class EditDenoiser(nn.Module):
    """See the module's text. The embedding of ``END`` is the end of text."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        d, self.config = config.d_model, config
        self.embed_tokens = nn.Embedding(config.vocabulary, d)
        self.embed_positions = nn.Embedding(MAX_TOKENS + PROMPT, d)
        self.embed_prompt = nn.Embedding(PROMPT - 1 + len(config.languages), d)
        self.here = nn.Linear(d, d)
        self.ahead = nn.Linear(d, d)
        self.layers = nn.ModuleList(DecoderLayer(d, config.heads) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(d)
        self.operation = nn.Linear(d, 4)
        shape = (config.layers, config.time_buckets, config.heads)
        self.here_time = nn.Parameter(torch.zeros(shape))
        self.ahead_time = nn.Parameter(torch.zeros(shape))

    def prepare(
        self, memory: AcousticMemory, languages: Sequence[str], acoustics: Tensor, slots: Slots
    ) -> HeardState:
        """Once per batch.

        Args:
            memory: What the encoder heard.
            languages: One code for each clip.
            acoustics: (B, L, D) of the canvas's slots, as the canvas denoiser hears them.
            slots: Where these are.
        """
        kind = self.layer_norm.weight.dtype
        states = memory.states.to(kind)
        pairs = [layer.encoder_attn.project(states) for layer in self.layers]  # type: ignore[union-attr, operator]
        return HeardState(
            tuple(k for k, _ in pairs),
            tuple(v for _, v in pairs),
            memory.mask,
            self.prompt(languages),
            F.layer_norm(acoustics.to(kind), acoustics.shape[-1:]) * _LOUDNESS,
            slots.times,
            slots.mask.sum(1) - 1,
        )

    def prompt(self, languages: Sequence[str]) -> Tensor:
        """What stands before every text, (B, P, D)."""
        ids = [[0, PROMPT - 1 + self.config.languages.index(name), 1, 2] for name in languages]
        return self.embed_prompt(torch.tensor(ids))  # type: ignore[no-any-return]

    def rows(self, canvas: Tensor, places: Tensor, state: HeardState) -> tuple[Tensor, Tensor, Tensor]:
        """What the layers read: (B, P + N, D), and the frames (B, P + N) of a row's two anchors (-1: none).

        ``canvas`` (B, N) are tokens, ``places`` (B, N) their slots; padding stands at the last slot.
        """
        clips = torch.arange(len(canvas))[:, None]
        following = torch.cat([places, state.last[:, None]], dim=1)
        x = torch.cat([state.prompt, self.embed_tokens(canvas)], dim=1)
        x = x + self.embed_positions.weight[: x.shape[1]]
        x = x + F.pad(self.here(state.acoustics[clips, places]), (0, 0, PROMPT, 0))
        x = x + F.pad(self.ahead(state.acoustics[clips, following]), (0, 0, PROMPT - 1, 0))
        times = state.times.expand(len(canvas), -1)
        here = F.pad(times.gather(1, places), (PROMPT, 0), value=-1)
        return x, here, F.pad(times.gather(1, following), (PROMPT - 1, 0), value=-1)

    def biases(self, here: Tensor, ahead: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Additive attention biases per layer, (B, H, R, T), for the frames (B, R) of the rows' anchors."""
        count = self.config.time_buckets
        frames = torch.arange(mask.shape[1])
        buckets = [
            time_buckets(frames - at[..., None], count).masked_fill(at[..., None] < 0, count)
            for at in (here, ahead)
        ]
        unheard = torch.zeros(mask.shape, dtype=self.here_time.dtype).masked_fill(~mask, -1e4)[:, None, None]
        tables = (F.pad(self.here_time, (0, 0, 0, 1)), F.pad(self.ahead_time, (0, 0, 0, 1)))
        near = [
            [F.embedding(b, table[n]) for b, table in zip(buckets, tables, strict=True)]
            for n in range(self.config.layers)
        ]
        return tuple((here + ahead).permute(0, 3, 1, 2) + unheard for here, ahead in near)

    def hidden(self, canvas: Tensor, places: Tensor, state: HeardState) -> Tensor:
        """Final states, (B, N) tokens and slots to (B, N + 1, D); state i has read what is before token i."""
        x, here, ahead = self.rows(canvas, places, state)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        biases = self.biases(here, ahead, state.mask)
        for layer, keys, values, bias in zip(self.layers, state.keys, state.values, biases, strict=True):
            x = layer(x, causal, keys, values, bias)
        return self.layer_norm(x)[:, PROMPT - 1 :]  # type: ignore[no-any-return]

    def logits(self, hidden: Tensor, pieces: Tensor) -> Tensor:
        """(…, D) to (…, S): scores of the sorted ids ``pieces`` (S,), of which the first is ``END``."""
        return hidden @ self.embed_tokens(pieces).T  # type: ignore[no-any-return]

    def operations(self, hidden: Tensor) -> Tensor:
        """(B, N + 1, D) to (B, N, 4): scores of what to do with each token, after reading it."""
        return self.operation(hidden[:, 1:])  # type: ignore[no-any-return]


def apply_edits(
    canvas: Sequence[Anchored], following: Sequence[int], operations: Sequence[int], last: int
) -> list[Anchored]:
    """The canvas after one step.

    Args:
        canvas: N tokens.
        following: N + 1 predicted tokens; ``following[i]`` should come after ``canvas[:i]``.
        operations: N operations.
        last: The last slot.
    """
    out: list[Anchored] = []
    for old, clean, operation in zip(canvas, following, operations, strict=False):
        if operation == INSERT and clean not in (old.token, END):
            out += [Anchored(clean, between(out, old.slot)), old]
        elif operation == REPLACE:
            out += [Anchored(clean, old.slot)] if clean != END else []
        elif operation != DELETE:
            out.append(old)
    if following[len(canvas)] != END:
        out.append(Anchored(following[len(canvas)], between(out, last)))
    return out[:MAX_TOKENS]


def between(before: Sequence[Anchored], slot: int) -> int:
    """A slot for a token after ``before`` and not beyond ``slot``."""
    start = before[-1].slot if before else 0
    return min(start + STRIDE, (start + slot + 1) // 2) if start < slot else slot


@dataclass(frozen=True, slots=True)
class RefinerOptions:
    """How to settle a canvas.

    Attributes:
        slack: Nats; a token stays if it is at most this much less probable than the best one.
        eager: Nats; a token further on that is so much less probable than the best one is replaced at once.
        ending: Nats by which the end of text is less likely while draft is left, and more likely after it.
            The draft knows where speech ends; without this, short clips get lost or said twice.
        window: Unsettled tokens that a pass reads while passes are not limited: more would cost more time
            than the passes that it saves. Limited passes read everything.
        growth: The canvas may grow to this many times the draft's tokens, and ``spare`` more.
    """

    slack: float = 0.7
    eager: float = 4.0
    ending: float = 3.0
    window: int = 24
    growth: float = 1.6
    spare: int = 8


@dataclass(frozen=True, slots=True)
class Refined:
    """A settled token canvas.

    Attributes:
        canvas: Its tokens at their slots.
        confidence: Probability of each token; 0.5 where no pass settled it.
        steps: Passes taken.
        history: The canvas that each pass read, and how many of its tokens were settled before.
    """

    canvas: list[Anchored]
    confidence: list[float]
    steps: int
    history: tuple[tuple[list[Anchored], int], ...]

    @property
    def tokens(self) -> list[int]:
        """What it holds."""
        return _tokens(self.canvas)


class Refiner:
    """Settles one clip's canvas, many tokens a pass.

    A pass reads the unsettled tokens at once. Those that the model agrees with are settled, up to the
    first that it rejects; there its own token is put, and what follows is edited by the operations. Keys
    and values of what is settled are kept, so it is never read again.
    """

    def __init__(self, model: EditDenoiser, pieces: Tensor, options: RefinerOptions | None = None) -> None:
        self.model, self.pieces = model, pieces
        self.options = options or RefinerOptions()
        with torch.no_grad():
            table = model.embed_tokens(pieces)
        quick = any(isinstance(m, int8.Int8Linear) for m in model.modules())
        # One of the two: 60 MB a language in float32, a quarter of that packed.
        self._table, self._packed = (None, int8.pack(table)) if quick else (table, None)

    @torch.inference_mode()
    def settle(self, state: HeardState, draft: Sequence[Anchored], most: int) -> Refined:
        """Take at most ``most`` passes over ``draft``."""
        now, last = list(draft[:MAX_TOKENS]), int(state.last[0])
        limit = min(MAX_TOKENS, int(len(now) * self.options.growth) + self.options.spare)
        window = self.options.window if most >= MAX_TOKENS else MAX_TOKENS
        confidence: list[float] = []
        history: list[tuple[list[Anchored], int]] = []
        cache = _Cache(self.model)
        for step in range(1, most + 1):
            settled = len(confidence)
            history.append((now, settled))
            tail = now[settled : settled + window]
            hidden = cache.read(now[: settled + len(tail) + 1], settled + len(tail), len(tail) + 1, state)
            chances = self._scores(hidden[0]).float().log_softmax(-1)
            chances[: len(tail), 0] -= self.options.ending
            if settled + len(tail) == len(now):
                chances[-1, 0] += self.options.ending
            best, columns = chances.max(-1)
            own = chances[torch.arange(len(tail)), self._columns(_tokens(tail))]
            rejected = (best[: len(tail)] - own > self.options.slack).nonzero().flatten().tolist()
            kept = rejected[0] if rejected else len(tail)
            confidence += own[:kept].exp().tolist()
            at = settled + kept
            if kept == len(tail) and at < len(now):
                continue  # the canvas goes on after the window
            clean = self.pieces[columns].tolist()
            if clean[kept] == END or at >= limit:
                return Refined(now[:at], confidence, step, tuple(history))
            edits = self.model.operations(hidden)[0].argmax(-1)
            hopeless = (best[: len(tail)] - own > self.options.eager) & (edits == KEEP)
            operations = edits.masked_fill(hopeless, REPLACE).tolist()
            repaired = _repaired(now[:at], tail, clean, operations, kept, last)
            now = (repaired + now[settled + len(tail) :])[:limit]
            confidence.append(float(best[kept].exp()))  # the model's own token needs no second look
        left = len(now) - len(confidence)
        return Refined(now, confidence + [0.5] * left, most, tuple(history))

    def _scores(self, hidden: Tensor) -> Tensor:
        return int8.linear(hidden, self._packed) if self._table is None else hidden @ self._table.T

    def _columns(self, tokens: list[int]) -> Tensor:
        """Columns of the scored pieces; a token that is not scored gets the end's, and is rejected."""
        ids = torch.tensor(tokens, dtype=torch.long)
        columns = torch.searchsorted(self.pieces, ids).clamp(max=len(self.pieces) - 1)
        return torch.where(self.pieces[columns] == ids, columns, 0)


def _tokens(canvas: Sequence[Anchored]) -> list[int]:
    return [place.token for place in canvas]


def _repaired(
    before: list[Anchored], tail: list[Anchored], clean: list[int], operations: list[int], at: int, last: int
) -> list[Anchored]:
    """``before``, then the tail from the rejected token ``at`` on: the model's token, the rest edited."""
    token, near = clean[at], _tokens(tail[at + 1 : at + 4])
    slot = tail[at].slot if at < len(tail) else last
    if token in near:  # what stands between is superfluous
        skip = at + 2 + near.index(token)
        slot = tail[skip - 1].slot
    elif at == len(tail) or operations[at] == INSERT:
        skip, slot = at, between(before, slot)
    else:
        skip = at + 1
    done = [*before, Anchored(token, slot)]
    rest = tail[skip:]
    return done + apply_edits(rest, [*clean[skip : len(tail)], END], operations[skip:], last)


class _Cache:
    """Self-attention keys and values of what was read."""

    def __init__(self, model: EditDenoiser) -> None:
        self.model, self.size = model, 0
        self.pairs: list[tuple[Tensor, Tensor] | None] = [None] * len(model.layers)

    def read(self, canvas: Sequence[Anchored], count: int, wanted: int, state: HeardState) -> Tensor:
        """The last ``wanted`` final states over the first ``count`` tokens, computing only what is new.

        ``canvas`` may hold one token more: then the last state knows where that one is.
        """
        tokens = torch.tensor([_tokens(canvas)], dtype=torch.long)
        slots = torch.tensor([[place.slot for place in canvas]], dtype=torch.long)
        x, here, ahead = (part[:, : PROMPT + count] for part in self.model.rows(tokens, slots, state))
        self.cut(min(self.size, x.shape[1] - wanted))
        old, x = self.size, x[:, self.size :]
        biases = self.model.biases(here[:, old:], ahead[:, old:], state.mask)
        visible = torch.ones(x.shape[1], old + x.shape[1], dtype=torch.bool).tril(old)
        for n, layer in enumerate(self.model.layers):
            assert isinstance(layer, DecoderLayer)
            x, self.pairs[n] = layer.extend(
                x, self.pairs[n], visible, state.keys[n], state.values[n], biases[n]
            )
        self.size = old + x.shape[1]
        return self.model.layer_norm(x[:, -wanted:])  # type: ignore[no-any-return]

    def cut(self, size: int) -> None:
        """Forget what comes after the first ``size`` positions."""
        if size < self.size:
            self.pairs = [p and (p[0][:, :, :size], p[1][:, :, :size]) for p in self.pairs]
            self.size = size
