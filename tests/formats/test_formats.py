"""Transcript formats: what survives in each, golden texts, other programs' files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_asr.errors import FormatError
from diffusion_asr.formats import FORMATS, parse, render
from diffusion_asr.transcript import Segment, Transcript, Word

TALK = Transcript(
    segments=(
        Segment(
            start=0.0,
            end=1.5,
            text="Hello there.",
            words=(Word("Hello", 0.0, 0.75, 0.9), Word("there.", 0.8, 1.5, 0.5)),
            language="en",
            speaker="Ann Lee",
        ),
        Segment(
            start=1.5,
            end=2.25,
            text="नमस्ते दुनिया",
            words=(Word("नमस्ते", 1.5, 2.0), Word("दुनिया", 2.0, 2.25)),
            language="hi",
        ),
        Segment(
            start=359999.9996,
            end=360001.0,
            text="你好，世界",
            words=tuple(
                Word(c, 360000 + i / 4, 360000.25 + i / 4) for i, c in enumerate(["你", "好，", "世", "界"])
            ),
            language="zh",
            speaker="B",
        ),
    ),
    duration=360002.0,
    source="/data/my talk.wav",
    metadata={"model": "small"},
)

GOLDEN = {
    "txt": "[Ann Lee]: Hello there.\n[unknown]: नमस्ते दुनिया\n[B]: 你好，世界\n",
    "srt": """\
1
00:00:00,000 --> 00:00:01,500
[Ann Lee]: Hello there.

2
00:00:01,500 --> 00:00:02,500
[unknown]: नमस्ते दुनिया

3
100:00:00,000 --> 100:00:01,000
[B]: 你好，世界
""",
    "vtt": """\
WEBVTT

00:00:00.000 --> 00:00:01.500
<v Ann Lee>Hello there.

00:00:01.500 --> 00:00:02.500
नमस्ते दुनिया

100:00:00.000 --> 100:00:01.000
<v B>你好，世界
""",
    "tsv": """\
start\tend\tspeaker\tlanguage\ttext
0\t1500\tAnn Lee\ten\tHello there.
1500\t2250\t\thi\tनमस्ते दुनिया
360000000\t360001000\tB\tzh\t你好，世界
""",
    "rttm": """\
SPEAKER my_talk 1 0.000 1.500 <NA> <NA> Ann_Lee <NA> <NA>
SPEAKER my_talk 1 1.500 0.750 <NA> <NA> unknown <NA> <NA>
SPEAKER my_talk 1 360000.000 1.000 <NA> <NA> B <NA> <NA>
""",
    "stm": """\
my_talk 1 Ann_Lee 0.000 1.500 Hello there.
my_talk 1 unknown 1.500 2.250 नमस्ते दुनिया
my_talk 1 B 360000.000 360001.000 你好，世界
""",
    "ctm": """\
my_talk 1 0.000 0.750 Hello 0.9000
my_talk 1 0.800 0.700 there. 0.5000
my_talk 1 1.500 0.500 नमस्ते
my_talk 1 2.000 0.250 दुनिया
my_talk 1 360000.000 0.250 你
my_talk 1 360000.250 0.250 好，
my_talk 1 360000.500 0.250 世
my_talk 1 360000.750 0.250 界
""",
}


# --- strategies: "tidy" values that every format can hold, and wild ones that must do no harm -------

times = st.integers(0, 10**9).map(lambda ms: ms / 1000)
letters = st.sampled_from("abcXYZéßनमस्ते你好世界か0123,.!?-<>&'\"")
tidy_words = st.text(letters, min_size=1, max_size=8)
tidy_texts = st.lists(tidy_words, min_size=1, max_size=5).map(" ".join)
names = st.none() | st.text(st.sampled_from("ABcd 1_é你"), min_size=1).map(str.strip).filter(bool)
wild_texts = st.text(max_size=30) | st.sampled_from(
    [
        "",
        " ",
        "a\n\nb",
        "x --> y",
        "---->",
        "<v Bob>&amp;",
        "<unk> hm",
        ";; no",
        "A: b",
        "a\tb\r\nc",
        "\ufeff",
        "1\n2",
        "\u2028",
    ]
)
confidences = st.none() | st.integers(0, 10_000).map(lambda n: n / 10_000)


@st.composite
def spans(draw: st.DrawFn) -> tuple[float, float]:
    first, second = draw(times), draw(times)
    return min(first, second), max(first, second)


@st.composite
def segments(draw: st.DrawFn, texts: st.SearchStrategy[str], names: st.SearchStrategy[str | None]) -> Segment:
    words = [
        Word(draw(texts), *draw(spans()), draw(confidences), draw(names))
        for _ in range(draw(st.integers(0, 3)))
    ]
    language = draw(st.none() | st.sampled_from(["en", "zh"]))
    return Segment(*draw(spans()), draw(texts), tuple(words), language, draw(names))


def transcripts(
    texts: st.SearchStrategy[str], names: st.SearchStrategy[str | None]
) -> st.SearchStrategy[Transcript]:
    def build(found: list[Segment]) -> Transcript:
        ordered = tuple(sorted(found, key=lambda segment: segment.start))
        return Transcript(ordered, max((segment.end for segment in ordered), default=0.0), "talk")

    return st.lists(segments(texts, names), max_size=4).map(build)


tidy = transcripts(tidy_texts, names)
wild = transcripts(wild_texts, st.none() | wild_texts)


def underscored(name: str | None) -> str | None:
    return name and "_".join(name.split())


def kept(transcript: Transcript, keep: Callable[[Segment], Segment]) -> Transcript:
    return replace(transcript, segments=tuple(keep(segment) for segment in transcript.segments))


def back(transcript: Transcript, form: str) -> Transcript:
    found = parse(render(transcript, form), form)
    if not found:  # a format that names the recording in each segment forgets one without segments
        assert FORMATS[form].many
        return Transcript(source="talk")
    return replace(found[0], source="talk")


# --- what survives ----------------------------------------------------------------------------------


@given(st.lists(wild, max_size=3), st.dictionaries(st.text(), st.text(), max_size=2), st.floats(0, 1e9))
def test_json_keeps_everything(many: list[Transcript], metadata: dict[str, str], duration: float) -> None:
    many = [replace(transcript, metadata=metadata, duration=duration, source=None) for transcript in many]
    assert parse(render(many, "json"), "json") == many


@given(tidy)
def test_seglst_keeps_all_but_duration_and_metadata(transcript: Transcript) -> None:
    assert back(transcript, "seglst") == transcript


@pytest.mark.parametrize("form", ["srt", "vtt"])
@given(tidy)
def test_subtitles_keep_times_text_and_speaker(form: str, transcript: Transcript) -> None:
    """Segments whose words have no times stay whole, but for line ends; srt writes arrows otherwise."""

    def keep(segment: Segment) -> Segment:
        text = re.sub("--+>", "->", segment.text) if form == "srt" else segment.text
        return replace(segment, words=(), language=None, text="".join(text.split()))

    bare = kept(transcript, lambda segment: replace(segment, words=()))
    found = kept(back(bare, form), lambda segment: replace(segment, text="".join(segment.text.split())))
    assert found == kept(transcript, keep)


@given(tidy)
def test_tsv_keeps_times_text_language_and_speaker(transcript: Transcript) -> None:
    assert back(transcript, "tsv") == kept(transcript, lambda s: replace(s, words=()))


@given(tidy)
def test_txt_keeps_text_and_speaker(transcript: Transcript) -> None:
    told = [(s.text, s.speaker) for s in back(transcript, "txt").segments]
    assert told == [(s.text, s.speaker) for s in transcript.segments]


def test_txt_marks_speakers_only_where_there_are_any() -> None:
    one = Transcript((Segment(0.0, 1.0, "Note: close the door."), Segment(1.0, 2.0, "Thank you.")))
    assert render(one, "txt") == "Note: close the door.\nThank you.\n"
    assert [s.speaker for s in back(one, "txt").segments] == [None, None]
    alike = Transcript((Segment(0.0, 1.0, "[Music]: a waltz"),))
    assert [(s.text, s.speaker) for s in back(alike, "txt").segments] == [("[Music]: a waltz", None)]
    odd = Transcript((Segment(0.0, 1.0, "Yes.", speaker="Ann [chair]"), Segment(1.0, 2.0, "[Bo]: no")))
    told = [(s.text, s.speaker) for s in back(odd, "txt").segments]
    assert told == [("Yes.", "Ann (chair)"), ("[Bo]: no", None)]


@given(tidy)
def test_rttm_keeps_times_and_speaker(transcript: Transcript) -> None:
    def keep(segment: Segment) -> Segment:
        return Segment(segment.start, segment.end, "", speaker=underscored(segment.speaker))

    assert back(transcript, "rttm") == kept(transcript, keep)


@given(tidy)
def test_stm_keeps_times_text_and_speaker(transcript: Transcript) -> None:
    def keep(segment: Segment) -> Segment:
        return replace(segment, words=(), language=None, speaker=underscored(segment.speaker))

    assert back(transcript, "stm") == kept(transcript, keep)


@given(st.lists(st.tuples(tidy_words, spans(), confidences), max_size=5))
def test_ctm_keeps_words_with_times_and_confidence(
    found: list[tuple[str, tuple[float, float], float | None]],
) -> None:
    words = tuple(
        sorted((Word(text, *span, conf) for text, span, conf in found), key=lambda word: word.start)
    )
    transcript = Transcript((Segment(0.0, 1e6, "", words),), source="talk")
    assert tuple(back(transcript, "ctm").words) == words


@given(wild, st.sampled_from([name for name in FORMATS if name != "json"]), st.none() | wild_texts)
def test_wild_text_does_no_harm(transcript: Transcript, form: str, source: str | None) -> None:
    """Whatever the text holds, no line breaks out of its place, and a second trip changes nothing."""
    transcript = replace(transcript, source=source)
    if form == "ctm":
        transcript = kept(transcript, lambda s: replace(s, text="") if not s.words else s)
    once = parse(render(transcript, form), form)
    assert parse(render(once, form), form) == once
    for found in once:
        assert len(found.segments) <= len(transcript.segments)
        assert all(segment.end >= segment.start >= 0 for segment in found.segments)


@given(st.floats(0, 1e6), st.floats(0, 1e-2), st.sampled_from(["srt", "vtt", "tsv", "rttm", "stm", "seglst"]))
def test_rounding_never_turns_time_back(start: float, length: float, form: str) -> None:
    (segment,) = back(Transcript((Segment(start, start + length, "x"),)), form).segments
    assert segment.end >= segment.start
    assert abs(segment.start - start) <= 0.000501
    assert abs(segment.end - (start + length)) <= 0.001


# --- golden files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", GOLDEN)
def test_golden(form: str) -> None:
    assert render(TALK, form) == GOLDEN[form]


def test_golden_seglst() -> None:
    first, second, _ = json.loads(render(TALK, "seglst"))
    assert first == {
        "session_id": "my_talk",
        "speaker": "Ann Lee",
        "start_time": 0.0,
        "end_time": 1.5,
        "words": "Hello there.",
        "language": "en",
        "word_list": [
            {"word": "Hello", "start_time": 0.0, "end_time": 0.75, "confidence": 0.9},
            {"word": "there.", "start_time": 0.8, "end_time": 1.5, "confidence": 0.5},
        ],
    }
    assert second["speaker"] == "unknown"


def test_golden_json() -> None:
    text = render(TALK, "json")
    assert json.loads(text)["schema_version"] == 1
    assert "你好，世界" in text
    assert parse(text, "json") == [TALK]


def test_json_tells_first_what_the_text_is_and_how_it_was_made() -> None:
    made = {"model": "canvas-base 6", "processing_seconds": "2.5", "speed": "0.5x", "other": "1.0"}
    spoken = replace(TALK, metadata=made)
    (first,) = json.loads(render(spoken, "json"))["transcripts"]
    told = {name: value for name, value in first.items() if name != "segments"}
    assert told == {
        "source": "/data/my talk.wav", "duration": 360002.0, "language": "en", "model": "canvas-base 6",
        "processing_seconds": 2.5, "metadata": {"speed": "0.5x", "other": "1.0"},
    }  # fmt: skip
    assert parse(render(spoken, "json"), "json") == [spoken]


def test_ctm_joins_mandarin_without_spaces_and_shares_time_in_a_word_with_a_space() -> None:
    (found,) = parse(GOLDEN["ctm"], "ctm")
    assert found.text == "Hello there. नमस्ते दुनिया 你好，世界"
    words = (Word("New York", 1.0, 2.0, 0.5), Word(" ", 2.0, 3.0))
    assert render(Transcript((Segment(1.0, 3.0, "New York", words),)), "ctm") == (
        "unknown 1 1.000 0.500 New 0.5000\nunknown 1 1.500 0.500 York 0.5000\n"
    )


def test_subtitle_text_cannot_break_a_cue() -> None:
    transcript = Transcript((Segment(0.0, 1.0, "a --> b\n\n2 < 3 & <i>\n"), Segment(1.0, 2.0, " \n")))
    assert render(transcript, "srt") == "1\n00:00:00,000 --> 00:00:01,000\na -> b\n2 < 3 & <i>\n"
    assert render(transcript, "vtt").endswith("01.000\na --&gt; b\n2 &lt; 3 &amp; &lt;i&gt;\n")
    assert parse(render(transcript, "vtt"), "vtt")[0].segments[0].text == "a --> b\n2 < 3 & <i>"


@pytest.mark.parametrize("form", ["json", "seglst"])
def test_how_sure_a_speaker_is_and_who_is_talked_over_survive(form: str) -> None:
    words = (Word("Yes", 0.0, 0.5, 0.9, "Ann", 0.75, True), Word("no.", 0.5, 1.0, 0.8, None, 0.0))
    spoken = Transcript((Segment(0.0, 1.0, "Yes no.", words, "en", "Ann"),), 1.0, "talk")
    assert parse(render(spoken, form), form) == [spoken]
    wrong = render(spoken, form).replace('"overlapped": true', '"overlapped": 1')
    with pytest.raises(FormatError, match="true or false"):
        parse(wrong, form)
    with pytest.raises(FormatError, match=r"speaker confidence 1\.5"):
        render(
            replace(spoken, segments=(Segment(0, 1, "x", (replace(words[0], speaker_confidence=1.5),)),)),
            form,
        )


def test_a_colon_is_no_speaker() -> None:
    """Only marks are, and only where every cue has one."""
    cue = "{}\n00:00:0{}.000 --> 00:00:0{}.500\n{}\n"

    def speakers(*texts: str) -> list[tuple[str | None, str]]:
        text = "\n".join(cue.format(n, n, n, text) for n, text in enumerate(texts))
        return [(s.speaker, s.text) for s in parse(text, "srt")[0].segments]

    assert speakers("Remember: close the door") == [(None, "Remember: close the door")]
    assert speakers("Note: a", "Note: b") == [(None, "Note: a"), (None, "Note: b")]
    assert speakers("[SPEAKER_00]: a", "[B c]: d") == [("SPEAKER_00", "a"), ("B c", "d")]
    assert speakers("[Music]", "[B]: d") == [(None, "[Music]"), (None, "[B]: d")]


@pytest.mark.parametrize("form", ["srt", "vtt", "txt"])
@pytest.mark.parametrize(
    "spoken",
    [
        [(None, "Remember: close the door"), (None, "Also: the window")],
        [("Anna", "Remember: close the door"), (None, "Anna: yes"), ("Bob", "[Bob]: no")],
        [(None, "[Anna]: is how it is written")],
    ],
)
def test_speakers_and_texts_come_back(form: str, spoken: list[tuple[str | None, str]]) -> None:
    segments = [Segment(2.0 * n, 2.0 * n + 1, text, speaker=name) for n, (name, text) in enumerate(spoken)]
    found = back(Transcript(tuple(segments)), form)
    assert [(segment.speaker, segment.text) for segment in found.segments] == spoken


def test_files_of_others() -> None:
    """Whisper's tsv, a vtt with notes, tags and settings, NIST labels, CHiME's times as strings."""
    assert parse("start\tend\ttext\n0\t1500\t Hi\n", "tsv")[0].segments == (Segment(0.0, 1.5, "Hi"),)
    vtt = "\ufeffWEBVTT - x\r\nKind: captions\r\n\r\nNOTE\r\nno\r\n\r\nid\r\n"
    vtt += "00:01.0 --> 00:02.5 align:left\r\n<v.loud Al>Hi <b>you</b>&nbsp;</v>\r\n"
    assert parse(vtt, "vtt")[0].segments == (Segment(1.0, 2.5, "Hi you", speaker="Al"),)
    stm = ";; comment\ntalk A spk 1 2 <o,f0,male> hello  world\ntalk A unknown 3 4\n"
    assert parse(stm, "stm") == [
        Transcript(
            (Segment(1.0, 2.0, "hello  world", speaker="spk"), Segment(3.0, 4.0, "")),
            4.0,
            "talk",
            {"channel": "A"},
        )
    ]
    rttm = "SPKR-INFO f 1 <NA> <NA> <NA> unknown A <NA>\nSPEAKER f 1 1.1 2.2 <NA> <NA> A <NA>\n"
    assert parse(rttm, "rttm")[0].segments == (Segment(1.1, 3.3, "", speaker="A"),)
    chime = '[{"session_id": "S01", "speaker": "P01", "start_time": "1.5", "end_time": "2", "words": "hm"}]'
    assert parse(chime, "seglst") == [Transcript((Segment(1.5, 2.0, "hm", speaker="P01"),), 2.0, "S01")]


@pytest.mark.parametrize(
    ("line", "source", "speaker"),
    [
        ("SPEAKER my talk 1 0.5 1.5 <NA> <NA> spk1 <NA> <NA>", "my talk", "spk1"),
        ("SPEAKER my talk 1 0.5 1.5 <NA> <NA> spk1 <NA>", "my talk", "spk1"),
        ("SPEAKER a 1 0.5 1.5 <NA> <NA> spk 1 <NA> <NA>", "a", "spk 1"),
        ("SPEAKER my talk 2 1 0.5 1.5 <NA> <NA> Ann van Lee <NA> <NA>", "my talk 2", "Ann van Lee"),
        ("SPEAKER a 1 0.5 1.5 <NA> <NA> spk1 0.9 <NA>", "a", "spk1"),
        ("SPEAKER a 1 0.5 1.5 <NA> <NA> 7", "a", "7"),
        ("SPEAKER a 1 0.5 1.5 word adult spk1 <NA> <NA>", "a", "spk1"),
    ],
)
def test_rttm_names_may_hold_spaces(line: str, source: str, speaker: str) -> None:
    (found,) = parse(line, "rttm")
    assert found == Transcript((Segment(0.5, 2.0, "", speaker=speaker),), 2.0, source)


@pytest.mark.parametrize(
    "line",
    [
        "SPEAKER my talk 1 0.5 1.5 word adult spk1 <NA> <NA> <NA>",
        "SPEAKER a 1 0.5 1.5 <NA> <NA> 2 3 <NA> <NA> <NA> <NA>",
    ],
)
def test_rttm_lines_that_can_be_read_in_two_ways_are_refused(line: str) -> None:
    with pytest.raises(FormatError, match=r"line 1: 'SPEAKER file 1 start .* names without spaces"):
        parse(line, "rttm")


@pytest.mark.parametrize("form", ["stm", "ctm"])
def test_channels_stay_apart(form: str) -> None:
    text = {
        "stm": "sw1 A ann 0.000 1.000 hello\nsw1 B bob 0.500 1.500 thanks\n",
        "ctm": "sw1 A 0.000 1.000 hello\nsw1 B 0.500 1.000 thanks\n",
    }[form]
    first, second = parse(text, form)
    assert (first.source, first.metadata, first.text) == ("sw1", {"channel": "A"}, "hello")
    assert (second.source, second.metadata, second.text) == ("sw1", {"channel": "B"}, "thanks")
    assert render([first, second], form) == text
