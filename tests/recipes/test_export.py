"""A model folder from the parts of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from diffusion_asr import Recognizer
from diffusion_asr.acoustics.encoder import WhisperEncoder, compute_sinusoids
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.languages import LANGUAGES
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import find_model
from diffusion_asr.models.stored import NIBBLES, SCALE
from recipes.embedded import grow
from recipes.embedded.export import join
from recipes.embedded.features import Recording, cache
from recipes.embedded.training import continued_denoiser
from tests.support.tiny import DATA, canvas_denoiser

CLIP = DATA / "en-arctic_a0239_1592711579.flac"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe's folder with two cached clips, and a run whose denoiser is canvas-base's."""
    folder = tmp_path_factory.mktemp("work")
    for name in ("runs/made", "model"):
        (folder / name).mkdir(parents=True)
    state = continued_denoiser("canvas-base").state_dict()
    texts = json.loads((DATA / "texts.json").read_text(encoding="utf8"))
    rows = [
        {"path": str(DATA / name), "text": text, "lang": name[:2], "source": "clip", "duration": 1.0}
        for name, text in texts.items()
    ]
    encoder = load_parts("canvas-base").encoder
    assert isinstance(encoder, WhisperEncoder)
    cache(folder / "cache/train.0", [Recording((row,), 0) for row in rows], encoder, augmented=False)
    torch.save({"average": state | {"null_bias": state["null_bias"] + 0.5}}, folder / "runs/made/last.pt")
    return folder


def test_a_model_with_the_denoiser_of_a_run(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "joined"
    join(work, out, "canvas-base", "9", denoiser="made")
    old, new = load_parts("canvas-base"), load_parts(out)
    assert new.version == "9"
    assert new.calibration == old.calibration
    assert len(new.vocabulary) == len(old.vocabulary)
    before, after = (canvas_denoiser(parts).null_bias.item() for parts in (old, new))
    assert after == pytest.approx(before + 0.5, abs=0.01)
    assert isinstance(new.encoder, WhisperEncoder)
    positions = new.encoder.embed_positions.weight
    torch.testing.assert_close(
        positions, compute_sinusoids(1500, 512).to(positions.dtype)
    )  # bf16 on some CPUs
    assert not [k for k in load_file(out / "encoder.safetensors") if k.startswith("embed_positions")]
    assert "embed_tokens.weight" + NIBBLES in load_file(out / "denoiser.safetensors")
    assert sum(file.stat().st_size for file in out.iterdir()) <= 100_000_000
    assert Recognizer.from_pretrained(out).transcribe(CLIP, "en").text.startswith("He cried in such genuine")


def test_what_was_fitted_last_is_written(work: Path, tmp_path: Path) -> None:
    fitted = work / "model/calibration.json"
    fitted.write_text(json.dumps({"a": 0.5, "b": 0.25, "lag": 0.125}))
    join(work, tmp_path / "again", "canvas-base", "9")
    fitted.unlink()
    old, new = (
        load_file(f / "denoiser.safetensors") for f in (find_model("canvas-base"), tmp_path / "again")
    )
    for name in old:
        if name.endswith(NIBBLES):  # rounding a second time would change them
            assert torch.equal(new[name], old[name])
            scale = name.removesuffix(NIBBLES) + SCALE
            assert torch.equal(new[scale], old[scale])
        elif name.endswith(("bias", "norm.weight", "_time")):
            assert torch.equal(new[name], old[name])
    calibration = load_parts(tmp_path / "again").calibration
    assert (calibration.a, calibration.b, calibration.lag) == (0.5, 0.25, 0.125)


def test_positions_are_whispers() -> None:
    table = compute_sinusoids(3, 4)  # rates 1 and 1 / 10,000
    angles = torch.tensor([[0.0, 0.0], [1.0, 1e-4], [2.0, 2e-4]])
    torch.testing.assert_close(table, torch.cat([angles.sin(), angles.cos()], dim=1))


def test_a_grown_model_says_the_same_and_can_say_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer with one piece that canvas-base lacks stands for Whisper's."""
    new = "Ġdenoiseable"
    bpe = json.loads((find_model("canvas-base") / "bpe.json").read_text(encoding="utf8"))
    whole = bpe["model"]
    free = (i for i in range(50_000) if i not in set(whole["vocab"].values()))
    parts = Tokenizer.from_str(json.dumps(bpe)).encode(" denoiseable").tokens
    for n in range(1, len(parts)):  # merged from left to right
        left = "".join(parts[:n])
        whole["vocab"].setdefault(left + parts[n], next(free))
        whole["merges"].append(
            f"{left} {parts[n]}" if isinstance(whole["merges"][0], str) else [left, parts[n]]
        )
    texts = {lang: ["The canvas is denoiseable."] for lang in LANGUAGES}
    monkeypatch.setattr(grow, "whisper_bpe", lambda work: bpe)
    monkeypatch.setattr(grow, "training_texts", lambda shared: texts)
    (tmp_path / "weights/whisper").mkdir(parents=True)
    table = torch.full((max(whole["vocab"].values()) + 1, 512), 0.25)
    save_file({"decoder.embed_tokens.weight": table}, tmp_path / "weights/whisper/model.safetensors")
    out = tmp_path / "grown"
    grow.grow(tmp_path, tmp_path, out, "canvas-base", "9")
    old, made = load_parts("canvas-base"), load_parts(out)
    (token,) = set(made.vocabulary.spelling(" denoiseable")) - {0}
    assert made.vocabulary.pieces[token] == new
    assert token in made.vocabulary.pieces_for("de")
    assert new not in old.vocabulary.pieces
    assert isinstance(made.decoder, CanvasDecoder)
    row = made.decoder.refiner.embed_tokens.weight[token].float()
    torch.testing.assert_close(row, torch.full((512,), 0.25), atol=2e-3, rtol=0)
    unheard = canvas_denoiser(made).embed_tokens.weight[token].float()
    torch.testing.assert_close(unheard, torch.zeros(512), atol=0.02, rtol=0)
    assert Recognizer(made).transcribe(CLIP, "en").text == Recognizer(old).transcribe(CLIP, "en").text
