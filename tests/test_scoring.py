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
    with pytest.raises(FormatError, match="no reference for: other; the references hold meeting"):
        score([TRUTH], [replace(TRUTH, source="other.wav")])
    with pytest.raises(FormatError, match="twice in the hypothesis"):
        score([TRUTH], [TRUTH, TRUTH])
    with pytest.raises(FormatError, match="hold no recording"):
        score([], [])


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


# --- what other scorers are given --------------------------------------------------------------------------


def files(tmp_path: Path, reference: str, hypothesis: str, suffixes: str = "stm stm") -> list[Path]:
    paths = [tmp_path / f"{side}.{end}" for side, end in zip(("ref", "hyp"), suffixes.split(), strict=True)]
    for path, text in zip(paths, (reference, hypothesis), strict=True):
        path.write_text(text, encoding="utf8")
    return paths


def scored(paths: list[Path]) -> dict[str, dict[str, Rate]]:
    reference, hypothesis = paths
    found = score(formats.read(reference), formats.read(hypothesis))
    return {one.recording: dict(one.rates) for one in found}


def command(paths: list[Path], *options: str) -> str:
    shown = CliRunner().invoke(
        app, ["score", "--reference", str(paths[0]), "--hypothesis", str(paths[1]), *options]
    )
    assert shown.exit_code == 0, shown.output
    return shown.stdout


MEETING = (
    "m.2024.05.01 1 ann 0 2 hello there everybody\nm.2024.05.01 1 bob 2 4 good morning\n"
    "m.2024.05.02 1 ann 0 2 we begin now\nm.2024.05.02 1 cid 1 3 not yet please\n"
)
HEARD = (
    "m.2024.05.01 1 S1 0 2 hello their everybody\nm.2024.05.01 1 S2 2 4 good good morning\n"
    "m.2024.05.02 1 S1 0 2 we begin\nm.2024.05.02 1 S1 1 3 not yet please\n"
)


def test_errors_are_those_that_meeteval_and_jiwer_count(tmp_path: Path) -> None:
    """Dots belong to the names of recordings."""
    api, jiwer = pytest.importorskip("meeteval.wer.api"), pytest.importorskip("jiwer")
    reference, hypothesis = paths = files(tmp_path, MEETING, HEARD)
    found = scored(paths)
    assert list(found) == ["m.2024.05.01", "m.2024.05.02"]
    for metric, function, options in (
        ("cpWER", api.cpwer, {}), ("ORC-WER", api.orcwer, {}), ("tcpWER", api.tcpwer, {"collar": 5}),
    ):  # fmt: skip
        theirs = function(str(reference), str(hypothesis), **options)
        for name, rates in found.items():
            assert rates[metric] == Rate(theirs[name].errors, theirs[name].length), (metric, name)
    (truth, _), (heard, _) = (
        [" ".join(s.text for s in t.segments) for t in formats.read(path)] for path in paths
    )
    assert found["m.2024.05.01"]["WER"].percent == pytest.approx(100 * jiwer.wer(truth, heard))
    assert found["m.2024.05.01"]["CER"].percent == pytest.approx(100 * jiwer.cer(truth, heard))


@pytest.mark.parametrize("form", ["stm", "srt", "json", "vtt", "seglst.json"])
def test_a_recording_has_the_same_name_in_every_format(form: str, tmp_path: Path) -> None:
    talk = Transcript((Segment(0.0, 1.0, "hello", speaker="a"),), 1.0, "/rec/talk v2.final.wav")
    reference, hypothesis = tmp_path / "talk v2.final.json", tmp_path / f"talk v2.final.{form}"
    formats.write(talk, reference)
    formats.write(talk, hypothesis, overwrite=True)
    (only,) = score(formats.read(reference), formats.read(hypothesis))
    assert (only.recording, only.rates["WER"]) == ("talk_v2.final", Rate(0, 1))


BRACKETS = (
    "x 1 s 0 2 see figure ( left one\nx 1 s 2 4 the quick fox\nx 1 s 4 6 over the dog ) [laughter] end\n"
)


@pytest.mark.parametrize("form", ["stm", "ctm"])
def test_a_bracket_swallows_nothing_of_other_segments(form: str, tmp_path: Path) -> None:
    reference = BRACKETS
    if form == "ctm":
        words = [word for line in BRACKETS.splitlines() for word in line.split()[5:]]
        reference = "".join(f"x 1 {n / 2} 0.5 {word}\n" for n, word in enumerate(words))
    heard = "x 1 s 0 6 see figure left one the slow fox over the dog end\n"
    assert scored(files(tmp_path, reference, heard, f"{form} stm"))["x"]["WER"] == Rate(1, 11)


def test_a_recording_without_hypothesis_is_all_deletions(tmp_path: Path) -> None:
    paths = files(tmp_path, "a 1 s 0 2 hello there\nb 1 s 0 2 good morning\n", "a 1 s 0 2 hello there\n")
    found = scored(paths)
    assert found["a"]["WER"] == Rate(0, 2)
    assert {m: found["b"][m] for m in ("WER", "cpWER", "tcpWER", "ORC-WER", "DER")} == dict.fromkeys(
        ("WER", "cpWER", "tcpWER", "ORC-WER", "DER"), Rate(2, 2)
    )
    assert "b: no hypothesis: everything in the reference is missing" in command(paths)
    paths[1].write_text("")
    assert [rates["WER"].percent for rates in scored(paths).values()] == [100.0, 100.0]
    paths[1].write_text("a 1 s 0 2\nb 1 s 0 2\n")  # lines without a word: nothing was heard there
    assert [rates["WER"].percent for rates in scored(paths).values()] == [100.0, 100.0]


CALL = (
    "sw1 A ann 0 2 hello how are you\nsw1 B bob 1 3 fine thanks and you\nsw1 A ann 3 5 very well\n",
    "sw1 {} 0 1 hello\nsw1 {} 1 1 how\nsw1 {} 2 1 is\nsw1 {} 3 1 you\nsw1 {} 4 1 very\nsw1 {} 5 1 well\n",
    "sw1 {} 1 1 fine\nsw1 {} 2 1 thanks\nsw1 {} 3 1 and\nsw1 {} 4 1 you\n",
)


@pytest.mark.parametrize(("one", "other"), [("A", "B"), ("1", "2"), ("2", "1"), ("0", "1")])
def test_the_channels_of_a_call_are_scored_apart(tmp_path: Path, one: str, other: str) -> None:
    """As sclite does, which pairs a file's channels."""
    reference, first, second = CALL
    heard = first.replace("{}", one) + second.replace("{}", other)
    named = reference.replace(" A ", f" {one} ").replace(" B ", f" {other} ")
    found = scored(files(tmp_path, named, heard, "stm ctm"))
    assert {name: rates["WER"] for name, rates in found.items()} == {
        f"sw1 {one}": Rate(1, 6),
        f"sw1 {other}": Rate(0, 4),
    }
    heard = first.replace("{}", "A") + second.replace("{}", "B")
    found = scored(files(tmp_path, reference, heard, "stm ctm"))
    assert {name: rates["cpWER"] for name, rates in found.items()} == {
        "sw1 A": Rate(1, 6),
        "sw1 B": Rate(0, 4),
    }
    found = scored(files(tmp_path, reference, first.replace("{}", "A"), "stm ctm"))
    assert {name: rates["WER"] for name, rates in found.items()} == {"sw1 A": Rate(1, 6), "sw1 B": Rate(4, 4)}


def test_channels_are_speakers_where_the_other_side_has_none(tmp_path: Path) -> None:
    reference, first, second = CALL
    heard = first.replace("{}", "A") + second.replace("{}", "B")
    found = scored(files(tmp_path, reference.replace(" A ", " 1 ").replace(" B ", " 1 "), heard, "stm ctm"))
    assert found["sw1"]["cpWER"] == Rate(1, 10)


@pytest.mark.parametrize("text", ["[laughter]", "", "(coughs) ..."])
def test_what_is_heard_where_nobody_speaks_is_inserted(text: str, tmp_path: Path) -> None:
    paths = files(tmp_path, f"n 1 s 0 2 {text}\n", "n 1 s 0 2 ha ha\n")
    told = json.loads(command(paths, "--json"), parse_constant=pytest.fail)["n"]
    for metric in ("WER", "cpWER", "tcpWER", "ORC-WER"):
        assert told[metric] == {"percent": None, "errors": 2, "units": 0, "low": None, "high": None}
    assert told["notes"] == ["no reference words; what was found, 2, is inserted"]
    assert "n: no reference words; what was found, 2, is inserted" in command(paths)
    paths[1].write_text("n 1 s 0 2\n")
    assert json.loads(command(paths, "--json"))["n"]["WER"]["percent"] == 0


@pytest.mark.parametrize(
    ("reference", "heard", "words", "letters"),
    [
        ("今天天气很好我们去公园", "今天天气很好我们去公圆", Rate(1, 11), Rate(1, 11)),
        ("今天 天气 很好，我们去公园。", "今天天气很好我们去公圆", Rate(1, 11), Rate(1, 11)),
        ("我用 iPhone 手机", "我用iphone手机", Rate(0, 5), Rate(0, 10)),
        ("东京タワー", "东京タワ", Rate(1, 5), Rate(1, 5)),
        ("안녕 세계", "안녕 세상", Rate(1, 2), Rate(1, 5)),
    ],
)
def test_hanzi_count_as_words_without_a_tag(
    reference: str, heard: str, words: Rate, letters: Rate, tmp_path: Path
) -> None:
    found = scored(files(tmp_path, f"z 1 s 0 2 {reference}\n", f"z 1 s 0 2 {heard}\n"))["z"]
    assert found["WER"] == found["cpWER"] == words
    assert found["CER"] == letters


def test_a_language_that_the_hypothesis_gets_wrong_changes_no_score() -> None:
    truth, heard = (
        Transcript((Segment(0, 2, "今天很好", language=name, speaker="a"),), 2.0, "z")
        for name in (None, "en")
    )
    (only,) = score([truth], [heard])
    assert (only.language, only.rates["WER"]) == ("zh", Rate(0, 4))
    (only,) = score(
        [replace(TRUTH, source="m")], [replace(meeting((0, 2, "a", "x"), language="zh"), source="m")]
    )
    assert (only.language, only.rates["WER"].units) == ("en", 8)


def test_turns_are_no_transcript(tmp_path: Path) -> None:
    turns = "SPEAKER a 1 0 2 <NA> <NA> s1 <NA> <NA>\n"
    paths = files(tmp_path, "a 1 s1 0 2 hello there\n", turns, "stm rttm")
    shown = CliRunner().invoke(app, ["score", "--reference", str(paths[0]), "--hypothesis", str(paths[1])])
    assert shown.exit_code == 1
    assert "hyp.rttm: an RTTM holds turns and no words" in shown.stderr
    assert scored(files(tmp_path, turns, turns, "rttm rttm"))["a"] == {"DER": Rate(0, 2)}
    with pytest.raises(FormatError, match=r"a: the reference holds turns without words, .* no speakers"):
        scored(files(tmp_path, turns, "a 1 0 1 hello\n", "rttm ctm"))


def test_stretches_that_are_not_to_be_scored_are_left_out(tmp_path: Path) -> None:
    reference = "a 1 s 0 2 hello there\na 1 inter 2 4 IGNORE_TIME_SEGMENT_IN_SCORING\n"
    heard = "a 1 0 1 hello\na 1 1 0.9 there\na 1 2.5 1 noise\n"
    assert scored(files(tmp_path, reference, heard, "stm ctm"))["a"]["WER"] == Rate(0, 2)


def test_more_speakers_than_meeteval_assigns_leave_words_and_turns() -> None:
    crowd = meeting(*((n / 3, n / 3 + 0.3, f"s{n}", f"word{n}") for n in range(21)))
    (only,) = score([crowd], [crowd])
    assert set(only.rates) == {"WER", "CER", "DER"}
    assert only.rates["WER"] == Rate(0, 21)
    assert "21 speakers" in only.notes[0]


def test_times_that_say_nothing_do_no_harm() -> None:
    point = meeting((0, 0, "a", "hello there"), (0, 0, "b", "again"))
    assert {rate.errors for rate in score([point], [point])[0].rates.values()} == {0}
    for collar in (-1.0, float("nan"), float("inf")):
        with pytest.raises(FormatError, match="a collar of"):
            score([TRUTH], [TRUTH], collar)
