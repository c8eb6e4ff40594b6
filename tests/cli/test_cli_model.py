"""The command line with a model: what it says about itself, and what it hears."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from diffusion_asr import formats
from diffusion_asr.text.vocabulary import Vocabulary
from tests.support.audio_files import real_speech, sine, write
from tests.support.cli_helpers import ROOT, run

EMBEDDED = ROOT / "core/diffusion_asr/models/canvas-base"
CLIPS = sorted((ROOT / "tests/data").glob("*.flac"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    from diffusion_asr.acoustics.encoder import EncoderConfig, WhisperEncoder
    from diffusion_asr.acoustics.language import LanguagePosterior
    from diffusion_asr.decoding.denoiser import CanvasDenoiser, DenoiserConfig
    from diffusion_asr.models.folder import save_folder
    from diffusion_asr.models.packing import pack_tensors

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    Vocabulary(["", "Ġguten", "ĠTag"], 3, []).save(folder / "vocabulary.json")
    sizes = DenoiserConfig(vocabulary=3, d_model=16, layers=1, heads=2)
    hearing = EncoderConfig(d_model=16, layers=1, heads=2)
    config = {"name": "tiny", "version": "7", "encoder": asdict(hearing), "denoiser": asdict(sizes)}
    weights: dict[str, Mapping[str, torch.Tensor]] = {
        "encoder": pack_tensors(WhisperEncoder(hearing).state_dict()),
        "denoiser": pack_tensors(CanvasDenoiser(sizes).state_dict()),
        "language": LanguagePosterior(16, sizes.languages).state_dict(),
    }
    save_folder(folder, config | {"calibration": {"a": 1.0, "b": 0.0}}, weights)
    return folder


def test_info(tiny: Path) -> None:
    result = run("info", "--model", str(tiny))
    assert result.exit_code == 0, result.stderr
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith(" "))
    assert rows["model"] == "tiny 7"
    assert rows["folder"] == str(tiny)
    assert rows["languages"] == "en, de, fr, es, hi, zh"
    assert rows["sha256"] == "verified, 4 files"
    assert rows["torch"] == torch.__version__
    assert "denoiser.safetensors" in result.stdout
    assert "Whisper weights (OpenAI): MIT" in result.stdout


def test_info_of_a_corrupt_model(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "vocabulary.json").write_bytes(b"{}")
    result = run("info", "--model", str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "vocabulary.json is corrupt" in result.stderr


@pytest.mark.parametrize("command", ["info", "transcribe"])
@pytest.mark.parametrize("name", ["pipe", "n" * 5000])
def test_what_is_no_model_is_told_at_once(command: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe/config.json")
    (tmp_path / "pipe/denoiser.safetensors").touch()
    clip = [str(write(tmp_path / "tone.wav", sine(1.0, 16_000), 16_000))] if command == "transcribe" else []
    result = run(command, *clip, "--model", str(tmp_path / name) if name == "pipe" else name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no config.json" in result.stderr or "no model" in result.stderr
    assert len(result.stderr) < 600


def test_silence_through_a_real_recogniser(tiny: Path, tmp_path: Path) -> None:
    tone = write(tmp_path / "tone.wav", sine(2.0, 16_000), 16_000)
    result = run("transcribe", str(tone), "--model", str(tiny))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{tone}: no speech found\n"


def test_speech_through_a_real_recogniser(tiny: Path, tmp_path: Path) -> None:
    speech = real_speech(5.0)
    if len(speech) == 0:
        pytest.skip("no speech here")
    clip = write(tmp_path / "clip.wav", speech[:, None], 16_000)
    result = run("transcribe", str(clip), "--model", str(tiny), "--trace", "--steps", "2", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert formats.parse(result.stdout, "json")[0].duration == 5.0
    assert f"{clip} at " in result.stderr
    assert "pass  2  parallel  accepted" in result.stderr


def test_a_page_through_a_real_recogniser(tiny: Path, tmp_path: Path) -> None:
    speech = real_speech(5.0)
    if len(speech) == 0:
        pytest.skip("no speech here")
    clip, page = write(tmp_path / "clip.wav", speech[:, None], 16_000), tmp_path / "clip.html"
    arguments = ["transcribe", str(clip), "--model", str(tiny), "--steps", "2", "--report", str(page)]
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert f"{clip} -> {page}" in result.stderr
    text = page.read_text(encoding="utf8")
    assert '"numbers":[0,1' in text  # the passes can be replayed
    assert run(*arguments).exit_code == 2  # it exists
    assert run(*arguments, "--overwrite").exit_code == 0


def test_several_files_at_a_time(tiny: Path, tmp_path: Path) -> None:
    speech = real_speech(5.0)
    if len(speech) == 0:
        pytest.skip("no speech here")
    clips = [str(write(tmp_path / f"{n}.wav", speech[n * 9000 :, None], 16_000)) for n in range(3)]
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    arguments = [
        "transcribe",
        clips[0],
        str(tmp_path / "bad.wav"),
        *clips[1:],
        "--model",
        str(tiny),
        "--steps",
        "1",
    ]
    alone, together = run(*arguments), run(*arguments, "--jobs", "2")
    assert alone.exit_code == together.exit_code == 1
    assert together.stdout == alone.stdout
    assert together.stdout.count("==>") == 3
    assert "bad.wav" in together.stderr


@pytest.mark.skipif(not (EMBEDDED / "config.json").is_file() or not CLIPS, reason="no embedded model or clip")
def test_the_embedded_model(tmp_path: Path) -> None:
    result = run("transcribe", str(CLIPS[0]), "--format", "txt,json", "--output-dir", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert formats.read(tmp_path / f"{CLIPS[0].stem}.json")[0].text
    assert run("info").exit_code == 0
