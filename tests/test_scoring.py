"""Scores: known errors give known rates, for words, speakers and turns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusion_asr import formats
from diffusion_asr.cli import app
from diffusion_asr.errors import FormatError
from diffusion_asr.scoring import Rate, Scored, combine_scores, score
from diffusion_asr.transcript import Segment, Transcript

pytest.importorskip("jiwer")
pytest.importorskip("meeteval")
pytest.importorskip("pyannote.metrics")


def meeting(*rows: tuple[float, float, str, str], language: str = "en") -> Transcript:
    segments = (Segment(a, b, text, language=language, speaker=who) for a, b, who, text in rows)
    return Transcript(tuple(segments), duration=10.0, source="meeting.wav")


TRUTH = meeting((0, 2, "ann", "Good morning to all."), (2, 4, "bob", "Thank you very much."))


def rates(found: Transcript, truth: Transcript = TRUTH) -> dict[str, float]:
    (scored,) = score([truth], [found])
    return {name: round(rate.percent, 2) for name, rate in scored.rates.items()}


def test_what_is_right_has_no_errors_whatever_the_speakers_are_called() -> None:
    other = meeting((0, 2, "S1", "good morning, to all"), (2, 4, "S2", "thank you very much"))
    assert rates(other) == dict.fromkeys(("WER", "CER", "cpWER", "tcpWER", "ORC-WER", "DER"), 0.0)


def test_a_wrong_word_is_an_error_of_recognition() -> None:
    found = rates(meeting((0, 2, "a", "good morning to ball"), (2, 4, "b", "thank you very much")))
    assert found["WER"] == found["cpWER"] == found["ORC-WER"] == 12.5
    assert found["DER"] == 0


def test_a_wrong_speaker_is_an_error_of_attribution() -> None:
    found = rates(meeting((0, 2, "a", "good morning to all"), (2, 4, "a", "thank you very much")))
    assert found["WER"] == found["ORC-WER"] == 0
    assert found["cpWER"] == 100.0
    assert found["DER"] == 50.0


def test_a_long_meeting_of_many_is_told_apart_too() -> None:
    """An exact search over all assignments would not end here."""
    said = [(4.0 * n, 4.0 * n + 4, f"s{n % 5}", f"this is sentence number x{n} of five") for n in range(200)]
    heard = [(a, b, "s0" if n % 10 == 3 else who, text) for n, (a, b, who, text) in enumerate(said)]
    found = rates(meeting(*heard), meeting(*said))
    assert found["WER"] == 0
    assert found["ORC-WER"] < 3  # greedy: an upper bound of 0
    assert found["cpWER"] == 20.0  # each tenth is missing from one and too much for another


def test_a_word_at_the_wrong_time_is_an_error_of_time() -> None:
    late = meeting((0, 2, "a", "good morning to all"), (60, 62, "b", "thank you very much"))
    found = rates(replace(late, duration=70.0))
    assert found["cpWER"] == 0
    assert found["tcpWER"] == 100.0


def test_nothing_recognised() -> None:
    found = rates(Transcript((), 10.0, "meeting.flac"))
    assert found == dict.fromkeys(("WER", "CER", "cpWER", "tcpWER", "ORC-WER", "DER"), 100.0)


def test_mandarin_counts_characters() -> None:
    truth = meeting((0, 2, "a", "今天很好。"), language="zh")
    found = rates(meeting((0, 2, "a", "今天不好"), language="zh"), truth)
    assert found["WER"] == found["cpWER"] == 25.0


def test_recordings_must_match() -> None:
    with pytest.raises(FormatError, match="only one of them has: meeting, other"):
        score([TRUTH], [replace(TRUTH, source="other.wav")])
    with pytest.raises(FormatError, match="twice in the hypothesis"):
        score([TRUTH], [TRUTH, TRUTH])


def test_the_interval_holds_the_rate() -> None:
    scored = [Scored(str(n), "en", {"WER": Rate(n % 4, 10)}) for n in range(40)]
    found = combine_scores(scored, "WER")
    assert found is not None
    rate, low, high = found
    assert low < rate.percent == 15.0 < high
    assert combine_scores(scored, "DER") is None


def test_the_command(tmp_path: Path) -> None:
    reference, hypothesis = tmp_path / "ref.seglst.json", tmp_path / "hyp.stm"
    formats.write(replace(TRUTH, source="m.wav"), reference)
    formats.write(replace(TRUTH, source="m.wav"), hypothesis)
    arguments = ["score", "--reference", str(reference), "--hypothesis", str(hypothesis)]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0
    assert "overall" in shown.stdout
    assert "cpWER" in shown.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["overall"]["cpWER"]["percent"] == 0
    broken = CliRunner().invoke(app, [*arguments[:2], str(tmp_path / "no.stm"), *arguments[3:]])
    assert broken.exit_code == 1
    assert "no.stm" in broken.stderr
