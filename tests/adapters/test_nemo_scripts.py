"""NeMo's own scripts, unmodified.

They are not in NeMo's wheel: DIFFUSION_ASR_NEMO_CLONE names a clone of NeMo, whose scripts in examples/asr
are run as they are. Without it the functions of the installed package that they consist of are run.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")


from diffusion_asr.recognizer import Recognizer
from tests.support.nemo_helpers import (
    CLIPS,
    entry,
    language,
    run,
    transcribe_like_the_script,
    write_manifest,
)

CLONE = os.environ.get("DIFFUSION_ASR_NEMO_CLONE", "")


@pytest.mark.timeout(900)
def test_nemos_scripts_transcribe_and_score(
    nemo_archive: Path, core: Recognizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(which: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\nNeMo scripts: {which}\n")

    manifest = write_manifest(tmp_path / "m.json", [entry(c, lang=language(c)) for c in CLIPS])
    out = tmp_path / "out.json"
    if CLONE:
        say(f"unmodified scripts of {CLONE}")
        scripts = Path(CLONE) / "examples/asr"
        common = [
            f"model_path={nemo_archive}",
            f"dataset_manifest={manifest}",
            f"output_filename={out}",
            "batch_size=2",
        ]
        scored = run([sys.executable, scripts / "speech_to_text_eval.py", *common], tmp_path)
        assert scored.returncode == 0, scored.stderr[-2000:]
        assert "Dataset WER/CER" in scored.stderr + scored.stdout
        more = ["timestamps=True", "compute_langs=True"]
        done = run([sys.executable, scripts / "transcribe_speech.py", *common, *more], tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
    else:
        say("DIFFUSION_ASR_NEMO_CLONE is not set: the scripts' functions from the installed package")
        transcribe_like_the_script(nemo_archive, manifest, out)
    rows = [json.loads(line) for line in out.read_text(encoding="utf8").splitlines()]
    assert len(rows) == len(CLIPS)
    for clip, row in zip(CLIPS, rows, strict=True):
        transcript = core.transcribe(clip, language=language(clip))
        assert row["pred_text"] == transcript.text
        assert row["pred_lang"] == language(clip)
        assert [(w["word"], w["start"]) for w in row["word"]] == [(w.text, w.start) for w in transcript.words]
        assert 0 <= row["wer"] < 1.5
