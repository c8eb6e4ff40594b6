"""diffusion-gemma-tiny's training, on the repository's clips: alignment, steps, resuming, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers.models.diffusion_gemma")
pytest.importorskip("jiwer")

from diffusion_asr import Recognizer
from diffusion_asr.acoustics.encoder import WhisperEncoder
from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.loading import load_parts
from recipes.diffusion_gemma.export import export
from recipes.diffusion_gemma.tiny import drafted
from recipes.diffusion_gemma.training import Guide, TinyOptions, TinyTrainer
from recipes.embedded.data import collate, load
from recipes.embedded.features import Recording, cache
from tests.support.tiny import ROOT, canvas_denoiser

OPTIONS = TinyOptions(
    steps=4, frames=500, negatives=200, guided=3, conditioned_after=0, warmup=1, evaluate_every=100,
)  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with caches of two clips, the same for training and dev."""
    folder = tmp_path_factory.mktemp("work")
    texts = json.loads((ROOT / "tests/data/texts.json").read_text(encoding="utf8"))
    clips = sorted((ROOT / "tests/data").glob("*.flac"))[1:3]
    rows = [
        {"path": str(c), "text": texts[c.name], "lang": c.name[:2], "source": "clip", "duration": 1.0}
        for c in clips
    ]
    encoder = load_parts("canvas-base").encoder
    assert isinstance(encoder, WhisperEncoder)
    for name in ("dev", "train.0"):
        cache(folder / "cache" / name, [Recording((row,), 0) for row in rows], encoder, augmented=False)
    return folder


def test_the_guide_says_the_text_where_it_is_spoken(work: Path) -> None:
    parts = load_parts("canvas-base")
    used = drafted(canvas_denoiser(parts))
    clips = load([work / "cache/train.0.jsonl"], parts.vocabulary.only(used.tolist()), 4)
    states, canvases = Guide(canvas_denoiser(parts), used)(collate(clips))
    assert states.shape == (*canvases.shape, 512)
    for row, clip in zip(canvases, clips, strict=True):
        assert read_tokens(row) == clip.ids
        spoken = row.nonzero().flatten()
        assert int(spoken[-1]) - int(spoken[0]) > 0.4 * clip.frames / 4  # spread over the clip


def test_trains_resumes_and_exports(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = TinyTrainer(work, run, TinyOptions(**{**vars(OPTIONS), "steps": 2}))
    before = {name: value.clone() for name, value in first.model.named_parameters()}
    first.run()
    untouched = {n for n, w in first.model.named_parameters() if torch.equal(w, before[n])}
    assert all("pre_feedforward_layernorm_2" in name for name in untouched), untouched  # the experts'
    second = TinyTrainer(work, run, OPTIONS)
    assert second.step == 2
    second.run()  # past the guided steps: CTC alone
    assert second.step == 4
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert "en clip" in log[-1]["dev"] or "de clip" in log[-1]["dev"]
    export(run, tmp_path / "model", "0")
    size = sum(file.stat().st_size for file in (tmp_path / "model").iterdir())
    assert size < 40e6
    clip = sorted((ROOT / "tests/data").glob("*.flac"))[1]
    assert (
        Recognizer.from_pretrained(tmp_path / "model").transcribe(clip, language="de", steps=1).duration > 1
    )
