"""Joining words and turns: pure functions of core's, which need no toolkit."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

from diffusion_asr.meeting.attribution import (
    Turn,
    attribute_words,
    find_speakers,
    make_exclusive,
    split_segment,
)
from diffusion_asr.transcript import Segment, Transcript, Word

AB = (Turn(0.0, 2.0, "A"), Turn(3.0, 5.0, "B"))


def words(*spans: tuple[float, float]) -> tuple[Word, ...]:
    return tuple(Word(f"w{n}", start, end) for n, (start, end) in enumerate(spans))


def who(spans: list[tuple[float, float]], turns: Iterable[Turn], **options: Any) -> list[str | None]:
    return [a.speaker for a in find_speakers(words(*spans), turns, **options)]


def test_a_word_belongs_to_who_talks_longest_in_it() -> None:
    assert who([(0.1, 0.4), (1.5, 3.2), (2.5, 3.9), (4.0, 5.5)], AB) == ["A", "A", "B", "B"]


def test_pieces_of_turns_add_up() -> None:
    turns = [Turn(0.0, 0.3, "A"), Turn(0.3, 0.7, "B"), Turn(0.7, 1.0, "A")]
    assert who([(0.0, 1.0)], turns) == ["A"]


def test_a_word_between_turns_goes_to_the_nearer_one_within_the_limit() -> None:
    assert who([(2.1, 2.3), (2.7, 2.9)], AB) == ["A", "B"]
    assert who([(2.45, 2.55)], AB) == ["A"]  # equally far: the earlier
    assert who([(2.2, 2.3), (5.9, 6.0), (5.3, 5.4)], AB, limit=0.5) == ["A", None, "B"]
    assert who([(2.2, 2.3)], AB, limit=0.0) == [None]
    assert who([(1.0, 1.5)], []) == [None]


def test_the_nearest_turn_is_the_one_that_ends_last_not_the_one_that_began_last() -> None:
    turns = [Turn(0.0, 5.0, "long"), Turn(1.0, 2.0, "short")]
    assert who([(5.1, 5.2)], turns) == ["long"]


def test_words_without_length_and_very_short_turns() -> None:
    assert who([(3.5, 3.5), (2.0, 2.0)], AB) == ["B", "A"]
    assert who([(1.0, 1.4)], [Turn(0.0, 1.1, "A"), Turn(1.1, 1.13, "B"), Turn(1.13, 2.0, "A")]) == ["A"]


def test_confidence_is_the_share_of_the_word_and_overlap_is_marked() -> None:
    inside, half, near = find_speakers(
        words((0.5, 1.0), (1.8, 2.2), (2.25, 2.4)), AB, overlapping=[*AB, Turn(0, 0.6, "C")]
    )
    assert (inside.confidence, inside.overlapped) == (1.0, True)
    assert (half.confidence, half.overlapped) == (0.5, False)
    assert near.confidence == pytest.approx(0.25)


def test_who_talks_first_keeps_the_floor_in_the_exclusive_view() -> None:
    turns = make_exclusive([Turn(0, 4, "A"), Turn(1, 2, "B"), Turn(3, 6, "C")])
    assert turns == [Turn(0, 4, "A"), Turn(4, 6, "C")]


def test_a_turn_change_splits_the_segment_at_the_word() -> None:
    spoken = (Word("Ja.", 0.5, 1.0), Word("Was", 1.0, 1.9), Word("denn?", 3.1, 3.5), Word("Nun", 9.0, 9.5))
    transcript = Transcript((Segment(0.5, 9.5, "Ja. Was denn? Nun", spoken, "de"),), 10.0)
    out = attribute_words(transcript, AB)
    assert [(s.speaker, s.text, s.start, s.end) for s in out.segments] == [
        ("A", "Ja. Was", 0.5, 1.9),
        ("B", "denn?", 3.1, 3.5),
        (None, "Nun", 9.0, 9.5),
    ]
    assert [w.speaker for w in out.words] == ["A", "A", "B", None]
    assert {s.language for s in out.segments} == {"de"}
    assert out.duration == 10.0


def test_hanzi_stay_unspaced_and_an_unsplit_segment_keeps_its_text() -> None:
    spoken = tuple(Word(c, n / 2, n / 2 + 0.4) for n, c in enumerate("你好吗", start=3))
    whole = Segment(1.5, 2.9, "你好 吗", spoken, "zh")
    turns = [Turn(0, 2.4, "A"), Turn(2.4, 3, "B")]
    assert [s.text for s in attribute_words(Transcript((whole,)), turns).segments] == ["你好", "吗"]
    assert attribute_words(Transcript((whole,)), [Turn(0, 9, "A")]).segments[0].text == "你好 吗"


def test_a_segment_without_words_goes_whole_to_its_main_speaker() -> None:
    out = attribute_words(Transcript((Segment(1.5, 4.0, "hello"),)), AB)
    assert [(s.speaker, s.words) for s in out.segments] == [("B", ())]


def test_joining_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="limit"):
        find_speakers([], AB, limit=-1)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        split_segment(Segment(0, 1, "a", words((0, 1))), [])


def test_joining_an_hour_takes_well_under_a_second() -> None:
    turns = [Turn(n * 2.0, n * 2.0 + 1.9, f"S{n % 5}") for n in range(1800)]
    spoken = words(*[(n * 0.36, n * 0.36 + 0.3) for n in range(10_000)])
    begun = time.perf_counter()
    found = find_speakers(spoken, turns)
    assert time.perf_counter() - begun < 1.0
    assert all(
        a.speaker == f"S{int(w.start // 2) % 5}"
        for a, w in zip(found, spoken, strict=True)
        if a.confidence == 1
    )
