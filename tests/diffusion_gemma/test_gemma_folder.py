"""A time-canvas model as a signed folder: through the recogniser, the decoder and the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("transformers.models.diffusion_gemma")

from diffusion_asr import ModelError, Recognizer
from diffusion_asr.cli import app
from diffusion_asr.diffusion_gemma.folder import save_model
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import sign_config
from recipes.diffusion_gemma.tiny import drafted, new_tiny, sizes
from tests.support.tiny import ROOT, canvas_denoiser

CLIP = ROOT / "tests/data/en-arctic_a0239_1592711579.flac"
SMALL = {"d_model": 32, "layers": 2, "heads": 2, "key_heads": 1, "head_size": 16, "feed_forward": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained: canvas-base's pieces and acoustics, random layers."""
    base = canvas_denoiser(load_parts("canvas-base"))
    torch.manual_seed(0)
    model = new_tiny(base, **SMALL)
    out = tmp_path_factory.mktemp("models") / "tiny"
    used = drafted(base)
    shape = sizes(len(used), len(base.config.languages), **SMALL)
    save_model(out, model, shape, used.tolist(), "untrained", "0")
    return out


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_transcribes_like_every_recogniser(folder: Path) -> None:
    asr = Recognizer.from_pretrained(folder)
    assert asr.languages == ("en", "de", "fr", "es", "hi", "zh")
    first = asr.transcribe(CLIP, language="en", steps=2)
    again = Recognizer.from_pretrained(folder).transcribe(CLIP, language="en", steps=2)
    assert first == again
    words = [word for segment in first.segments for word in segment.words]
    assert words
    assert all(0 <= word.start <= word.end <= first.duration for word in words)
    noisy = asr.transcribe(CLIP, language="en", steps=2, start="noise")
    assert noisy.text != first.text


def test_projector_is_canvas_bases_slot_acoustics() -> None:
    """At full width the projector hears in each slot what canvas-base's slots are told."""
    from diffusion_asr.acoustics.encoder import AcousticMemory
    from diffusion_asr.decoding.canvas import make_slots

    base = canvas_denoiser(load_parts("canvas-base")).float()
    model = new_tiny(base, **{**SMALL, "d_model": 512})
    states = torch.randn(1, 50, 512, generator=torch.Generator().manual_seed(1))
    memory = AcousticMemory(states, torch.ones(1, 50, dtype=torch.bool), 50.0)
    theirs = base.acoustics(states, make_slots(memory, base.config.slot_frames))[0]
    mine = model.projector(memory)[0][0]
    # Another basis and scale, the same geometry.
    alike = torch.nn.functional.cosine_similarity(
        torch.cdist(mine, mine).flatten(), torch.cdist(theirs, theirs).flatten(), dim=0
    )
    assert float(alike) > 0.9999


def test_command_line(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["info", "--model", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "untrained 0" in shown.stdout
    result = CliRunner().invoke(
        app, ["transcribe", str(CLIP), "--model", str(folder), "--language", "en", "--steps", "1", "--trace"]
    )
    assert result.exit_code == 0, result.output
    assert "pass  1  parallel" in result.output


def test_pieces_that_canvas_base_lacks_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["denoiser"]["pieces"] = [[0, 60_000]]
    (copy / "config.json").write_text(json.dumps(sign_config(config)))
    with pytest.raises(ModelError, match="names pieces that canvas-base does not have"):
        Recognizer.from_pretrained(copy)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("backbone.layers", 10**9),
        ("backbone.vocabulary", True),
        ("backbone.d_model", 2**70),
        ("backbone.heads", "2"),
        ("projector.convolutions", [[1, 2, 3]]),
        ("projector.linears", [10**9, 32]),
        ("prompt.before", {"en": ["x"]}),
        ("pieces", [[0, 5], [3, 9]]),
        ("pieces", [[5, 9]]),
        ("slot_frames", None),
    ],
)
def test_what_a_configuration_misstates_is_told(copy: Path, place: str, value: object) -> None:
    config = json.loads((copy / "config.json").read_text())
    *inside, name = place.split(".")
    (config["denoiser"][inside[0]] if inside else config["denoiser"])[name] = value
    (copy / "config.json").write_text(json.dumps(sign_config(config)))
    with pytest.raises(ModelError, match=rf"config\.json(: denoiser\.{place}| names pieces)"):
        Recognizer.from_pretrained(copy)


def test_another_canvas_base_is_noticed(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["base"]["sha256"]["encoder.safetensors"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(sign_config(config)))
    with pytest.raises(ModelError, match=r"another canvas-base \(encoder.safetensors differ\)"):
        Recognizer.from_pretrained(copy)


def test_unsigned_and_damaged_parts_are_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    signature = config["sha256"].pop("backbone.safetensors")
    (copy / "config.json").write_text(json.dumps(sign_config(config)))
    with pytest.raises(ModelError, match=r"does not sign backbone.safetensors"):
        Recognizer.from_pretrained(copy)
    config["sha256"]["backbone.safetensors"] = signature
    config["denoiser"]["backbone"]["layers"] = 3
    (copy / "config.json").write_text(json.dumps(sign_config(config)))
    with pytest.raises(ModelError, match=r"(?s)do not fit its configuration.*layers\.2.*missing"):
        Recognizer.from_pretrained(copy)


def test_no_transformers_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [n for n in sys.modules if n.startswith("diffusion_asr.diffusion_gemma")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'diffusion-asr\[gemma\]'"):
        Recognizer.from_pretrained(folder)
