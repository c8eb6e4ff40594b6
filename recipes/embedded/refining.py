"""Train the edit denoiser on corrupted canvases: real drafts, and texts with random edits.

The corruption is uniform: a token is replaced by a random one, dropped, or joined by a random one, at a
rate drawn for each clip. Every canvas is aligned with its text by minimum edit distance, which gives the
operation for each token and the clean token after each prefix; cross-entropy on both. The token's target
may be shared between the text and a teacher, Whisper base's decoder. All starts from that decoder too;
pieces that Whisper has not start from the canvas denoiser's.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import torch
from rapidfuzz.distance import Levenshtein
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.checkpoint import unpack
from diffusion_asr.denoiser import PROMPT
from diffusion_asr.pretrained import load_parts, model_folder
from diffusion_asr.refiner import (
    DELETE,
    END,
    INSERT,
    KEEP,
    MAX_TOKENS,
    REPLACE,
    EditDenoiser,
    Refiner,
    RefinerConfig,
)
from diffusion_asr.vocabulary import Vocabulary
from recipes.embedded.data import Batch, Clip, batches, collate, load, training_shards
from recipes.embedded.quick_eval import error
from recipes.embedded.run import Run, RunOptions
from recipes.embedded.training import SHARES, WHISPER_LANGUAGE, WHISPER_PROMPT, Pieces

WHISPER_END = 50257
TAUGHT = ("en", "de", "fr", "es")  # Whisper base writes Hindi in Urdu script, and Mandarin in two


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
    lr_operation: float = 1e-3
    negatives: int = 4000
    drafts: float = 0.6  # share of clips that start from the canvas denoiser's draft, where one is cached
    most_corrupted: float = 0.5
    clean: float = 0.0  # share of clips whose canvas is their text: all that is left is to agree with it
    unsure: float = 1.0  # weight of the tokens that follow a prefix with errors
    start: str = ""  # model whose refiner the run goes on from; empty: Whisper base's decoder
    mix: float = 0.0  # share of Whisper base's decoder in that start
    teacher: float = 0.0  # share of the targets that Whisper's own decoder gives, where it is a good one


def align(canvas: Sequence[int], text: Sequence[int]) -> tuple[list[int], list[int]]:
    """Operations (N,) for the canvas's tokens, and where the text goes on after each prefix (N + 1,).

    A place is that of the clean token in ``text``; ``len(text)`` is its end.
    """
    operations, places = [KEEP] * len(canvas), [len(text)] * (len(canvas) + 1)
    missing: dict[int, int] = {}
    for step in Levenshtein.opcodes(list(canvas), list(text)):
        if step.tag == "insert":
            missing[step.src_start] = step.dest_start
        for k in range(step.src_end - step.src_start):
            at = step.src_start + k
            if step.tag == "delete":
                operations[at], places[at] = DELETE, step.dest_start
            else:
                operations[at] = REPLACE if step.tag == "replace" else KEEP
                places[at] = step.dest_start + k
    for at, place in missing.items():
        places[at] = place
        if at < len(canvas):
            operations[at] = INSERT if operations[at] == KEEP else REPLACE
    return operations, places


def corrupt(text: Sequence[int], rate: float, pieces: Sequence[int], rng: random.Random) -> list[int]:
    """Uniform noise: each token is replaced, dropped, or followed by a random one with chance ``rate``."""
    out: list[int] = []
    for token in text:
        if rng.random() >= rate:
            out.append(token)
            continue
        kind = rng.random()
        if kind < 0.55:
            out.append(rng.choice(pieces))
        elif kind < 0.75:
            out += [token, rng.choice(pieces)]
    return out


def initial_refiner(work: Path, vocabulary: Vocabulary, trained: Tensor) -> EditDenoiser:
    """Whisper base's decoder with an untrained operation head; ``trained`` (V, D) embeds new pieces."""
    model = EditDenoiser(RefinerConfig(vocabulary=vocabulary.whole))
    whisper = load_file(work / "weights/whisper/model.safetensors")
    own = {k[8:]: v for k, v in whisper.items() if k.startswith("decoder.")}
    table = own["embed_tokens.weight"]
    bpe = Tokenizer.from_file(str(work / "model/bpe.json"))
    known = [bpe.token_to_id(p) for p in vocabulary.pieces[: vocabulary.hindi_start]]
    rows = [i for i, k in enumerate(known) if i != END and k is not None]
    fused = table[[bpe.token_to_id(piece) for piece in vocabulary.fused]]
    own["embed_tokens.weight"] = torch.cat([trained[: len(vocabulary)], fused])
    own["embed_tokens.weight"][rows] = table[[known[i] for i in rows]]
    own["embed_tokens.weight"][END] = table[WHISPER_END]
    own["embed_positions.weight"] = own["embed_positions.weight"][: MAX_TOKENS + PROMPT]
    own["embed_prompt.weight"] = table[
        [*WHISPER_PROMPT, *(WHISPER_LANGUAGE[name] for name in model.config.languages)]
    ]
    _, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected, unexpected
    torch.nn.init.zeros_(model.operation.weight)
    model.operation.bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])
    return model


def mixed(whisper: dict[str, Tensor], trained: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """``trained`` weights, mixed with Whisper's but for the operations; pieces new to them are Whisper's."""
    out = {}
    for name, value in trained.items():
        base, part = whisper[name], 0.0 if name.startswith("operation") else share
        out[name] = torch.cat([value * (1 - part) + base[: len(value)] * part, base[len(value) :]])
    return out


class Teacher:
    """Whisper's own decoder, which knows far more text and voices than we can train on.

    Fine-tuning to one reader's labels costs some of that; its distributions over the next token keep it.
    """

    def __init__(self, whisper: EditDenoiser, vocabulary: Vocabulary, most: int = 8) -> None:
        self.model, self.most = whisper.eval().requires_grad_(False), most
        self.pieces = torch.tensor(sorted({p for lang in TAUGHT for p in vocabulary.fused_for(lang)}))

    @torch.no_grad()
    def says(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """After each prefix of the clean texts, the likeliest tokens (B, N + 1, K) and their chances."""
        state = self.model.prepare(batch.memory, batch.languages)
        scores = self.model.logits(self.model.hidden(batch.targets, state), self.pieces)
        best = scores.softmax(-1).topk(self.most)
        return self.pieces[best.indices], best.values / best.values.sum(-1, keepdim=True)


class RefineTrainer(Run[EditDenoiser, list[Clip]]):
    """Trains the edit denoiser."""

    def __init__(self, work: Path, folder: Path, options: RefineOptions) -> None:
        torch.manual_seed(options.seed)
        self.work, self.options = work, options
        parts = load_parts(options.model)
        self.vocabulary = Vocabulary.load(work / "model/vocabulary.json")
        self.slot_frames = parts.denoiser.config.slot_frames
        self.model = initial_refiner(work, self.vocabulary, parts.denoiser.embed_tokens.weight.float())
        self.teacher = Teacher(copy.deepcopy(self.model), self.vocabulary) if options.teacher else None
        if options.start:
            weights = unpack(model_folder(options.start) / "refiner.safetensors", torch.float32)
            self.model.load_state_dict(mixed(self.model.state_dict(), weights, options.mix))
        new = list(self.model.operation.parameters())
        known = [p for n, p in self.model.named_parameters() if not n.startswith("operation")]
        groups = [{"params": known, "base": options.lr}, {"params": new, "base": options.lr_operation}]
        super().__init__(folder, options, self.model, groups)
        self.rng = random.Random(options.seed + self.step)
        self.dev = self.clips([work / "cache/dev.jsonl"])
        self.drafts: dict[tuple[str, int], list[int]] = {}

    def clips(self, shards: Sequence[Path]) -> list[Clip]:
        """Clips of some caches."""
        clips = load(shards, self.vocabulary, self.slot_frames)
        return [replace(clip, ids=self.vocabulary.fuse(clip.ids)) for clip in clips]

    def source(self) -> Iterator[list[Clip]]:
        """See ``Run.source``; with the drafts that are there by now."""
        cache = self.work / "cache"
        shards = training_shards(cache)
        for shard in shards:
            path = shard.with_name(shard.stem + ".drafts.jsonl")
            for line in path.read_text().rpartition("\n")[0].splitlines() if path.exists() else ():
                row = json.loads(line)
                self.drafts[shard.stem, row["offset"]] = self.vocabulary.fuse(row["ids"])
        clips = self.clips(shards)
        self.note(clips=len(clips), drafts=len(self.drafts))
        return batches(clips, SHARES, self.options.frames, random.Random(self.step))

    def canvas_of(self, clip: Clip) -> list[int]:
        """The corrupted canvas of a training clip."""
        if self.rng.random() < self.options.clean:
            return clip.ids[:MAX_TOKENS]
        draft = self.drafts.get((clip.shard, clip.offset))
        pieces = self.vocabulary.fused_for(clip.lang)[1:]
        if draft is not None and self.rng.random() < self.options.drafts:
            return corrupt(draft, self.rng.choice((0.0, 0.0, 0.1)), pieces, self.rng)[:MAX_TOKENS]
        rate = self.rng.random() * self.options.most_corrupted
        return corrupt(clip.ids, rate, pieces, self.rng)[:MAX_TOKENS]

    def losses(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        """Cross-entropies of tokens and of operations."""
        batch = collate(clips)
        canvases = [self.canvas_of(c) for c in clips]
        pairs = [align(c, clip.ids) for c, clip in zip(canvases, clips, strict=True)]
        longest = max(map(len, canvases))
        canvas = torch.tensor([c + [0] * (longest - len(c)) for c in canvases], dtype=torch.long)
        operations = torch.tensor([o + [-1] * (longest - len(o)) for o, _ in pairs], dtype=torch.long)
        places = torch.tensor([p + [-1] * (longest + 1 - len(p)) for _, p in pairs], dtype=torch.long)
        state = self.model.prepare(batch.memory, batch.languages)
        hidden = self.model.hidden(canvas, state)
        used = places >= 0
        ids, chances = self.targets(clips, batch, places)
        ids, chances = ids[used], chances[used]
        pieces = Pieces.draw(ids, self.vocabulary.whole, self.options.negatives)
        logits = self.model.logits(hidden[used], pieces.ids) + pieces.correction
        known = logits.log_softmax(-1).gather(1, torch.searchsorted(pieces.ids, ids))
        weight = self.weights(canvases, clips, longest)[used]
        token = -((chances * known).sum(1) * weight).sum() / weight.sum()
        flat = self.model.operations(hidden).flatten(0, 1)
        return token, F.cross_entropy(flat, operations.flatten(), ignore_index=-1) if longest else token * 0

    def weights(self, canvases: list[list[int]], clips: Sequence[Clip], longest: int) -> Tensor:
        """(B, N + 1): 1 after a prefix that the text has too, ``unsure`` after others.

        Settling reads a prefix that is settled, so nearly clean. Learning from wrong ones teaches to mistrust
        what was written before, which is half of what Whisper's decoder knows.
        """
        rows = torch.full((len(clips), longest + 1), self.options.unsure)
        for row, canvas, clip in zip(rows, canvases, clips, strict=True):
            alike = takewhile(lambda pair: pair[0] == pair[1], zip(canvas, clip.ids, strict=False))
            row[: len(list(alike)) + 1] = 1.0
        return rows

    def targets(self, clips: Sequence[Clip], batch: Batch, places: Tensor) -> tuple[Tensor, Tensor]:
        """What should follow at ``places`` (B, N): tokens (B, N, K) and how likely each of them should be."""
        clean = F.pad(batch.targets, (0, 1))  # with the end
        label = clean.gather(1, places.clamp(min=0))[..., None]
        if self.teacher is None:
            return label, torch.ones_like(label, dtype=torch.float32)
        ids, chances = self.teacher.says(batch)
        at = places.clamp(min=0)[..., None].expand(-1, -1, ids.shape[-1])
        ids, chances = ids.gather(1, at), chances.gather(1, at)
        taught = torch.tensor([c.lang in TAUGHT for c in clips])[:, None, None] & (label != END)
        share = self.options.teacher * taught
        return torch.cat([label, ids], -1), torch.cat([1 - share, share * chances], -1)

    def update(self, batch: list[Clip]) -> list[float]:
        """See ``Run.update``."""
        self.set_rates()
        parts = self.losses(batch)
        self.optimiser.zero_grad(set_to_none=True)
        (parts[0] + parts[1]).backward()  # type: ignore[no-untyped-call]
        self.advance()
        return [float(p.detach()) for p in parts]

    def evaluate(self, most: int = 3) -> None:
        """Dev errors of the running average: the draft's, then after 1, 4, 16 and all settling passes."""
        drafts = self.work / "cache/dev.drafts.jsonl"
        if not drafts.exists():
            return
        first = {r["offset"]: r["ids"] for r in map(json.loads, drafts.read_text().splitlines())}
        found = {}
        for lang, source in sorted({(c.lang, c.source) for c in self.dev}):
            group = [c for c in self.dev if (c.lang, c.source) == (lang, source)]
            group = group[:: max(1, len(group) // most)][:most]
            refiner = Refiner(self.average, torch.tensor(self.vocabulary.fused_for(lang)))
            texts: dict[int, list[str]] = {0: [], 1: [], 4: [], 16: [], MAX_TOKENS: []}
            for clip in group:
                one = collate([clip])
                state = self.average.prepare(one.memory, one.languages)
                for passes in texts:
                    ids = self.vocabulary.fuse(first.get(clip.offset, []))
                    if passes:
                        ids = refiner.settle(state, ids, passes).tokens
                    texts[passes].append(self.vocabulary.decode(ids))
            found[f"{lang} {source}"] = [error([c.text for c in group], texts[n], lang) for n in texts]
            print(f"  {lang}: {group[0].text[:90]}\n    -> {texts[MAX_TOKENS][0][:90]}", flush=True)
        self.note(dev=found)
