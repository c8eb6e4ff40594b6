"""The Python of recipes/nemo/README.md runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

import soundfile as sf

from diffusion_asr_nemo import DiffusionASRModel
from tests.support.nemo_helpers import DATA, ROOT

CLIP = DATA / "en-arctic_a0095_1592746305.flac"


def chapter(title: str) -> list[str]:
    text = (ROOT / "recipes/nemo/README.md").read_text(encoding="utf8")
    _, _, rest = text.partition(f"\n## {title}\n")
    return re.findall(r"```python\n(.*?)```", rest.partition("\n## ")[0], re.DOTALL)


def test_the_chapter_in_python_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    DiffusionASRModel.from_checkpoint().save_to("canvas-base.nemo")
    sf.write("talk.wav", *sf.read(CLIP))
    names: dict[str, Any] = {}
    blocks = chapter("In Python")
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "recipes/nemo/README.md", "exec"), names)
    told = [(word["speaker"], word["word"]) for word in names["joined"]["talk"]["words"]]
    assert [word for _, word in told] == names["hypothesis"].text.split()
    assert {speaker for speaker, _ in told} == {"speaker_0", "speaker_1"}
    assert f"speaker_0 {names['times']['talk'][0][0]} {told[0][1]}" in capsys.readouterr().out
    assert (tmp_path / "joined/pred_rttms/talk.txt").is_file()
