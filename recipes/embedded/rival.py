"""The rival of the time-anchored canvas: an anchored token canvas, to be compared at equal compute.

Slots are the places where a draft (a time-anchored denoiser's first pass) hears a token, plus places
where it is unsure, so the canvas is about as long as the text. Whisper's positions and its shift (the
state before a slot predicts the slot) are kept; each slot is told its acoustics and time; null slots
absorb miscounts; the loss is CTC over the slots.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import Slots, collapse
from diffusion_asr.decoding.denoiser import CanvasDenoiser, PreparedState
from diffusion_asr.decoding.layers import PROMPT
from diffusion_asr.models.canvas import compute_dtype
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.data import Batch, Clip, collate
from recipes.embedded.quick_eval import error
from recipes.embedded.training import Pieces, Trainer, TrainOptions, ctc, second_canvas


class TokenCanvas(CanvasDenoiser):
    """Shifted prediction: row k holds token k - 1 and the acoustics of slot k, whose token it predicts."""

    def prepare(
        self, memory: AcousticMemory, languages: Sequence[str], slots: Slots | None = None
    ) -> PreparedState:
        assert slots is not None
        times = torch.cat([slots.times, slots.times[:, -1:]], dim=1)
        mask = torch.cat([slots.mask[:, :1], slots.mask], dim=1)
        return super().prepare(memory, languages, Slots(times, mask))

    def hidden(self, canvas: Tensor, state: PreparedState, previous: Tensor | None = None) -> Tensor:
        start = self.embed_prompt.weight[2].expand(len(canvas), 1, -1)
        held = torch.cat([start, self.embed_tokens(canvas)], dim=1) + state.acoustics
        if previous is not None:
            held = held + torch.nn.functional.pad(self.condition(previous), (0, 0, 1, 0))
        x = torch.cat([state.prompt[:, : PROMPT - 1], held], dim=1)
        x = x + self.embed_positions.weight[: x.shape[1]].to(x.dtype)
        for n, layer in enumerate(self.layers):
            own, cross = state.self_bias[n][..., 1:, 1:], state.cross_bias[n][..., 1:, :]
            x = layer(x, own, state.keys[n], state.values[n], cross)
        return self.layer_norm(x)[:, PROMPT - 1 : -1]  # type: ignore[no-any-return]


@torch.no_grad()
def plan(draft: CanvasDenoiser, batch: Batch, least: float, jitter: bool) -> tuple[Slots, Tensor]:
    """Slots (B, L) from a draft's first pass and the draft's tokens in them.

    ``least`` is the non-null probability above which a slot of the draft without a token is kept.
    """
    state = draft.prepare(batch.memory, batch.languages)
    canvas = torch.zeros(state.slot_mask.shape, dtype=torch.long)
    probabilities = draft.logits(draft.hidden(canvas, state)).float().softmax(-1)
    best = probabilities.argmax(-1)
    sounding = 1 - probabilities[..., 0]
    times, tokens = [], []
    for row, n in enumerate(state.slot_mask.sum(1).tolist()):
        keep = {first: token for token, first, _ in collapse(best[row, :n])}
        for slot in (sounding[row, :n] > least).nonzero().flatten().tolist():
            near = best[row, slot] != 0 and slot not in keep  # the rest of a run
            if not near:
                keep.setdefault(slot, 0)
        if jitter:
            for slot in random.sample(range(n), k=min(n, 1 + n // 25)):
                keep.setdefault(slot, 0)
        order = sorted(keep) or [0]
        times.append(state.slots.times[0, torch.tensor(order)])
        tokens.append(torch.tensor([keep.get(slot, 0) for slot in order]))
    mask = pad_sequence([torch.ones(len(t), dtype=torch.bool) for t in times], batch_first=True)
    return Slots(pad_sequence(times, batch_first=True), mask), pad_sequence(tokens, batch_first=True)


class RivalTrainer(Trainer):
    """Trains a ``TokenCanvas`` over the frozen draft of another run's average."""

    def __init__(self, work: Path, folder: Path, options: TrainOptions, draft: str) -> None:
        super().__init__(work, folder, options)
        self.draft = CanvasDenoiser(self.master.config)
        self.draft.load_state_dict(
            torch.load(work / "runs" / draft / "last.pt", weights_only=True)["average"]
        )
        self.draft.to(compute_dtype()).eval().requires_grad_(False)
        for model in (self.model, self.master, self.average):
            model.__class__ = TokenCanvas

    def losses(self, batch: Batch) -> list[Tensor]:
        size = self.model.config.vocabulary
        pieces = Pieces.draw(batch.targets, size, self.options.negatives)
        slots, tokens = plan(self.draft, batch, 0.03, jitter=True)
        state = self.model.prepare(batch.memory, batch.languages, slots)
        count = slots.mask.sum(1)
        noise = torch.randint(0, size, tokens.shape)
        rate = torch.rand(len(tokens), 1) * 0.5
        drafted = torch.where(torch.rand(tokens.shape) < rate, noise, tokens)
        canvas = torch.where(torch.rand(len(tokens), 1) < 0.5, noise, drafted)
        hidden = self.model.hidden(canvas, state)
        first, log_probs = ctc(self.model.logits(hidden, pieces.ids), batch, count, pieces)
        if self.step < self.options.unroll_after:
            return [first]
        with torch.no_grad():
            canvas = second_canvas(log_probs, count, batch, pieces, size)
        previous = hidden.detach() if random.random() < 0.5 else None
        logits = self.model.logits(self.model.hidden(canvas, state, previous), pieces.ids)
        return [first, ctc(logits, batch, count, pieces)[0]]

    def evaluate(self) -> None:
        """Dev errors of draft and running average."""
        narrow = copy.deepcopy(self.average).to(compute_dtype())
        assert isinstance(narrow, TokenCanvas)
        self.note(dev=errors(self.draft, narrow, self.dev, self.vocabulary))


@torch.inference_mode()
def errors(
    draft: CanvasDenoiser, model: TokenCanvas, dev: Sequence[Clip], vocabulary: Vocabulary, most: int = 10
) -> dict[str, list[float]]:
    """Errors by set: the draft itself, then 1, 2, 4 steps from noise and 1, 2, 4 from the draft."""
    out = {}
    for lang, source in sorted({(c.lang, c.source) for c in dev}):
        clips = sorted((c for c in dev if (c.lang, c.source) == (lang, source)), key=lambda c: c.frames)
        clips = clips[:: max(1, len(clips) // most)]
        texts: list[list[str]] = [[] for _ in range(7)]
        for clip in clips:
            batch = collate([clip])
            slots, tokens = plan(draft, batch, 0.03, jitter=False)
            texts[0].append(vocabulary.decode(tokens[0].tolist()))
            state = model.prepare(batch.memory, batch.languages, slots)
            for init in (0, 1):
                noise = torch.randint(0, len(vocabulary), tokens.shape)
                canvas, hidden = (tokens if init else noise), None
                for step in (1, 2, 3, 4):
                    hidden = model.hidden(canvas, state, hidden)
                    sure, best = model.logits(hidden).float().softmax(-1).max(-1)
                    if step != 3:
                        text = vocabulary.decode(t for t, _, _ in collapse(best[0]))
                        texts[1 + 3 * init + (0, 1, 1, 2)[step - 1]].append(text)
                    canvas = torch.where(sure > 0.6, best, torch.randint(0, len(vocabulary), tokens.shape))
        out[f"{lang} {source}"] = [error([c.text for c in clips], t, lang) for t in texts]
        print(f"  {lang} {source}: {clips[-1].text[:80]}\n    -> {texts[6][-1][:80]}", flush=True)
    return out
