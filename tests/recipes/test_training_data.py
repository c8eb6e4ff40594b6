"""The recipe's data: caches, batches, and the texts that may be spoken."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.augment import speed
from recipes.embedded.data import Clip, batches, collate, load
from recipes.embedded.features import Recording, cache, compose, source_rows
from recipes.embedded.texts import clean, dev_keys, key, sentences, speakable
from tests.support import recipe_helpers, tiny
from tests.support.recipe_helpers import write_cache

own_generators = recipe_helpers.own_generators


# --- caches and batches ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return tiny.vocabulary(tmp_path_factory.mktemp("model"))


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


def test_no_clip_is_slowed_beyond_what_the_encoder_takes() -> None:
    rng = np.random.default_rng(0)
    slow = [len(speed(np.zeros(28 * 16000, np.float32), rng)) for _ in range(20)]
    assert max(slow) <= 30 * 16000
    assert min(slow) < 28 * 16000


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
        assert [r["text"] for r in source_rows(tmp_path, tmp_path, source)[0]] == ["Gute Nacht."]
    assert [r["text"] for r in source_rows(tmp_path, tmp_path, "dev")[0]] == ["Guten Tag!"]
