"""Train the edit denoiser on corrupted canvases: real drafts, and texts with random edits.

The corruption is uniform: a token is replaced by a random one, dropped, or joined by a random one, at a
rate drawn for each clip; slots are jittered. A second canvas of the same clips is mostly what the refiner
itself makes of the first one (unrolled denoising: SUNDAE, Savinov et al. 2022), because that is what its next
pass sees; both are trained, and what is heard is prepared once for both (those projections stay as they are).
Every canvas is aligned with its text by minimum edit distance, which gives the operation for each token and
the clean token after each prefix; cross-entropy on both. The first run starts from Whisper base's decoder
(pieces that Whisper has not: from the canvas denoiser's), later ones from the refiner that there is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rapidfuzz.distance import Levenshtein
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.checkpoint import REFINER, unpack
from diffusion_asr.denoiser import PROMPT, grid
from diffusion_asr.pretrained import load_parts, model_folder
from diffusion_asr.refiner import (
    DELETE,
    END,
    INSERT,
    KEEP,
    MAX_TOKENS,
    REPLACE,
    Anchored,
    EditDenoiser,
    HeardState,
    Refiner,
    RefinerConfig,
    apply_edits,
)
from diffusion_asr.vocabulary import LANGUAGES, Vocabulary
from recipes.embedded.data import Batch, Clip, batches, collate, load, training_shards
from recipes.embedded.drafting import Draft, read_drafts
from recipes.embedded.quick_eval import error
from recipes.embedded.run import Run, RunOptions
from recipes.embedded.training import SHARES, WHISPER_LANGUAGE, WHISPER_PROMPT, Pieces

WHISPER_END = 50257


@dataclass
class RefineOptions(RunOptions):
    """Everything that decides a run of the refiner."""

    steps: int = 3000
    warmup: int = 100
    cooldown: float = 0.3
    ema: float = 0.99
    evaluate_every: int = 200
    model: str = "canvas-base"  # whose embeddings and drafts
    frames: int = 5000
    lr: float = 2e-5
    lr_anchor: float = 2e-4  # projections of the acoustics
    lr_new: float = 1e-3  # operations and biases by time
    negatives: int = 4000
    drafts: float = 0.75  # share of clips that start from the canvas denoiser's draft, where one is cached
    most_corrupted: float = 0.5
    unrolled: float = 0.6  # share of second canvases that are the refiner's own first pass
    jitter: int = 1  # slots


def align(canvas: Sequence[int], text: Sequence[int]) -> tuple[list[int], list[int]]:
    """Operations (N,) for the canvas's tokens, and the clean token after each prefix (N + 1,)."""
    operations, following = [KEEP] * len(canvas), [END] * (len(canvas) + 1)
    missing: dict[int, int] = {}
    for step in Levenshtein.opcodes(list(canvas), list(text)):
        if step.tag == "insert":
            missing[step.src_start] = text[step.dest_start]
        for k in range(step.src_end - step.src_start):
            at = step.src_start + k
            if step.tag == "delete":
                operations[at] = DELETE
                following[at] = text[step.dest_start] if step.dest_start < len(text) else END
            else:
                operations[at] = REPLACE if step.tag == "replace" else KEEP
                following[at] = text[step.dest_start + k]
    for at, token in missing.items():
        following[at] = token
        if at < len(canvas):
            operations[at] = INSERT if operations[at] == KEEP else REPLACE
    return operations, following


def corrupt(
    text: Sequence[Anchored], rate: float, pieces: Sequence[int], rng: random.Random
) -> list[Anchored]:
    """Uniform noise: each token is replaced, dropped, or followed by a random one with chance ``rate``."""
    out: list[Anchored] = []
    for place in text:
        if rng.random() >= rate:
            out.append(place)
            continue
        kind = rng.random()
        if kind < 0.55:
            out.append(Anchored(rng.choice(pieces), place.slot))
        elif kind < 0.75:
            out += [place, Anchored(rng.choice(pieces), place.slot + 1)]
    return out


def jittered(canvas: Sequence[Anchored], most: int, last: int, rng: random.Random) -> list[Anchored]:
    """Every token up to ``most`` slots earlier or later, in order."""
    slots = sorted(min(last, max(0, place.slot + rng.randint(-most, most))) for place in canvas)
    return [Anchored(place.token, slot) for place, slot in zip(canvas, slots, strict=True)]


def initial_refiner(work: Path, model: str, vocabulary: Vocabulary, trained: Tensor) -> EditDenoiser:
    """The model's refiner; without one, Whisper base's decoder with new parts that do nothing yet.

    ``trained`` (V, D) embeds the pieces that Whisper has not.
    """
    refiner = EditDenoiser(RefinerConfig(vocabulary=len(vocabulary)))
    for name in ("here", "ahead", "operation"):
        torch.nn.init.zeros_(getattr(refiner, name).weight)
        torch.nn.init.zeros_(getattr(refiner, name).bias)
    refiner.operation.bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])
    stored = model_folder(model) / REFINER
    own = unpack(stored, torch.float32) if stored.exists() else _whisper_decoder(work, vocabulary, trained)
    _, unexpected = refiner.load_state_dict(own, strict=False)
    assert not unexpected, unexpected
    return refiner


def _whisper_decoder(work: Path, vocabulary: Vocabulary, trained: Tensor) -> dict[str, Tensor]:
    """Whisper base's decoder under the refiner's names."""
    whisper = load_file(work / "weights/whisper/model.safetensors")
    own = {k[8:]: v for k, v in whisper.items() if k.startswith("decoder.")}
    table = own["embed_tokens.weight"]
    bpe = Tokenizer.from_file(str(work / "model/bpe.json"))
    known = [bpe.token_to_id(p) for p in vocabulary.pieces[: vocabulary.hindi_start]]
    rows = [i for i, k in enumerate(known) if i != END and k is not None]
    own["embed_tokens.weight"] = trained.clone()
    own["embed_tokens.weight"][rows] = table[[known[i] for i in rows]]
    own["embed_tokens.weight"][END] = table[WHISPER_END]
    own["embed_positions.weight"] = own["embed_positions.weight"][: MAX_TOKENS + PROMPT]
    own["embed_prompt.weight"] = table[[*WHISPER_PROMPT, *(WHISPER_LANGUAGE[name] for name in LANGUAGES)]]
    return own


class RefineTrainer(Run[EditDenoiser, list[Clip]]):
    """Trains the edit denoiser."""

    def __init__(self, work: Path, folder: Path, options: RefineOptions) -> None:
        torch.manual_seed(options.seed)
        self.work, self.options = work, options
        parts = load_parts(options.model)
        self.vocabulary = parts.vocabulary
        self.denoiser = parts.denoiser.float()
        self.slot_frames = parts.denoiser.config.slot_frames
        pieces = self.denoiser.embed_tokens.weight
        self.model = initial_refiner(work, options.model, self.vocabulary, pieces)
        for layer in self.model.layers:
            layer.encoder_attn.k_proj.requires_grad_(False)
            layer.encoder_attn.v_proj.requires_grad_(False)
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        rates = {"here.": options.lr_anchor, "ahead.": options.lr_anchor}
        rates |= {"operation.": options.lr_new, "here_time": options.lr_new, "ahead_time": options.lr_new}
        groups: list[dict[str, Any]] = [
            {"params": [p], "base": next((rates[x] for x in rates if n.startswith(x)), options.lr)}
            for n, p in named
        ]
        super().__init__(folder, options, self.model, groups)
        self.rng = random.Random(options.seed + self.step)
        self.piece_ids = {k: torch.tensor(self.vocabulary.pieces_for(k)) for k in LANGUAGES}
        self.dev = self.clips([work / "cache/dev.jsonl"])
        self.dev_drafts = dict(read_drafts([work / "cache/dev.jsonl"]))
        self.drafts: dict[tuple[str, int], Draft] = {}

    def clips(self, shards: Sequence[Path]) -> list[Clip]:
        """Clips of some caches."""
        return load(shards, self.vocabulary, self.slot_frames)

    def source(self) -> Iterator[list[Clip]]:
        """See ``Run.source``; only clips whose draft is there by now."""
        shards = training_shards(self.work / "cache")
        self.drafts = dict(read_drafts(shards))
        clips = [c for c in self.clips(shards) if (c.shard, c.offset) in self.drafts]
        hours = {x: sum(c.frames for c in clips if c.lang == x) / 180_000 for x in SHARES}
        self.note(clips=len(clips), hours={k: round(v, 2) for k, v in hours.items()})
        return batches(clips, SHARES, self.options.frames, random.Random(self.step))

    def canvas_of(self, clip: Clip) -> list[Anchored]:
        """The corrupted canvas of a training clip."""
        draft, text = self.drafts[clip.shard, clip.offset]
        pieces = self.vocabulary.pieces_for(clip.lang)[1:]
        if self.rng.random() < self.options.drafts:
            canvas = corrupt(draft, self.rng.choice((0.0, 0.0, 0.1)), pieces, self.rng)
        else:
            canvas = corrupt(text, self.rng.random() * self.options.most_corrupted, pieces, self.rng)
        last = -(-clip.frames // self.slot_frames) - 1
        return jittered(canvas, self.options.jitter, last, self.rng)[:MAX_TOKENS]

    def prepare(self, model: EditDenoiser, batch: Batch) -> HeardState:
        """What the refiner hears, with the slot acoustics of the (frozen) canvas denoiser."""
        slots = grid(batch.memory, self.slot_frames)
        with torch.no_grad():
            acoustics = self.denoiser.acoustics(batch.memory.states, slots)
        return model.prepare(batch.memory, batch.languages, acoustics, slots)

    def losses(self, clips: Sequence[Clip]) -> list[Tensor]:
        """Cross-entropies of tokens and of operations, on two canvases of each clip."""
        with torch.no_grad():
            heard = self.prepare(self.model, collate(clips))
        # The prompt is the one part of the state that is trained.
        state = heard._replace(prompt=self.model.prompt([c.lang for c in clips]))
        first = [self.canvas_of(c) for c in clips]
        found, hidden = self._canvas_losses(first, clips, state)
        own = self._one_pass(first, clips, hidden, state)
        second = [
            edited if self.rng.random() < self.options.unrolled else self.canvas_of(clip)
            for edited, clip in zip(own, clips, strict=True)
        ]
        return [*found, *self._canvas_losses(second, clips, state)[0]]

    def _canvas_losses(
        self, canvases: list[list[Anchored]], clips: Sequence[Clip], state: HeardState
    ) -> tuple[list[Tensor], Tensor]:
        """Both losses on one canvas of each clip, and the final states."""
        pairs = [align([x.token for x in c], clip.ids) for c, clip in zip(canvases, clips, strict=True)]
        longest = max(map(len, canvases))
        operations = torch.tensor([o + [-1] * (longest - len(o)) for o, _ in pairs], dtype=torch.long)
        following = torch.tensor([f + [-1] * (longest + 1 - len(f)) for _, f in pairs], dtype=torch.long)
        hidden = self.model.hidden(*_padded(canvases, state.last), state)
        used = following >= 0
        targets = following[used]
        pieces = Pieces.draw(targets, len(self.vocabulary), self.options.negatives)
        logits = self.model.logits(hidden[used], pieces.ids) + pieces.correction
        token = F.cross_entropy(logits, torch.searchsorted(pieces.ids, targets))
        flat = self.model.operations(hidden).flatten(0, 1)
        edit = F.cross_entropy(flat, operations.flatten(), ignore_index=-1) if longest else token * 0
        return [token, edit], hidden

    @torch.no_grad()
    def _one_pass(
        self, canvases: list[list[Anchored]], clips: Sequence[Clip], hidden: Tensor, state: HeardState
    ) -> list[list[Anchored]]:
        """What the refiner makes of the canvases, every edit applied; ``hidden`` are its final states."""
        edits = self.model.operations(hidden).argmax(-1).tolist()
        out = []
        for row, (canvas, clip) in enumerate(zip(canvases, clips, strict=True)):
            pieces = self.piece_ids[clip.lang]
            best = pieces[self.model.logits(hidden[row, : len(canvas) + 1], pieces).argmax(-1)].tolist()
            out.append(apply_edits(canvas, best, edits[row][: len(canvas)], int(state.last[row])))
        return out

    def update(self, batch: list[Clip]) -> list[float]:
        """See ``Run.update``."""
        self.set_rates()
        parts = self.losses(batch)
        self.optimiser.zero_grad(set_to_none=True)
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        self.advance()
        return [float(p.detach()) for p in parts]

    def evaluate(self, most: int = 3) -> None:
        """Dev errors of the running average: the draft's, then after 1, 3, 7 and all settling passes."""
        found, passes = {}, []
        for lang, source in sorted({(c.lang, c.source) for c in self.dev}):
            group = [c for c in self.dev if (c.lang, c.source) == (lang, source)]
            group = [c for c in group if ("dev", c.offset) in self.dev_drafts]
            group = group[:: max(1, len(group) // most)][:most]
            refiner = Refiner(self.average, self.piece_ids[lang])
            texts: dict[int, list[str]] = {0: [], 1: [], 3: [], 7: [], MAX_TOKENS: []}
            for clip in group:
                state = self.prepare(self.average, collate([clip]))
                draft, _ = self.dev_drafts["dev", clip.offset]
                for n in texts:
                    settled = refiner.settle(state, draft, n) if n else None
                    ids = settled.tokens if settled else [place.token for place in draft]
                    texts[n].append(self.vocabulary.decode(ids))
                passes.append((settled.steps if settled else 0, len(ids)))
            found[f"{lang} {source}"] = [error([c.text for c in group], texts[n], lang) for n in texts]
            print(f"  {lang}: {group[0].text[:90]}\n    -> {texts[MAX_TOKENS][0][:90]}", flush=True)
        each = round(sum(n for n, _ in passes) / max(1, sum(n for _, n in passes)), 3)
        self.note(dev=found, passes_a_token=each)


def _padded(canvases: Sequence[Sequence[Anchored]], last: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens and slots, (B, N) each; padding stands at a clip's last slot."""
    longest = max(map(len, canvases))
    rows = [
        [*canvas, *[Anchored(END, end)] * (longest - len(canvas))]
        for canvas, end in zip(canvases, last.tolist(), strict=True)
    ]
    whole = torch.tensor(rows, dtype=torch.long).view(len(rows), longest, 2)
    return whole[..., 0], whole[..., 1]
