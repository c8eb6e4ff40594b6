"""The recipe with Accelerate: it learns, it resumes, and what it saves is an adapter; in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("accelerate")
pytest.importorskip("transformers.models.diffusion_gemma")

from diffusion_asr import Recognizer
from diffusion_asr.diffusion_gemma.loading import LoadOptions
from recipes.diffusion_gemma.finetune import FinetuneOptions, Finetuner
from tests.support.gemma_published import Published, published_system
from tests.support.tiny import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")
OPTIONS = FinetuneOptions(
    rank=2, alpha=4.0, hidden=16, canvas=48, batch=2, steps=8, warmup=2, lr=1e-2, lr_projector=1e-2,
    save_every=4, note_every=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published_system(tmp_path_factory.mktemp("system"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's clips with short texts: the tiny tokenizer spells letter by letter."""
    folder = ROOT / "tests/data"
    clips = sorted(folder.glob("*.flac"))
    rows = [
        {"audio_filepath": str(clip), "text": text, "lang": clip.name[:2], "duration": 4.0}
        for clip, text in zip(clips, ["the hen", "he is", "then", "where"], strict=False)
    ]
    file = tmp_path_factory.mktemp("manifest") / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")
    return file


def finetuner(folder: Path, system: Published, manifest: Path) -> Finetuner:
    settings = {
        "backbone": str(system.backbone), "encoder": str(system.encoder), "lora_alpha": 4.0,
        "audio_token": 6, "begin_token": 5, "end_token": 7, "padded": False,
    }  # fmt: skip
    return Finetuner(folder, [manifest], LoadOptions(settings=settings), OPTIONS)


def test_learns_resumes_and_saves_an_adapter(system: Published, manifest: Path, tmp_path: Path) -> None:
    whole = finetuner(tmp_path / "whole", system, manifest)
    frozen = {n: w.clone() for n, w in whole.trainee.named_parameters() if not w.requires_grad}
    told = whole.run()
    assert len(told) == 8
    assert sum(told[-3:]) < 0.9 * sum(told[:3])
    assert all(torch.equal(w, frozen[n]) for n, w in whole.trainee.named_parameters() if n in frozen)

    for _ in range(2):  # cut off in the middle
        part = finetuner(tmp_path / "parts", system, manifest)
        part.run(most=4)
    assert part.step == 8
    first, second = (load_file(tmp_path / n / "step-8/trained.safetensors") for n in ("whole", "parts"))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], atol=1e-5, rtol=1e-4)

    log = [json.loads(line) for line in (tmp_path / "parts/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == list(range(1, 9))
    assert {"diffusion", "autoregressive", "ctc"} <= log[0].keys()
    asr = Recognizer.from_pretrained(str(tmp_path / "parts/adapter"))
    clip = sorted((ROOT / "tests/data").glob("*.flac"))[0]
    assert asr.transcribe(clip, language="de", steps=2).duration > 1


def test_checkpointing_changes_nothing_but_memory(system: Published, manifest: Path, tmp_path: Path) -> None:
    run = finetuner(tmp_path, system, manifest)
    layer = run.trainee.denoiser.backbone.model.decoder.layers[0]
    assert layer.gradient_checkpointing
    batch = next(run._batches())
    grads = []
    for on in (True, False):
        layer.gradient_checkpointing = on
        run.trainee.train()
        torch.manual_seed(2)
        run.trainee.zero_grad()
        torch.stack(list(run.trainee(batch).values())).sum().backward()  # type: ignore[no-untyped-call]
        grads.append({n: w.grad.clone() for n, w in run.trainee.named_parameters() if w.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], atol=1e-6, rtol=1e-4)
