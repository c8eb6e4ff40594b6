"""The letter canvas: what it writes, how it learns, and what is kept of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_asr.acoustics.encoder import EncoderConfig
from recipes.letters import train
from recipes.letters.alphabet import Alphabet, hanzi_of, letters_of, sounds_of
from recipes.letters.evaluate import rate
from recipes.letters.export import export, load_canvas
from recipes.letters.model import LOWER, LowerEncoder, TrainedLetterCanvas, collapse, numbers_of
from recipes.letters.train import LetterOptions, LetterTrainer

TEXTS = [("Ein Bär!", "de"), ("नमस्ते।", "hi"), ("你好，中国", "zh")] * 5


def small_encoder(_: Path | None = None) -> LowerEncoder:
    torch.manual_seed(0)
    return LowerEncoder(EncoderConfig(d_model=512, layers=LOWER + 1, heads=2)).eval()


@pytest.fixture
def alphabet() -> Alphabet:
    return Alphabet.collect(TEXTS)


def test_letters_are_lower_case_without_marks() -> None:
    assert "".join(letters_of("L’été, c'est _ici_!  ")) == "l'été c'est ici"
    assert "".join(letters_of("नमस्ते।")) == "नमस्ते"


def test_mandarin_is_written_as_sounds() -> None:
    assert sounds_of("中国，你好") == ["<zh>", "<ong1>", "<g>", "<uo2>", "<n>", "<i3>", "<h>", "<ao3>"]
    assert hanzi_of("中国 DVD") == []  # nobody hears from Hanzi how this is said


def test_texts_come_back_as_numbers(alphabet: Alphabet, tmp_path: Path) -> None:
    ids = alphabet.encode("ein bär", "de")
    assert ids is not None
    assert "".join(alphabet.letters[i] for i in ids) == "ein bär"
    assert alphabet.encode("ein 3", "de") is None
    assert alphabet.encode("quiz", "de") is None
    assert [alphabet.hanzi[i] for i in alphabet.encode_hanzi("好国")] == ["好", "国"]
    alphabet.save(tmp_path / "alphabet.json")
    assert Alphabet.load(tmp_path / "alphabet.json") == alphabet


def test_a_clip_does_not_depend_on_its_neighbours(alphabet: Alphabet) -> None:
    model = TrainedLetterCanvas(small_encoder(), len(alphabet.letters), len(alphabet.hanzi)).eval()
    states = torch.randn(2, 9, 512)
    mask = torch.tensor([[True] * 9, [True] * 6 + [False] * 3])
    with torch.inference_mode():
        both = model(states, numbers_of(["de", "hi"]), mask)
        alone = model(states[1:, :6], numbers_of(["hi"]))
    assert both.shape == (2, 5, len(alphabet.letters))
    assert torch.allclose(both[1, :3], alone[0], atol=1e-4)


def test_runs_of_a_symbol_are_one() -> None:
    rows = torch.eye(3)[[1, 1, 0, 1, 2]]
    assert collapse(rows, ("", "a", "b")) == ["a", "a", "b"]


def test_errors_are_counted_by_symbol() -> None:
    assert rate([(["a", " ", "b"], ["a", "b"]), (["<zh>"], ["<zh>"])]) == pytest.approx(25.0)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alphabet: Alphabet) -> Path:
    """A cache of three clips, and an encoder with a single layer to train."""
    cache = tmp_path / "letters/cache"
    cache.mkdir(parents=True)
    alphabet.save(tmp_path / "letters/alphabet.json")
    rng = np.random.default_rng(0)
    for shard in ("dev", "real.0"):
        rows, frames = [], 40
        states = rng.standard_normal((3 * frames, 512)).astype(np.float16)
        for n, (text, language) in enumerate(TEXTS[:3]):
            row = {"offset": n * frames, "frames": frames, "text": text, "lang": language, "source": "made"}
            rows.append(json.dumps(row))
        (cache / f"{shard}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf8")
        states.tofile(cache / f"{shard}.f16")
    monkeypatch.setattr(train, "load_whisper_encoder", small_encoder)
    monkeypatch.setattr("recipes.letters.export.load_whisper_encoder", small_encoder)
    return tmp_path


def test_a_run_learns_its_clips_resumes_and_is_kept(work: Path) -> None:
    options = {"warmup": 5, "average": 0.9, "evaluate_every": 1e9, "save_every": 1e9, "seconds": 3.0}
    LetterTrainer(work, "one", LetterOptions(hours=0.02, **options)).run()  # type: ignore[arg-type]
    again = LetterTrainer(work, "one", LetterOptions(hours=0.06, **options))  # type: ignore[arg-type]
    assert again.seen >= 0.02 * 3600
    assert again.step > 0
    again.run()
    log = [json.loads(line) for line in (work / "letters/runs/one/log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert {"de", "hi", "zh", "zh hanzi"} <= set(log[-1]["dev"])
    export(work, "one", work / "kept")
    model, alphabet = load_canvas(work / "kept", work / "none")
    assert alphabet == again.alphabet
    for name, value in model.state_dict().items():
        if not name.startswith("hanzi."):
            assert torch.allclose(value, again.mean[name], atol=0.02), name


def test_a_run_goes_on_from_a_kept_one(work: Path) -> None:
    options = {"warmup": 5, "average": 0.9, "evaluate_every": 1e9, "save_every": 1e9, "seconds": 3.0}
    first = LetterTrainer(work, "one", LetterOptions(hours=0.01, **options))  # type: ignore[arg-type]
    first.run()
    export(work, "one", work / "kept")
    start = str(work / "kept")
    second = LetterTrainer(work, "two", LetterOptions(start=start, **options))  # type: ignore[arg-type]
    for name, value in second.model.state_dict().items():
        if not name.startswith("hanzi."):
            assert torch.allclose(value, first.mean[name], atol=0.02), name
    assert second.seen == 0
