"""Where sentences end in six languages."""

from __future__ import annotations

import pytest

from diffusion_asr.text.sentences import ends_sentence
from diffusion_asr.transcript import Segment, Transcript, join_lines


def sentences(text: str, language: str) -> list[str]:
    space = "" if language == "zh" else " "
    words = list(text) if language == "zh" else text.split()
    out, current = [], list[str]()
    for word, following in zip(words, [*words[1:], None], strict=True):
        current.append(word)
        if ends_sentence(space.join(current[-2:]), following, language) or following is None:
            out.append(space.join(current))
            current = []
    return out


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "en",
            ["Dr. Smith left at 3.15.", '"Really?"', "Yes!", "He did...", "So do I.", "Then J. R. came."],
        ),
        ("en", ["See No. 5 of Vol. 2.", "I said no.", "What did Yahoo! do?", "Wait... and then?"]),
        (
            "de",
            ["Am 3. Oktober kam Hr. Maier, z.B. Ida.", "„Gut!“", "Was nun?", "1990 war er usw. da."],
        ),
        ("fr", ["M. Dupont et Mme. Curie sont là.", "Où ça ?", "Ici !", "« Bien. »", "Et vous ?"]),
        ("es", ["¿Qué dice el Sr. García?", "¡Nada!", "Uds. lo saben."]),
        ("hi", ["यह डॉ. शर्मा हैं।", "क्या हुआ?", "ठीक है।", "चलो॥"]),
        ("zh", ["你好。", "你是谁？", "走！", "好｡"]),
    ],
)
def test_sentences_end_at_their_marks(language: str, expected: list[str]) -> None:
    joined = ("" if language == "zh" else " ").join(expected)
    assert sentences(joined, language) == expected


def test_digits_end_sentences_where_ordinals_are_written_otherwise() -> None:
    assert ends_sentence("12.", "Then", "en")
    assert ends_sentence("1990.", "Dann", "de")
    assert not ends_sentence("12.", "Mai", "de")
    assert not ends_sentence("12,", "Mai", "de")


def test_texts_are_joined_as_their_script_wants() -> None:
    def whole(language: str | None, *texts: str) -> str:
        return Transcript(tuple(Segment(0.0, 1.0, text, language=language) for text in texts)).text

    assert whole("zh", "你好。", "很好。") == "你好。很好。"
    assert whole("zh", "我用IBM.", "Then", "好") == "我用IBM. Then好"
    assert whole(None, "你好。", "很好。") == "你好。很好。"
    assert whole("en", "Hi.", "", "There.") == "Hi. There."
    assert whole("en", "one\ntwo") == "one two"
    assert join_lines("你好，\n世界\nok \n fine\n") == "你好，世界 ok fine"
