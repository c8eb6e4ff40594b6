"""The embedded model's recipe: alignment, batches, sampled softmax, texts, and a few training steps."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.alignment import forced_canvas
from diffusion_asr.denoiser import CanvasDenoiser
from diffusion_asr.encoder import AcousticMemory
from diffusion_asr.pretrained import compute_dtype
from diffusion_asr.sampler import collapse
from diffusion_asr.vocabulary import Vocabulary
from recipes.embedded import training
from recipes.embedded.augment import speed
from recipes.embedded.data import Batch, Clip, batches, collate, load
from recipes.embedded.features import Recording, _source_rows, cache, compose
from recipes.embedded.quick_eval import decode, error
from recipes.embedded.run import rate
from recipes.embedded.texts import clean, dev_keys, key, sentences, speakable
from recipes.embedded.training import (
    Pieces,
    Trainer,
    TrainOptions,
    ctc,
    losses,
    second_canvas,
)
from tests import tiny


@pytest.fixture(autouse=True)
def own_generators() -> Iterator[None]:
    """The recipe draws from the global generators: seeded here, and given back as they were."""
    kept = random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random.seed(0)
        yield
    random.setstate(kept)


# --- alignment ---------------------------------------------------------------------------------------------


def log_probs(slots: int, size: int, seed: int) -> Tensor:
    draws = 2 * torch.randn(slots, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return draws.log_softmax(-1).float()


def brute_force(scores: Tensor, target: list[int]) -> tuple[float, tuple[int, ...] | None]:
    """The most probable canvas with this text, by trying every canvas."""
    best, found = float("-inf"), None
    rows = scores.tolist()
    for canvas in itertools.product(sorted({0, *target}), repeat=len(rows)):
        if [token for token, _, _ in collapse(torch.tensor(canvas))] == target:
            total = sum(row[token] for row, token in zip(rows, canvas, strict=True))
            if total > best:
                best, found = total, canvas
    return best, found


def need(target: list[int]) -> int:
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


targets = st.lists(st.integers(1, 3), max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), targets, st.integers(0, 99))
def test_alignment_is_the_best_of_all(slots: int, target: list[int], seed: int) -> None:
    scores = log_probs(slots, 4, seed)
    padded = torch.tensor([target + [0] * (4 - len(target))])
    found = forced_canvas(scores[None], torch.tensor([slots]), padded, torch.tensor([len(target)]))[0]
    best, canvas = brute_force(scores, target)
    feasible = not F.ctc_loss(
        scores[:, None], padded, torch.tensor([slots]), torch.tensor([len(target)]), reduction="none"
    ).isinf()
    assert bool(feasible) == (canvas is not None) == (need(target) <= slots)
    if canvas is None:
        assert not found.any()
    else:
        assert [token for token, _, _ in collapse(found)] == target
        assert float(scores.gather(1, found[:, None]).sum()) == pytest.approx(best, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 12), targets), min_size=1, max_size=5), st.integers(0, 99))
def test_alignment_of_a_batch_is_that_of_its_clips(clips: list[tuple[int, list[int]]], seed: int) -> None:
    longest, most = max(n for n, _ in clips), max(1, max(len(t) for _, t in clips))
    scores = torch.stack([log_probs(longest, 4, seed + k) for k in range(len(clips))])
    padded = torch.tensor([t + [0] * (most - len(t)) for _, t in clips])
    slots, counts = torch.tensor([n for n, _ in clips]), torch.tensor([len(t) for _, t in clips])
    found = forced_canvas(scores, slots, padded, counts)
    for k, (n, target) in enumerate(clips):
        alone = forced_canvas(
            scores[k : k + 1, :n], slots[k : k + 1], padded[k : k + 1, : max(1, len(target))],
            counts[k : k + 1],
        )  # fmt: skip
        assert torch.equal(found[k, :n], alone[0])
        assert not found[k, n:].any()


# --- sampled softmax and losses ----------------------------------------------------------------------------


def test_pieces_hold_what_is_needed() -> None:
    wanted = torch.tensor([[5, 7, 0], [39, 5, 5]])
    for _ in range(20):
        pieces = Pieces.draw(wanted, 40, 6)
        ids = pieces.ids.tolist()
        assert ids == sorted(set(ids))
        assert ids[0] == 0
        assert {0, 5, 7, 39} <= set(ids)
        assert len(ids) <= 4 + 6
        assert pieces.correction.shape == pieces.ids.shape
        weights = dict(zip(ids, pieces.correction.tolist(), strict=True))
        assert all(weights[i] == 0 for i in (0, 5, 7, 39))
        assert all(w >= 0 for w in weights.values())
    everything = Pieces.draw(wanted, 40, 40)
    assert everything.ids.tolist() == list(range(40))
    assert not everything.correction.any()


def test_the_sampled_sum_is_unbiased() -> None:
    wanted = torch.tensor([[3, 9, 9, 20]])
    logits = torch.randn(60, generator=torch.Generator().manual_seed(1))
    estimates = []
    for _ in range(3000):
        pieces = Pieces.draw(wanted, 60, 15)
        estimates.append(float((logits[pieces.ids] + pieces.correction).exp().sum()))
    mean, deviation = np.mean(estimates), np.std(estimates) / len(estimates) ** 0.5
    assert deviation < 0.02 * mean
    assert abs(mean - float(logits.exp().sum())) < 4 * deviation


def test_pieces_of_a_batch_that_holds_all() -> None:
    assert Pieces.draw(torch.arange(10)[None], 10, 5).ids.tolist() == list(range(10))


def synthetic(texts: list[list[int]], frames: int = 40) -> Batch:
    """Clips whose states say their tokens: each token for its share of the clip, as a fixed random vector."""
    codes = torch.randn(60, tiny.WIDTH, generator=torch.Generator().manual_seed(4))
    states = torch.stack([codes[torch.tensor(t).repeat_interleave(frames // len(t))] for t in texts])
    mask = torch.ones(states.shape[:2], dtype=torch.bool)
    counts = torch.tensor([len(t) for t in texts])
    padded = torch.zeros(len(texts), int(counts.max()), dtype=torch.long)
    for row, text in zip(padded, texts, strict=True):
        row[: len(text)] = torch.tensor(text)
    return Batch(AcousticMemory(states, mask, 50.0), ["en"] * len(texts), padded, counts, [""] * len(texts))


TEXTS = [[1, 2, 3, 4], [5, 6], [4, 3, 2, 1], [7, 8, 9, 1, 5]]


def test_the_loss_over_all_pieces_is_ctc() -> None:
    batch = synthetic(TEXTS)
    logits = torch.randn(4, 10, 30, generator=torch.Generator().manual_seed(0))
    slots = torch.full((4,), 10)
    loss, scores = ctc(logits, batch, slots, Pieces.draw(batch.targets, 30, 30))
    expected = F.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), batch.targets, slots, batch.counts, reduction="sum"
    )
    assert float(loss) == pytest.approx(float(expected) / int(batch.counts.sum()), rel=1e-5)
    torch.testing.assert_close(scores, logits.log_softmax(-1))


def test_the_sampled_loss_is_near_the_full_one() -> None:
    batch = synthetic(TEXTS)
    logits = torch.randn(4, 10, 400, generator=torch.Generator().manual_seed(0))
    slots = torch.full((4,), 10)
    full, _ = ctc(logits, batch, slots, Pieces.draw(batch.targets, 400, 400))
    sampled = []
    for _ in range(60):
        pieces = Pieces.draw(batch.targets, 400, 100)
        sampled.append(float(ctc(logits[..., pieces.ids], batch, slots, pieces)[0]))
    assert np.mean(sampled) == pytest.approx(float(full), rel=0.02)


def test_the_second_canvas_is_the_reference_or_the_models_own() -> None:
    batch = synthetic(TEXTS)
    pieces = Pieces.draw(batch.targets, 60, 20)
    slots = torch.full((4,), 10)
    scores = log_probs(40, len(pieces.ids), 3).view(4, 10, -1)
    targets = torch.searchsorted(pieces.ids, batch.targets)
    clean = pieces.ids[forced_canvas(scores, slots, targets, batch.counts)]
    own = pieces.ids[(scores - pieces.correction).argmax(-1)]
    for row, text in zip(clean, TEXTS, strict=True):
        assert [token for token, _, _ in collapse(row)] == text
    seen_own = seen_clean = 0
    for _ in range(200):
        canvas = second_canvas(scores, slots, batch, pieces, 60)
        assert 0 <= int(canvas.min()) <= int(canvas.max()) < 60
        seen_own += int((canvas == own).all(1).sum())
        seen_clean += int((canvas == clean).all(1).sum())
    assert seen_own > 20
    assert seen_clean > 5


def test_losses_of_a_tiny_denoiser_fall() -> None:
    model = CanvasDenoiser(tiny.denoiser_config(60))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = synthetic(TEXTS)
    assert len(losses(model, batch, False, 30)) == 1
    history = []
    for _ in range(60):
        parts = losses(model, batch, True, 30)
        assert len(parts) == 2
        optimiser.zero_grad()
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        history.append([float(p.detach()) for p in parts])
    first, last = np.mean(history[:5], axis=0), np.mean(history[-5:], axis=0)
    assert (last < 0.5 * first).all(), (first, last)


def test_learning_rate() -> None:
    options = TrainOptions(steps=1000, warmup=100, cooldown=0.2)
    rates = [rate(step, options) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == rates[500] == rates[800] == 1.0
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))
    assert rates[-1] == pytest.approx(0.05, abs=0.01)


# --- caches and batches ------------------------------------------------------------------------------------


def write_cache(index: Path, rows: list[dict[str, Any]]) -> Path:
    """A cache of random states, 512 wide as ``data.load`` expects."""
    index.parent.mkdir(parents=True, exist_ok=True)
    offset = 0
    with index.open("w", encoding="utf8") as file:
        for row in rows:
            file.write(json.dumps({"offset": offset, "source": "made", **row}, ensure_ascii=False) + "\n")
            offset += row["frames"]
    states = np.random.default_rng(0).normal(0, 1, (offset, 512)).astype(np.float16)
    states.tofile(index.with_suffix(".f16"))
    return index


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    tiny.vocabulary(folder / "model")
    texts = {"en": "ab the", "de": "die", "zh": "你好"}
    rows = [{"lang": x, "text": t, "frames": 60 + n} for n, (x, t) in enumerate(texts.items())]
    write_cache(folder / "cache/dev.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def vocabulary(work: Path) -> Vocabulary:
    return Vocabulary.load(work / "model/vocabulary.json")


def test_load_keeps_what_fits(tmp_path: Path, vocabulary: Vocabulary) -> None:
    index = write_cache(
        tmp_path / "x.jsonl",
        [
            {"lang": "zh", "text": "你好", "frames": 8},  # two tokens, two slots
            {"lang": "zh", "text": "你你", "frames": 8},  # a null must come between
            {"lang": "zh", "text": "你你", "frames": 12},
            {"lang": "zh", "text": "", "frames": 1},
        ],
    )
    with index.open("a", encoding="utf8") as file:  # its states were never written
        file.write(json.dumps({"offset": 29, "frames": 9, "text": "你", "lang": "zh", "source": "x"}) + "\n")
    clips = load([index], vocabulary, 4)
    assert [(c.offset, c.frames, c.text, len(c.ids)) for c in clips] == [
        (0, 8, "你好", 2), (16, 12, "你你", 2), (28, 1, "", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("torn", ["x.f16", "x.jsonl"])
def test_load_reads_a_shard_that_grows(tmp_path: Path, vocabulary: Vocabulary, torn: str) -> None:
    index = write_cache(tmp_path / "x.jsonl", [{"lang": "zh", "text": "你好", "frames": 8}])
    with (tmp_path / torn).open("ab") as file:
        file.write(b'{"')
    assert [c.text for c in load([index], vocabulary, 4)] == ["你好"]


def test_collate_pads(tmp_path: Path, vocabulary: Vocabulary) -> None:
    rows = [{"lang": "zh", "text": t, "frames": n} for t, n in (("你好", 8), ("", 3))]
    clips = load([write_cache(tmp_path / "x.jsonl", rows)], vocabulary, 4)
    batch = collate(clips)
    assert batch.memory.lengths.tolist() == [8, 3]
    assert batch.counts.tolist() == [2, 0]
    assert batch.targets.tolist() == [clips[0].ids, [0, 0]]
    assert not batch.memory.states[1, 3:].any()
    expected = np.asarray(clips[1].states[8:11], np.float32)
    assert np.array_equal(batch.memory.states[1, :3].numpy(), expected)


def made_clips(count: int, frames: Callable[[str, random.Random], int]) -> list[Clip]:
    states = np.zeros((1000, 512), np.float16)
    rng = random.Random(1)
    return [
        Clip(states, 0, frames(lang, rng), f"{lang}{n}", lang, "made", [1])
        for lang in ("en", "de", "hi")
        for n in range(count)
    ]


def test_batches_are_of_one_size_and_balanced_in_time() -> None:
    """English clips are four times as long as the others; German has twice the share."""
    clips = made_clips(30, lambda lang, rng: rng.randint(40, 80) * (4 if lang == "en" else 1))
    source = batches(clips, {"en": 1.0, "de": 2.0, "hi": 1.0, "fr": 1.0}, 1000, random.Random(0))
    frames = {"en": 0, "de": 0, "hi": 0}
    seen = set()
    for clips in itertools.islice(source, 150):
        batch = collate(clips)
        size, longest = batch.memory.mask.shape
        assert size == 1 or size * longest <= 1000
        for lang, n, text in zip(batch.languages, batch.memory.lengths.tolist(), batch.texts, strict=True):
            frames[lang] += n
            seen.add(text)
    assert len(seen) == 90
    total = sum(frames.values())
    assert {k: v / total for k, v in frames.items()} == pytest.approx(
        {"en": 0.25, "de": 0.5, "hi": 0.25}, abs=0.06
    )


def test_a_clip_longer_than_a_batch_is_one_of_its_own() -> None:
    clips = made_clips(2, lambda lang, _: 500 if lang == "en" else 90)
    sizes = {
        tuple(collate(b).memory.mask.shape)
        for b in itertools.islice(batches(clips, {"en": 1.0, "de": 1.0}, 200, random.Random(0)), 300)
    }
    assert (1, 500) in sizes
    assert (2, 90) in sizes


def rows(count: int) -> list[dict[str, Any]]:
    rng = random.Random(0)
    return [
        {"lang": lang, "text": f"{lang} {n}", "duration": rng.uniform(0.5, 20), "source": "made"}
        for lang in ("en", "zh")
        for n in range(count)
    ]


@pytest.mark.parametrize(("joined", "silent"), [(0.0, 0.0), (0.3, 0.1), (1.0, 1.0)])
def test_compose_uses_every_row_once(joined: float, silent: float) -> None:
    made = list(compose(rows(100), 3, joined, silent))
    spoken = [r for r in made if r.rows[0]["text"]]
    assert sorted(row["text"] for r in spoken for row in r.rows) == sorted(row["text"] for row in rows(100))
    for recording in spoken:
        assert len({row["lang"] for row in recording.rows}) == 1
        assert len(recording.rows) <= 7
        pauses = 1.5 * (len(recording.rows) - 1)
        assert len(recording.rows) == 1 or sum(r["duration"] for r in recording.rows) + pauses <= 24
    empty = len(made) - len(spoken)
    assert {0.0: empty == 0, 1.0: empty == len(spoken)}.get(silent, 0 < empty < len(spoken))
    assert any(len(r.rows) > 1 for r in spoken) == (joined > 0)
    assert made == list(compose(rows(100), 3, joined, silent))
    assert made != list(compose(rows(100), 4, joined, silent))


class Ears:
    """An encoder that hears nothing: zeros, 50 a second."""

    def encode(self, waveforms: Tensor, lengths: Tensor) -> AcousticMemory:
        frames = lengths // 320
        mask = torch.arange(int(frames.max())) < frames[:, None]
        return AcousticMemory(torch.zeros(*mask.shape, 512), mask, 50.0)


def silences(count: int) -> list[Recording]:
    return [Recording(({"lang": "en", "text": "", "source": "non-speech"},), seed) for seed in range(count)]


def test_a_cache_is_resumed_at_the_last_whole_row(tmp_path: Path) -> None:
    ears: Any = Ears()
    cache(tmp_path / "whole", silences(5), ears, batch=2)
    cache(tmp_path / "cut", silences(3), ears, batch=2)
    with (tmp_path / "cut.f16").open("ab") as data:
        data.write(b"torn")
    cache(tmp_path / "cut", silences(5), ears, batch=2)
    for suffix in ("jsonl", "f16"):
        assert (tmp_path / f"cut.{suffix}").read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    assert len((tmp_path / "whole.jsonl").read_text().splitlines()) == 5


def test_a_cache_with_half_a_row_is_resumed(tmp_path: Path) -> None:
    ears: Any = Ears()
    cache(tmp_path / "cut", silences(3), ears)
    with (tmp_path / "cut.jsonl").open("a", encoding="utf8") as index:
        index.write('{"offset": 12')
    cache(tmp_path / "cut", silences(5), ears)
    assert len((tmp_path / "cut.jsonl").read_text().splitlines()) == 5


# --- texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [("Don't, STOP!", "dontstop"), ("Größe 3", "größe3"), ("की।", "की"), ("你好，AB", "你好ab"), ("–", "")],
)
def test_key(text: str, found: str) -> None:
    assert key(text) == found


def test_key_is_blind_to_how_a_text_is_written() -> None:
    assert key("“Ｅ\u0301té’, no? 1") == key("été no １!")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("  a \n b\t", "a b"),
        ("„Gut so.“", "Gut so."),
        ("« Oui »", "Oui"),
        ("l’été", "l'été"),
        ('He said "hi" to me', "He said hi to me"),
        ('"', ""),
        ('a "b" "c"', "a b c"),
        ("- Ja –", "Ja"),
        ("e\u0301te\u0301", "été"),
    ],
)
def test_clean(text: str, found: str) -> None:
    assert clean(text) == found


@settings(max_examples=100)
@given(st.text(st.sampled_from("ab ,.-–'’„“«»\n"), max_size=20))
def test_clean_changes_no_word(text: str) -> None:
    assert key(clean(text)) == key(text)
    assert "  " not in clean(text)


@pytest.mark.parametrize("text", ['Er sagte "Hallo"', "„Hallo“, sagte er."])
def test_clean_leaves_no_lone_quote(text: str) -> None:
    assert clean(text).count('"') % 2 == 0


@pytest.mark.parametrize(
    ("text", "language", "yes"),
    [
        ("A plain sentence.", "en", True),
        ("Too short.", "en", False),
        ("x" * 161, "en", False),
        ("Tabs\tare not allowed here.", "en", False),
        ("Größe, „Straße“ – Übermut!", "de", True),
        ("¿Qué tal, niño? ¡Mañana!", "es", True),
        ("L'œuvre naît à Noël, là-bas.", "fr", True),
        ("A sentence of 100 % here.", "en", False),
        ("Русский текст не годится", "en", False),
        ("मैं स्कूल जाता हूँ।", "hi", True),
        ("मैं school जाता हूँ।", "hi", False),
        ("你好，世界。", "zh", True),
        ("你好 世界。", "zh", False),
        ("用Python写", "zh", False),
    ],
)
def test_speakable(text: str, language: str, yes: bool) -> None:
    assert speakable(text, language) == yes


def test_dev_texts_are_never_spoken(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    written = [
        {"split": "dev", "text": "The dev sentence, no. 1."},
        {"split": "train", "text": "This one is for training."},
        {"split": "dev", "text": ""},
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in written))
    keys = dev_keys(manifest)
    assert keys == {"thedevsentenceno1"}
    lines = ["the DEV sentence no 1", "„The dev sentence, no. 1!“", "This one is for training.", "Short."]
    lines += ["This one is  for training. ", *(f"Another sentence, number {n}." for n in range(20))]
    with gzip.open(tmp_path / "en.txt.gz", "wt", encoding="utf8") as file:
        file.write("\n".join(lines))
    found = sentences(tmp_path, "en", keys)
    assert len(found) == 21
    assert len(set(found)) == 21
    assert not {key(s) for s in found} & keys
    assert found == sentences(tmp_path, "en", keys)
    assert sorted(found) == sorted(sentences(tmp_path, "en", keys, seed=1)) != found


# --- training ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers start from a tiny denoiser: the real one is 512 wide and needs Whisper's weights."""

    def initial(work: Path, vocabulary: Vocabulary, slot_frames: int) -> CanvasDenoiser:
        return CanvasDenoiser(tiny.denoiser_config(len(vocabulary)))

    monkeypatch.setattr(training, "initial_denoiser", initial)


def trainer(work: Path, folder: Path) -> Trainer:
    options = TrainOptions(steps=80, lr=1e-2, lr_new=1e-2, warmup=5, unroll_after=10, negatives=50, ema=0.9)
    return Trainer(work, folder, options)


@pytest.mark.usefixtures("small")
def test_training_lowers_the_loss_and_resumes(work: Path, tmp_path: Path) -> None:
    made = trainer(work, tmp_path)
    batch = synthetic(TEXTS)
    history = [made.update(batch) for _ in range(80)]
    assert [len(x) for x in history] == [1] * 10 + [2] * 70
    assert np.mean([x[0] for x in history[-5:]]) < 0.6 * np.mean([x[0] for x in history[:3]])
    for wide, narrow in zip(made.master.parameters(), made.model.parameters(), strict=True):
        assert torch.equal(wide.to(compute_dtype()), narrow)
    assert not any(p.requires_grad for p in made.average.parameters())
    made.save()
    again = trainer(work, tmp_path)
    assert again.step == 80
    assert not (tmp_path / "last.tmp").exists()
    for name in ("master", "model", "average"):
        expected, found = getattr(made, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(found[k], v) for k, v in expected.items())
    assert again.optimiser.state_dict()["state"].keys() == made.optimiser.state_dict()["state"].keys()


@pytest.mark.usefixtures("small")
def test_a_trainer_reads_its_caches_but_not_dev(tmp_path: Path) -> None:
    tiny.vocabulary(tmp_path / "model")
    write_cache(tmp_path / "cache/dev.jsonl", [{"lang": "de", "text": "nie", "frames": 60}])
    write_cache(tmp_path / "cache/one.jsonl", [{"lang": "en", "text": "ab the", "frames": 60}])
    made = trainer(tmp_path, tmp_path / "run")
    assert [clip.text for clip in made.dev] == ["nie"]
    assert set(next(made.source()).texts) == {"ab the"}
    write_cache(tmp_path / "cache/two.jsonl", [{"lang": "zh", "text": "你好", "frames": 60}])
    texts = {text for batch in itertools.islice(made.source(), 20) for text in batch.texts}
    assert texts == {"ab the", "你好"}
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["clips"] for line in log] == [1, 2]
    assert json.loads((tmp_path / "run/options.json").read_text())["negatives"] == 50


# --- quick evaluation --------------------------------------------------------------------------------------


def test_no_clip_is_slowed_beyond_what_the_encoder_takes() -> None:
    rng = np.random.default_rng(0)
    slow = [len(speed(np.zeros(28 * 16000, np.float32), rng)) for _ in range(20)]
    assert max(slow) <= 30 * 16000
    assert min(slow) < 28 * 16000


def test_error_rates() -> None:
    assert error(["a b c d"], ["A, b x d!"], "en") == 25.0
    assert error(["你好"], ["你 好。"], "zh") == 0.0
    assert error(["की"], ["का"], "hi") == 50.0


def test_decode_gives_a_text_for_each_clip_and_step(work: Path, vocabulary: Vocabulary) -> None:
    clips = load([work / "cache/dev.jsonl"], vocabulary, 4)
    sizes = tiny.denoiser_config(len(vocabulary))
    wide = type(sizes)(vocabulary=sizes.vocabulary, d_model=512, layers=1, heads=2)
    found = decode(tiny.randomised(CanvasDenoiser(wide), 0), clips, vocabulary)
    assert sorted(found) == [1, 2, 4]
    assert all(len(texts) == len(clips) for texts in found.values())
    assert found == decode(tiny.randomised(CanvasDenoiser(wide), 0), clips, vocabulary)


def test_no_training_source_says_a_dev_sentence(tmp_path: Path) -> None:
    """The shared train split repeats some dev sentences; so may a teacher's text."""
    rows = [("dev", "Guten Tag!", 2), ("train", "guten tag", 2), ("train", "Gute Nacht.", 2)]
    rows += [("train", "Zu lang.", 29), ("dev", "Zu lang!", 31)]  # the encoder takes 30 s
    lines = [
        json.dumps(
            {"audio_filepath": f"{n}.wav", "split": split, "text": text, "lang": "de", "duration": seconds}
        )
        for n, (split, text, seconds) in enumerate(rows)
    ]
    for folder in ("data/speech", "pseudo"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    for source in ("real", "teacher"):
        assert [r["text"] for r in _source_rows(tmp_path, tmp_path, source)[0]] == ["Gute Nacht."]
    assert [r["text"] for r in _source_rows(tmp_path, tmp_path, "dev")[0]] == ["Guten Tag!"]
