"""Train Whisper's decoder as the reader of canvases that are wrong: real drafts, and texts with random edits.

The corruption is uniform: a token is replaced by a random one, dropped, or joined by a random one, at a
rate drawn for each clip. Every canvas is aligned with its text by minimum edit distance, which gives the
clean token after each prefix; cross-entropy on it. The target may be shared between the text and a teacher,
Whisper base's own decoder. All starts from that decoder too; pieces that Whisper has not start from the
canvas denoiser's.
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

from diffusion_asr.decoding.layers import PROMPT
from diffusion_asr.decoding.sweeps import int8
from diffusion_asr.decoding.sweeps.alternatives import AlternativesRule
from diffusion_asr.decoding.sweeps.evidence import Evidence
from diffusion_asr.decoding.sweeps.judge import Judge
from diffusion_asr.decoding.sweeps.reader import CanvasReader
from diffusion_asr.decoding.sweeps.rule import SweepRule, Timed
from diffusion_asr.decoding.sweeps.scorer import PieceScorer
from diffusion_asr.decoding.sweeps.settling import Settler
from diffusion_asr.decoding.sweeps.whisper_decoder import (
    END,
    MAX_TOKENS,
    WhisperDecoder,
    WhisperDecoderConfig,
)
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
SWEEPS = 7  # over a draft, to judge a run by
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
    negatives: int = 4000
    drafts: float = 0.6  # share of clips that start from the canvas denoiser's draft, where one is cached
    most_corrupted: float = 0.5
    clean: float = 0.0  # share of clips whose canvas is their text: all that is left is to agree with it
    unsure: float = 1.0  # weight of the tokens that follow a prefix with errors
    start: str = ""  # model whose refiner the run goes on from; empty: Whisper base's decoder
    mix: float = 0.0  # share of Whisper base's decoder in that start
    teacher: float = 0.0  # share of the targets that Whisper's own decoder gives, where it is a good one
    shares: dict[str, float] = field(default_factory=lambda: dict(SHARES))


def align(canvas: Sequence[int], text: Sequence[int]) -> list[int]:
    """Where the text goes on after each prefix of a canvas of N tokens: N + 1 places in ``text``."""
    places = [len(text)] * (len(canvas) + 1)
    missing: dict[int, int] = {}
    for step in Levenshtein.opcodes(list(canvas), list(text)):
        if step.tag == "insert":
            missing[step.src_start] = step.dest_start
        for k in range(step.src_end - step.src_start):
            places[step.src_start + k] = step.dest_start + (0 if step.tag == "delete" else k)
    return [missing.get(at, place) for at, place in enumerate(places)]


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


def initial_refiner(work: Path, vocabulary: Vocabulary, trained: Tensor) -> WhisperDecoder:
    """Whisper base's decoder; ``trained`` (V, D) embeds new pieces."""
    model = WhisperDecoder(WhisperDecoderConfig(vocabulary=len(vocabulary)))
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
    model.load_state_dict(own)
    return model


def mixed(whisper: dict[str, Tensor], trained: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """``trained`` weights, mixed with Whisper's."""
    return {name: value.lerp(whisper[name], share) for name, value in trained.items()}


class Teacher:
    """Whisper's own decoder, which knows far more text and voices than we can train on.

    Fine-tuning to one reader's labels costs some of that; its distributions over the next token keep it.
    """

    def __init__(self, whisper: WhisperDecoder, vocabulary: Vocabulary, most: int = 8) -> None:
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


class RefineTrainer(Run[WhisperDecoder, list[Clip]]):
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
        groups = [{"params": list(self.model.parameters()), "base": options.lr}]
        super().__init__(folder, options, self.model, groups)
        self.rng = random.Random(options.seed + self.step)
        self.dev = self.clips([work / "cache/dev.jsonl"])
        self.dev_drafts = self.drafted([work / "cache/dev.jsonl"], self.dev)
        self.drafts: dict[tuple[str, int], Timed] = {}

    def clips(self, shards: Sequence[Path]) -> list[Clip]:
        """Clips of some caches."""
        return load(shards, self.vocabulary, self.slot_frames)

    def drafted(self, shards: Sequence[Path], clips: Sequence[Clip]) -> dict[tuple[str, int], Timed]:
        """The drafts that are there by now, by shard and offset."""
        texts = {(clip.shard, clip.offset): clip.ids for clip in clips}
        found = {}
        for shard in shards:
            path = shard.with_name(shard.stem + ".drafts.jsonl")
            for line in path.read_text().rpartition("\n")[0].splitlines() if path.exists() else ():
                row = json.loads(line)
                ids = texts.get((shard.stem, row["offset"]), [])
                if len(ids) == len(row["text"]):  # a text that does not fit its slots has no places
                    seconds = tuple(first * self.slot_frames / 50 for _, first, _ in row["runs"])
                    tokens = tuple(token for token, _, _ in row["runs"])
                    found[shard.stem, row["offset"]] = Timed(tokens, seconds)
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
        found = [self.drafts.get((clip.shard, clip.offset)) for clip in clips]
        pairs = zip(clips, found, strict=True)
        return [Row(clip, None if draft is None else list(draft.tokens)) for clip, draft in pairs]

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

    def loss(self, clips: Sequence[Clip]) -> Tensor:
        """Cross-entropy of what should follow each prefix."""
        rows = self.rows(clips)
        batch = collate([row.clip for row in rows])
        canvases = [self.canvas_of(row) for row in rows]
        aligned = [align(c, row.clip.ids) for c, row in zip(canvases, rows, strict=True)]
        longest = max(map(len, canvases))
        canvas = torch.tensor([c + [0] * (longest - len(c)) for c in canvases], dtype=torch.long)
        places = torch.tensor([p + [-1] * (longest + 1 - len(p)) for p in aligned], dtype=torch.long)
        state = self.model.prepare(batch.memory, batch.languages)
        hidden = self.model.hidden(canvas, state)
        used = places >= 0
        ids, chances = self.targets(rows, clips, batch, places)
        ids, chances = ids[used], chances[used]
        pieces = Pieces.draw(ids, len(self.vocabulary), self.options.negatives)
        logits = self.model.logits(hidden[used], pieces.ids) + pieces.correction
        known = logits.log_softmax(-1).gather(1, torch.searchsorted(pieces.ids, ids))
        weight = self.weights(canvases, rows, longest)[used]
        return -((chances * known).sum(1) * weight).sum() / weight.sum()

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
        loss = self.loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.advance()
        return [float(loss.detach())]

    def evaluate(self, most: int = 3) -> None:
        """Dev errors of the running average: the draft, and after some sweeps."""
        found = {}
        for lang, source in sorted({(c.lang, c.source) for c in self.dev}):
            group = [c for c in self.dev if (c.lang, c.source) == (lang, source)]
            group = [
                c for c in group[:: max(1, len(group) // most)] if (c.shard, c.offset) in self.dev_drafts
            ][:most]
            pieces = torch.tensor(self.vocabulary.pieces_for(lang))
            scorer = PieceScorer(self.average, pieces)
            drafts = [self.dev_drafts[clip.shard, clip.offset] for clip in group]
            texts = [self._swept(scorer, *pair) for pair in zip(group, drafts, strict=True)]
            ids = [[list(draft.tokens) for draft in drafts], texts]
            said = [[self.vocabulary.decode(each) for each in kind] for kind in ids]
            found[f"{lang} {source}"] = [error([c.text for c in group], kind, lang) for kind in said]
            print(f"  {lang}: {group[0].text[:90]}\n    -> {said[1][0][:90]}", flush=True)
        self.note(dev=found)

    def _swept(self, scorer: PieceScorer, clip: Clip, draft: Timed) -> list[int]:
        """The text after some sweeps by the reader alone."""
        one = collate([clip])
        reader = CanvasReader(self.average, scorer, self.average.prepare(one.memory, one.languages))
        deaf = Evidence(torch.zeros(1, len(scorer.pieces)), 1.0, 0.0)
        judge = Judge(reader, deaf, SweepRule(), one.memory.frame_rate)
        alone = SweepRule(rounds=0)
        settler = Settler(judge, lambda texts: [0.0] * len(texts), str, alone, AlternativesRule())
        return list(settler.settle(draft, SWEEPS)[-1].canvas.tokens) if draft.tokens else []
