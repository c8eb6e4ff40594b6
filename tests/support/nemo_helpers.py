"""What the NeMo tests need: clips, manifests, a comparison with core, and what NeMo's script calls."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile as sf
import torch
from nemo.collections.asr.metrics.wer import word_error_rate
from nemo.collections.asr.models.aed_multitask_models import parse_multitask_prompt
from nemo.collections.asr.parts.submodules.multitask_decoding import (
    MultiTaskDecoding,
    MultiTaskDecodingConfig,
)
from nemo.collections.asr.parts.utils.eval_utils import cal_write_wer
from nemo.collections.asr.parts.utils.transcribe_utils import (
    compute_output_filename,
    prepare_audio_data,
    restore_transcription_order,
    setup_model,
    write_transcription,
)
from omegaconf import OmegaConf

from diffusion_asr.transcript import Transcript

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
CLIPS = sorted(DATA.glob("*.flac"))


def language(clip: Path) -> str:
    return clip.name[:2]


def entry(clip: Path, **more: Any) -> dict[str, Any]:
    text = json.loads((DATA / "texts.json").read_text(encoding="utf8")).get(clip.name, "")
    return {"audio_filepath": str(clip), "duration": sf.info(clip).duration, "text": text, **more}


def write_manifest(path: Path, entries: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(e) + "\n" for e in entries), encoding="utf8")
    return path


def assert_same(hypothesis: Any, transcript: Transcript) -> None:
    """Text, words, times, confidence and language are core's."""
    assert hypothesis.text == transcript.text
    assert hypothesis.langs == transcript.language
    assert hypothesis.word_confidence == [w.confidence for w in transcript.words]
    assert hypothesis.words == [w.text for w in transcript.words]
    ours = [(w["word"], w["start"], w["end"]) for w in hypothesis.timestamp["word"]]
    assert ours == [(w.text, w.start, w.end) for w in transcript.words]
    parts = [(s["segment"], s["start"], s["end"]) for s in hypothesis.timestamp["segment"]]
    assert parts == [(s.text, s.start, s.end) for s in transcript.segments]


def run(
    command: Sequence[Any], cwd: Path = ROOT, more: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a command with this tree's code, and with ``more`` folders of modules."""
    paths = os.pathsep.join([str(ROOT / "core"), str(ROOT / "adapters"), *more])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = [str(part) for part in command]
    return subprocess.run(words, cwd=cwd, env=environment, text=True, capture_output=True, check=False)


def transcribe_like_the_script(archive: Path, manifest: Path, out: Path) -> None:
    """What examples/asr/transcribe_speech.py calls, in its order, from the installed package."""
    cfg = OmegaConf.create(
        {
            "model_path": str(archive), "pretrained_name": None, "audio_dir": None, "append_pred": False,
            "dataset_manifest": str(manifest), "output_filename": str(out), "presort_manifest": True,
            "pred_name_postfix": None, "decoding": {"beam": {"return_best_hypothesis": True}},
        }
    )  # fmt: skip
    asr_model, name = setup_model(cfg, torch.device("cpu"))
    asr_model = asr_model.eval()
    asr_model.to(torch.float32)
    assert isinstance(asr_model.decoding, MultiTaskDecoding)
    asr_model.change_decoding_strategy(OmegaConf.structured(MultiTaskDecodingConfig(compute_langs=True)))
    _, in_order = prepare_audio_data(cfg)
    cfg = compute_output_filename(cfg, name)
    options = asr_model.get_transcribe_config()
    options.return_hypotheses = options.timestamps = True
    options.prompt = parse_multitask_prompt({})
    with torch.amp.autocast("cpu", dtype=torch.float16):
        heard = asr_model.transcribe(audio=in_order, override_config=options, timestamps=True)
    heard = restore_transcription_order(cfg.dataset_manifest, heard)
    write_transcription(heard, cfg, name, compute_langs=True, timestamps=True)
    _, total, _ = cal_write_wer(pred_manifest=str(out), pred_text_attr_name="pred_text")
    assert 0 <= total["wer"] < 1.5


def joiner_config(folder: Path, recording: Path) -> Any:
    (folder / "pred_rttms").mkdir()
    manifest = write_manifest(
        folder / "diar.json", [{"audio_filepath": str(recording), "offset": 0, "duration": None}]
    )
    return OmegaConf.create(
        {
            "manifest_filepath": str(manifest),
            "out_dir": str(folder),
            "asr": {
                "parameters": {
                    "asr_based_vad_threshold": 1.0, "word_ts_anchor_pos": "start",
                    "word_ts_anchor_offset": 0.0, "fix_word_ts_with_VAD": False, "print_time": True,
                    "colored_text": False, "break_lines": False,
                },
                "ctc_decoder_parameters": {},
                "realigning_lm_parameters": {"arpa_language_model": None},
            },
        }
    )  # fmt: skip


def errors(hypothesis: str, reference: str) -> float:
    return float(word_error_rate([hypothesis], [reference]))
