"""Subtitle cues: short lines, few of them, on the screen as long as one needs to read them."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_asr.formats import CueOptions, parse, render
from diffusion_asr.formats.cues import Cue, build_cues
from diffusion_asr.formats.units import width
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Segment, Transcript, Word

LIMITS = CueOptions()
ENGLISH = (
    "When the tide went out, we walked across the flat sand and talked about everything that had happened."
)
HINDI = "जब पानी उतर गया तो हम रेत पर चले और जो कुछ हुआ था उसके बारे में देर तक बातें करते रहे।"
MANDARIN = "退潮以后，我们走过平坦的沙滩，谈论着这些年里发生过的一切，一直走到太阳落山才慢慢地回家去。"


def spoken(text: str, rate: float = 15.0, start: float = 0.0, speaker: str | None = None) -> Segment:
    """A sentence said at so many letters a second."""
    parts = _hanzi(text) if text == MANDARIN else text.split()
    words, now = [], start
    for part in parts:
        end = now + len(part) / rate
        words.append(Word(part, round(now, 3), round(end, 3)))
        now = end
    return Segment(start, words[-1].end, join_words(tuple(words)), tuple(words), speaker=speaker)


def _hanzi(text: str) -> list[str]:
    parts: list[str] = []
    for letter in text:
        if letter in "，。":
            parts[-1] += letter
        else:
            parts.append(letter)
    return parts


def check(cues: list[Cue], options: CueOptions = LIMITS) -> None:
    for cue in cues:
        assert len(cue.lines) <= options.max_line_count
        assert all(width(line) <= options.max_line_width for line in cue.render().split("\n"))
        assert options.min_seconds - 1e-6 <= cue.end - cue.start <= options.max_seconds + 1e-6
    for before, after in pairwise(cues):
        assert after.start >= before.end - 1e-6


@pytest.mark.parametrize(("text", "rate"), [(ENGLISH, 15), (HINDI, 14), (MANDARIN, 5)])
def test_a_long_sentence_becomes_cues_that_can_be_read(text: str, rate: float) -> None:
    segments, start = [], 0.0
    for _ in range(4):
        segments.append(spoken(text, rate, start))
        start = segments[-1].end
    cues = build_cues(segments, LIMITS)
    check(cues)
    assert len(cues) >= 8
    for cue in cues:
        assert width(cue.render()) / (cue.end - cue.start) <= LIMITS.max_speed
    shown = "".join("".join(cue.render().split()) for cue in cues)
    assert shown == "".join("".join(segment.text.split()) for segment in segments)
    for segment in segments:
        assert any(cue.units[0].start == segment.start for cue in cues)  # a sentence begins a cue


def test_cues_end_where_clauses_do() -> None:
    text = "When the tide went out and the sun was low, we walked across the flat sand and talked for hours."
    first, second = build_cues([spoken(text, 15.0)], CueOptions(max_line_width=30))
    assert first.render() == "When the tide went out\nand the sun was low,"
    assert second.render().startswith("we walked")
    titled = spoken("I could not help watching your face with fear when Mr. Thornton made his confession.")
    assert not any(cue.render().endswith("Mr.") for cue in build_cues([titled], LIMITS))


def test_hanzi_break_without_spaces_and_marks_begin_no_line() -> None:
    cues = build_cues([spoken(MANDARIN, 5.0)], CueOptions(max_line_width=20))
    lines = [line for cue in cues for line in cue.render().split("\n")]
    check(cues, CueOptions(max_line_width=20))
    assert not any(" " in line for line in lines)
    assert not any(line[0] in "，。" for line in lines)
    quoted = Segment(0.0, 9.0, "他说「你好，今天天气很好」然后就走了，没有再回来过。")  # no word times
    for cue in build_cues([quoted], CueOptions(max_line_width=10)):
        for line in cue.render().split("\n"):
            assert line[0] not in "」，。"
            assert line[-1] != "「"


def test_lines_are_about_as_wide_as_one_another() -> None:
    (cue,) = build_cues([spoken("We walked across the flat sand and talked about it.", 13.0)], LIMITS)
    assert cue.render() == "We walked across the flat\nsand and talked about it."


def test_a_short_word_stays_long_enough() -> None:
    (alone,) = build_cues([spoken("Yes.", 20.0, start=3.0)], LIMITS)
    assert (alone.start, alone.end) == (3.0, 4.0)
    start = spoken(ENGLISH).end
    packed = [spoken(ENGLISH), spoken("No.", 20.0, start), spoken(ENGLISH, 15.0, start + 0.15)]
    check(build_cues(packed, LIMITS))
    packed[1] = replace(packed[1], speaker="B")
    cues = build_cues(packed, LIMITS)
    check(cues)
    assert [cue.render() for cue in cues if cue.segment.speaker == "B"] == ["No."]


def test_segments_without_word_times_keep_theirs() -> None:
    (cue,) = build_cues([Segment(1.0, 1.2, "Hi\nthere")], LIMITS)
    assert (cue.start, cue.end, cue.render()) == (1.0, 1.2, "Hi\nthere")
    cues = build_cues([Segment(0.0, 30.0, " ".join([ENGLISH] * 4))], LIMITS)
    check(cues)
    assert (cues[0].start, cues[-1].end) == (0.0, 30.0)
    mismatched = Segment(0.0, 2.0, "Other text", (Word("Hello", 0.5, 0.7),))
    assert build_cues([mismatched], LIMITS)[0].render() == "Other text"


def test_words_are_highlighted_while_they_are_said() -> None:
    words = (Word("a", 1.2, 1.4), Word("<b>", 1.5, 1.8), Word("c", 2.0, 2.5))
    talk = Transcript((Segment(1.2, 2.5, "a <b> c", words),))
    shown = render(talk, "srt", CueOptions(highlight_words=True))
    assert [line for line in shown.split("\n") if "<u>" in line or "-->" in line] == [
        "00:00:01,200 --> 00:00:01,500", "<u>a</u> <b> c",
        "00:00:01,500 --> 00:00:02,000", "a <u><b></u> c",
        "00:00:02,000 --> 00:00:02,500", "a <b> <u>c</u>",
    ]  # fmt: skip
    assert "a <u>&lt;b&gt;</u> c" in render(talk, "vtt", CueOptions(highlight_words=True))
    assert "<u>" not in render(talk, "srt")


def test_a_speaker_s_mark_counts_as_a_part_of_the_line() -> None:
    talk = Transcript((spoken(ENGLISH, speaker="Ann"), spoken(ENGLISH, 15.0, 10.0, speaker="Ben")))
    text = render(talk, "srt")
    assert max(map(len, text.split("\n"))) <= 42
    (found,) = parse(text, "srt")
    assert {segment.speaker for segment in found.segments} == {"Ann", "Ben"}
    assert found.text == f"{ENGLISH} {ENGLISH}"


def test_limits_that_make_no_sense() -> None:
    for wrong in ({"max_line_width": 1}, {"max_line_count": 0}, {"min_seconds": 8.0}, {"max_speed": 0.0}):
        with pytest.raises(ValueError, match=r"at (least|most)"):
            CueOptions(**wrong)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([10, 24, 42]), st.integers(1, 3))
def test_any_talk_fits(seed: int, columns: int, lines: int) -> None:
    """Whatever is said, at any speed: no text is lost, no cue too large, too long or over another one."""
    rng = random.Random(seed)
    vocabulary = [
        "a",
        "I",
        "to",
        "and",
        "walked",
        "everything,",
        "of.",
        "extraordinarily-long-hyphenated-word",
    ]
    vocabulary += ["你", "好。", "「是", "नमस्ते।"]
    segments, now = [], 0.0
    for _ in range(rng.randint(1, 6)):
        words = []
        for _ in range(rng.randint(1, 30)):
            length = rng.choice([0.0, 0.05, 0.2, 0.4, 3.0])
            words.append(Word(rng.choice(vocabulary), round(now, 3), round(now + length, 3)))
            now += length + rng.choice([0.0, 0.0, 0.1, 1.5])
        segments.append(Segment(words[0].start, words[-1].end, join_words(tuple(words)), tuple(words)))
    options = CueOptions(max_line_width=columns, max_line_count=lines)
    cues = build_cues(segments, options)
    for cue in cues:
        assert len(cue.lines) <= lines
        assert all(width(line) <= columns for line in cue.render().split("\n"))
        assert 0 <= cue.end - cue.start <= options.max_seconds + 1e-6
    for before, after in pairwise(cues):
        assert before.end - 1e-6 <= after.start
    shown = "".join("".join(cue.render().split()) for cue in cues)
    assert shown == "".join("".join(segment.text.split()) for segment in segments)
