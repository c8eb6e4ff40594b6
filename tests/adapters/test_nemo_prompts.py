"""Canary's keyword arguments: honoured, or refused where another text was asked for."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nemo.collections.asr", reason="NeMo is not installed: pip install 'diffusion-asr[nemo]'")

from diffusion_asr.recognizer import Recognizer
from diffusion_asr.transcript import Segment, Transcript, Word
from diffusion_asr_nemo import RecognitionError
from diffusion_asr_nemo.hypotheses import to_nemo, without_marks
from diffusion_asr_nemo.prompts import Prompt, PromptError, read_prompt, read_turns
from tests.support.nemo_helpers import CLIPS, DATA, entry, write_manifest

CLIP = DATA / "de-de_rhasspy-0208.flac"


@pytest.mark.parametrize(
    ("slots", "prompt"),
    [
        ({}, Prompt()),
        ({"source_lang": "de", "target_lang": "<|de|>", "task": "asr", "pnc": "yes"}, Prompt("de", True)),
        ({"source_lang": "German", "target_lang": "de-DE"}, Prompt("German")),
        ({"target_lang": "fr"}, Prompt("fr")),
        ({"pnc": "nopnc", "timestamp": "<|notimestamp|>"}, Prompt(None, False, False)),
        ({"pnc": False, "timestamps": "yes", "diarize": "no"}, Prompt(None, False, True)),
        ({"taskname": "asr", "itn": "yes", "decodercontext": "x"}, Prompt(ignored=("itn", "decodercontext"))),
        ({"source_lang": None, "pnc": "", "emotion": None}, Prompt()),
    ],
)
def test_slots_are_read(slots: dict[str, Any], prompt: Prompt) -> None:
    assert read_prompt(slots) == prompt
    for turns in (
        [{"role": "user", "slots": slots}],
        {"turns": [{"slots": slots}]},
        {"role": "user", **slots},
    ):
        assert read_turns(turns) == prompt


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"source_lang": "de", "target_lang": "en"}, "speech is not translated"),
        ({"task": "s2t_translation"}, "does not translate"),
        ({"taskname": "ast"}, "does not translate"),
        ({"diarize": "yes"}, "diffusion-asr meeting"),
        ({"pnc": "perhaps"}, "give yes or no"),
    ],
)
def test_what_cannot_be_done_is_refused(slots: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        read_prompt(slots)
    with pytest.raises(PromptError, match="a turn is"):
        read_turns(["de"])


def test_calls_take_canarys_arguments(nemo_model: Any, core: Recognizer, tmp_path: Path) -> None:
    expected = core.transcribe(CLIP, "de")
    full = {"source_lang": "German", "target_lang": "de-DE", "task": "asr", "pnc": "yes", "timestamps": "yes"}
    (found,) = nemo_model.transcribe([str(CLIP)], verbose=False, **full)
    assert (found.text, found.langs) == (expected.text, "de")
    assert len(found.timestamp["char"]) == len(expected.text.replace(" ", ""))
    (bare,) = nemo_model.transcribe(str(CLIP), pnc="nopnc", timestamp="yes", verbose=False)
    assert bare.text == "west bengalin war lange zeit eine kommunistische hochburg"
    assert bare.text.split() == [w["word"] for w in bare.timestamp["word"]] == bare.words
    turns = [{"role": "user", "slots": {"source_lang": "de", "target_lang": "de", "pnc": "no"}}]
    assert nemo_model.transcribe(str(CLIP), turns=turns, verbose=False)[0].text == bare.text
    slots = {"source_lang": "de", "taskname": "asr", "pnc": "no", "target_lang": "de"}
    manifest = write_manifest(tmp_path / "m.json", [entry(CLIP, **slots), entry(CLIP)])
    texts = [h.text for h in nemo_model.transcribe(str(manifest), verbose=False)]
    assert texts == [bare.text, expected.text]


def test_calls_refuse_what_cannot_be_done(nemo_model: Any, tmp_path: Path) -> None:
    clip = str(CLIPS[0])
    with pytest.raises(RecognitionError, match="speech is not translated"):
        nemo_model.transcribe(clip, source_lang="de", target_lang="en", verbose=False)
    with pytest.raises(RecognitionError, match=r"unknown options of transcribe: beam_width; there are .*pnc"):
        nemo_model.transcribe(clip, beam_width=4, verbose=False)
    manifest = write_manifest(tmp_path / "m.json", [entry(CLIP, source_lang="de", target_lang="en")])
    with pytest.raises(RecognitionError, match="speech is not translated"):
        nemo_model.transcribe(str(manifest), verbose=False)


def segment(words: list[str], language: str, text: str) -> Segment:
    timed = tuple(Word(w, n * 0.3, n * 0.3 + 0.2, 0.9) for n, w in enumerate(words))
    return Segment(0.0, timed[-1].end, text, timed, language)


@pytest.mark.parametrize(
    ("words", "language", "text", "bare"),
    [
        (["今", "天", "很", "好。"], "zh", "今天很好。", "今天很好"),
        (["用", "Windows", "打", "开"], "zh", "用Windows打开", "用windows打开"),
        (["«Ça", "va?»", "—", "Aujourd'hui!"], "fr", "«Ça va?» — Aujourd'hui!", "ça va aujourd'hui"),
        (["हिन्दी", "है।"], "hi", "हिन्दी है।", "हिन्दी है"),
    ],
)
def test_words_confidences_and_characters_are_alike_in_number(
    words: list[str], language: str, text: str, bare: str
) -> None:
    transcript = Transcript((segment(words, language, text),), duration=2.0)
    found = to_nemo(transcript, [], timestamps=True)
    assert found.words == words == [w["word"] for w in found.timestamp["word"]]
    assert len(found.word_confidence) == len(words)
    characters = found.timestamp["char"]
    assert "".join(c["char"] for c in characters) == "".join(words)
    assert all(a["end"] <= b["start"] + 1e-9 for a, b in pairwise(characters))
    assert all(c["start_offset"] == round(c["start"] * 50) for c in characters)
    assert (characters[0]["start"], characters[-1]["end"]) == (0.0, round(transcript.segments[0].end, 3))
    assert without_marks(transcript).text == bare
    assert not any(c["char"] != words[-1] and c["char"][0] in "ािीुूेै्" for c in characters)
