"""Train the causal refiner on corrupted canvases: real drafts, and texts with random edits.

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
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import torch
from rapidfuzz.distance import Levenshtein
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.decoding.causal import int8
from diffusion_asr.decoding.causal.model import (
    DELETE,
    END,
    INSERT,
    KEEP,
    MAX_TOKENS,
    REPLACE,
    CausalRefiner,
    RefinerConfig,
)
from diffusion_asr.decoding.causal.rewriting import Rewriter
from diffusion_asr.decoding.causal.scorer import PieceScorer
from diffusion_asr.decoding.layers import PROMPT
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import find_model
from diffusion_asr.models.packing import unpack_file
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.text.vocabulary import Vocabulary
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
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))


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


def initial_refiner(work: Path, vocabulary: Vocabulary, trained: Tensor) -> CausalRefiner:
    """Whisper base's decoder with an untrained operation head; ``trained`` (V, D) embeds new pieces."""
    model = CausalRefiner(RefinerConfig(vocabulary=len(vocabulary)))
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
    own["embed_prompt.weight"] = table[
        [*WHISPER_PROMPT, *(WHISPER_LANGUAGE[name] for name in model.config.languages)]
    ]
    _, unexpected = model.load_state_dict(own, strict=False)
    assert not unexpected, unexpected
    torch.nn.init.zeros_(model.operation.weight)
    model.operation.bias.data = torch.tensor([2.0, 0.0, 0.0, 0.0])
    return model


def mixed(whisper: dict[str, Tensor], trained: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """``trained`` weights, mixed with Whisper's but for the operations."""
    parts = {name: 0.0 if name.startswith("operation") else share for name in trained}
    return {name: value.lerp(whisper[name], parts[name]) for name, value in trained.items()}


class Teacher:
    """Whisper's own decoder, which knows far more text and voices than we can train on.

    Fine-tuning to one reader's labels costs some of that; its distributions over the next token keep it.
    """

    def __init__(self, whisper: CausalRefiner, vocabulary: Vocabulary, most: int = 8) -> None:
        self.model, self.most = whisper.eval().requires_grad_(False), most
        if int8.has_kernels():
            int8.quantise_linears(self.model.layers)
        self.pieces = torch.tensor(sorted({p for lang in TAUGHT for p in vocabulary.pieces_for(lang)}))

    @torch.no_grad()
    def says(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """After each prefix of the clean texts, the likeliest tokens (B, N + 1, K) and their chances."""
        state = self.model.prepare(batch.memory, batch.languages)
        scores = self.model.logits(self.model.hidden(batch.targets, state), self.pieces)
        best = scores.softmax(-1).topk(self.most)
        return self.pieces[best.indices], best.values / best.values.sum(-1, keepdim=True)


@dataclass(frozen=True)
class Row:
    """A clip, and its draft's tokens; None without a draft."""

    clip: Clip
    draft: list[int] | None = None


class RefineTrainer(Run[CausalRefiner, list[Clip]]):
    """Trains the causal refiner."""

    def __init__(self, work: Path, folder: Path, options: RefineOptions) -> None:
        torch.manual_seed(options.seed)
        self.work, self.options = work, options
        parts = load_parts(options.model)
        self.vocabulary = Vocabulary.load(work / "model/vocabulary.json")
        denoiser = find_denoiser(parts)
        self.slot_frames, trained = denoiser.config.slot_frames, denoiser.embed_tokens.weight.float()
        self.model = initial_refiner(work, self.vocabulary, trained)
        self.teacher = Teacher(copy.deepcopy(self.model), self.vocabulary) if options.teacher else None
        if options.start:
            weights = unpack_file(find_model(options.start) / "refiner.safetensors", torch.float32)
            self.model.load_state_dict(mixed(self.model.state_dict(), weights, options.mix))
        new = list(self.model.operation.parameters())
        known = [p for n, p in self.model.named_parameters() if not n.startswith("operation")]
        groups = [{"params": known, "base": options.lr}, {"params": new, "base": options.lr_operation}]
        super().__init__(folder, options, self.model, groups)
        self.rng = random.Random(options.seed + self.step)
        self.dev = self.clips([work / "cache/dev.jsonl"])
        self.dev_drafts = self.drafted([work / "cache/dev.jsonl"], self.dev)
        self.drafts: dict[tuple[str, int], list[int]] = {}

    def clips(self, shards: Sequence[Path]) -> list[Clip]:
        """Clips of some caches."""
        return load(shards, self.vocabulary, self.slot_frames)

    def drafted(self, shards: Sequence[Path], clips: Sequence[Clip]) -> dict[tuple[str, int], list[int]]:
        """The drafts that are there by now, by shard and offset."""
        texts = {(clip.shard, clip.offset): clip.ids for clip in clips}
        found = {}
        for shard in shards:
            path = shard.with_name(shard.stem + ".drafts.jsonl")
            for line in path.read_text().rpartition("\n")[0].splitlines() if path.exists() else ():
                row = json.loads(line)
                ids = texts.get((shard.stem, row["offset"]), [])
                if len(ids) == len(row["text"]):  # a text that does not fit its slots has no places
                    found[shard.stem, row["offset"]] = [token for token, _, _ in row["runs"]]
        return found

    def source(self) -> Iterator[list[Clip]]:
        """See ``Run.source``; with the drafts that are there by now."""
        shards = training_shards(self.work / "cache")
        clips = self.clips(shards)
        self.drafts = self.drafted(shards, clips)
        self.note(clips=len(clips), drafts=len(self.drafts))
        return batches(clips, self.options.shares, self.options.frames, random.Random(self.step))

    def rows(self, clips: Sequence[Clip]) -> list[Row]:
        """Clips with their drafts, where there are any."""
        return [Row(clip, self.drafts.get((clip.shard, clip.offset))) for clip in clips]

    def canvas_of(self, row: Row) -> list[int]:
        """The corrupted canvas of a row."""
        clip = row.clip
        if self.rng.random() < self.options.clean:
            return clip.ids[:MAX_TOKENS]
        pieces = self.vocabulary.pieces_for(clip.lang)[1:]
        if row.draft is not None and self.rng.random() < self.options.drafts:
            return corrupt(row.draft, self.rng.choice((0.0, 0.0, 0.1)), pieces, self.rng)[:MAX_TOKENS]
        rate = self.rng.random() * self.options.most_corrupted
        return corrupt(clip.ids, rate, pieces, self.rng)[:MAX_TOKENS]

    def losses(self, clips: Sequence[Clip]) -> tuple[Tensor, Tensor]:
        """Cross-entropies of tokens and of operations."""
        rows = self.rows(clips)
        batch = collate([row.clip for row in rows])
        canvases = [self.canvas_of(row) for row in rows]
        pairs = [align(c, row.clip.ids) for c, row in zip(canvases, rows, strict=True)]
        longest = max(map(len, canvases))
        canvas = torch.tensor([c + [0] * (longest - len(c)) for c in canvases], dtype=torch.long)
        operations = torch.tensor([o + [-1] * (longest - len(o)) for o, _ in pairs], dtype=torch.long)
        places = torch.tensor([p + [-1] * (longest + 1 - len(p)) for _, p in pairs], dtype=torch.long)
        state = self.model.prepare(batch.memory, batch.languages)
        hidden = self.model.hidden(canvas, state)
        used = places >= 0
        ids, chances = self.targets(rows, clips, batch, places)
        ids, chances = ids[used], chances[used]
        pieces = Pieces.draw(ids, len(self.vocabulary), self.options.negatives)
        logits = self.model.logits(hidden[used], pieces.ids) + pieces.correction
        known = logits.log_softmax(-1).gather(1, torch.searchsorted(pieces.ids, ids))
        weight = self.weights(canvases, rows, longest)[used]
        token = -((chances * known).sum(1) * weight).sum() / weight.sum()
        flat = self.model.operations(hidden).flatten(0, 1)
        return token, F.cross_entropy(flat, operations.flatten(), ignore_index=-1) if longest else token * 0

    def weights(self, canvases: list[list[int]], rows: Sequence[Row], longest: int) -> Tensor:
        """(B, N + 1): 1 after a prefix that the text has too, ``unsure`` after others.

        Settling reads a prefix that is settled, so nearly clean. Learning from wrong ones teaches to mistrust
        what was written before, which is half of what Whisper's decoder knows.
        """
        weights = torch.full((len(rows), longest + 1), self.options.unsure)
        for weight, canvas, row in zip(weights, canvases, rows, strict=True):
            alike = takewhile(lambda pair: pair[0] == pair[1], zip(canvas, row.clip.ids, strict=False))
            weight[: len(list(alike)) + 1] = 1.0
        return weights

    def targets(
        self, rows: Sequence[Row], clips: Sequence[Clip], batch: Batch, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What should follow at ``places`` (B, N): tokens (B, N, K) and how likely each of them should be."""
        clean = F.pad(batch.targets, (0, 1))  # with the end
        label = clean.gather(1, places.clamp(min=0))[..., None]
        if self.teacher is None:
            return label, torch.ones_like(label, dtype=torch.float32)
        ids, chances = self.teacher.says(collate(clips))
        at, of = places.clamp(0, ids.shape[1] - 1), torch.arange(len(rows))[:, None]
        ids, chances = ids[of, at], chances[of, at]
        taught = torch.tensor([r.clip.lang in TAUGHT for r in rows])[:, None, None] & (label != END)
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
        """Dev errors of the running average: the draft, and after all passes."""
        found = {}
        for lang, source in sorted({(c.lang, c.source) for c in self.dev}):
            group = [c for c in self.dev if (c.lang, c.source) == (lang, source)]
            group = [
                c for c in group[:: max(1, len(group) // most)] if (c.shard, c.offset) in self.dev_drafts
            ][:most]
            pieces = torch.tensor(self.vocabulary.pieces_for(lang))
            rewriter = Rewriter(self.average, PieceScorer(self.average, pieces))
            drafts = [self.dev_drafts[clip.shard, clip.offset] for clip in group]
            texts = [self._settled(rewriter, *pair) for pair in zip(group, drafts, strict=True)]
            said = [[self.vocabulary.decode(ids) for ids in kind] for kind in (drafts, texts)]
            found[f"{lang} {source}"] = [error([c.text for c in group], kind, lang) for kind in said]
            print(f"  {lang}: {group[0].text[:90]}\n    -> {said[1][0][:90]}", flush=True)
        self.note(dev=found)

    def _settled(self, rewriter: Rewriter, clip: Clip, draft: list[int]) -> list[int]:
        one = collate([clip])
        state = self.average.prepare(one.memory, one.languages)
        return rewriter.settle(state, draft, MAX_TOKENS).tokens
