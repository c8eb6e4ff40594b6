"""From canvases to words: grouping, times, and the text that words make."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_asr.decoding.calibration import RAMP, Calibration
from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.decoder import Decoded
from diffusion_asr.decoding.words import TAIL, build_words, list_tokens
from diffusion_asr.text.spacing import join_words
from diffusion_asr.text.vocabulary import Vocabulary
from diffusion_asr.transcript import Word
from tests.support import tiny
from tests.support.tiny import HANZI, SLOT, canvas_of, decoded

REAL = (
    ("en", "Don't say \"no\", it's 3 o'clock - OK?"),
    ("en", "He paid $5.50 (or 10%) for the mother-in-law's book."),
    ("de", "Die „Straße“ ist größer – als Übermut tut."),
    ("fr", "L'été, « c'est » où l’œuvre naît à Noël !"),
    ("es", "Hola, ¿qué tal, niño? ¡Mañana será, José!"),
    ("hi", "मैं स्कूल में हिन्दी पढ़ता हूँ। क्या यह, ठीक है?"),
    ("hi", "क - ख ज्ञान श्री"),
    ("zh", "你好，我用Python写代码。在2024年3月！"),
    ("zh", "“好”他说：《书》很好……"),
    ("zh", "㐀㐁齉龘你好"),
)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return tiny.vocabulary(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def real() -> Vocabulary:
    return tiny.real_vocabulary()


def words_of(clip: Decoded, vocabulary: Vocabulary) -> tuple[Word, ...]:
    return build_words(clip, SLOT * len(clip.canvas), vocabulary, Calibration())


def spoken(text: str, language: str, vocabulary: Vocabulary, hold: int = 1) -> list[str]:
    """The words of a text that is perfectly recognised."""
    canvas = canvas_of(vocabulary.encode(text, language), hold)
    return [word.text for word in words_of(decoded(canvas), vocabulary)]


def rejoined(text: str, language: str, vocabulary: Vocabulary) -> tuple[str, str]:
    """What the words say, and what the tokens say."""
    canvas = canvas_of(vocabulary.encode(text, language))
    heard = vocabulary.decode(read_tokens(canvas))
    return join_words(words_of(decoded(canvas), vocabulary)), heard


# --- grouping ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [1, 3])
@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("en", "the cab, abba", ["the", "cab,", "abba"]),
        ("en", 'don\'t (say) "no" - ok?', ["don't", "(say)", '"no"', "-", "ok?"]),
        ("de", "die Größe 3,5", ["die", "Größe", "3,5"]),
        ("fr", "l'été « oui »", ["l'été", "«", "oui", "»"]),
        ("es", "hola, ¿qué tal? ¡ay!", ["hola,", "¿qué", "tal?", "¡ay!"]),
        ("hi", "नमस्ते, कैसे हो?", ["नमस्ते,", "कैसे", "हो?"]),
        ("hi", "के में।", ["के", "में।"]),
        ("zh", "你好，中国。", ["你", "好，", "中", "国。"]),
        ("zh", "我用ab写", ["我", "用", "ab", "写"]),
        ("zh", "在2024年", ["在", "2024", "年"]),
        ("zh", "ab好", ["ab", "好"]),
        ("zh", "不是", ["不", "是"]),
    ],
)
def test_grouping(vocabulary: Vocabulary, language: str, text: str, words: list[str], hold: int) -> None:
    assert spoken(text, language, vocabulary, hold) == words


@pytest.mark.parametrize(("text", "words"), [("你好，ab", ["你", "好，", "ab"]), ("人。19", ["人。", "19"])])
def test_latin_after_chinese_punctuation(vocabulary: Vocabulary, text: str, words: list[str]) -> None:
    assert spoken(text, "zh", vocabulary) == words


@pytest.mark.parametrize(("text", "words"), [("龘靐", ["龘", "靐"]), ("19龘", ["19", "龘"])])
def test_hanzi_spelled_in_bytes(vocabulary: Vocabulary, text: str, words: list[str]) -> None:
    assert spoken(text, "zh", vocabulary) == words


def test_nothing_is_no_words(vocabulary: Vocabulary) -> None:
    for canvas in (torch.zeros(0, dtype=torch.long), torch.zeros(9, dtype=torch.long)):
        assert words_of(decoded(canvas), vocabulary) == ()
    assert join_words(()) == ""


def test_spaces_alone_are_no_words(vocabulary: Vocabulary) -> None:
    space = vocabulary.encode(" x", "en")[0]
    assert words_of(decoded(torch.tensor([0, space, 0, space, space])), vocabulary) == ()


def test_a_token_spans_its_run_and_is_as_sure_as_its_surest_slot(vocabulary: Vocabulary) -> None:
    a, b = vocabulary.encode("xy", "en")[-2:]
    clip = decoded(torch.tensor([0, a, a, 0, a, b, b]), torch.tensor([0.9, 0.2, 0.5, 0.9, 0.3, 0.4, 0.1]))
    found = [(t.data, t.first, t.last, round(t.probability, 6)) for t in list_tokens(clip, vocabulary)]
    assert found == [(b"x", 1, 2, 0.5), (b"x", 4, 4, 0.3), (b"y", 5, 6, 0.4)]


# --- times and confidence ----------------------------------------------------------------------------------


canvases = st.lists(st.one_of(st.just(0), st.integers(0, 10_000)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(canvases, st.integers(0, 2**31))
def test_times_are_in_order_and_in_the_clip(vocabulary: Vocabulary, slots: list[int], seed: int) -> None:
    canvas = torch.tensor(slots) % len(vocabulary)
    confidence = torch.rand(len(slots), generator=torch.Generator().manual_seed(seed))
    words = words_of(decoded(canvas, confidence), vocabulary)
    for word in words:
        assert word.text.strip() == word.text != ""
        assert word.confidence is not None
        assert 0 <= word.confidence <= 1
        assert 0 <= word.start < word.end <= len(slots) * SLOT + 1e-3
    for before, after in pairwise(words):
        assert before.end <= after.start + 1e-3
    assert join_words(words).replace(" ", "") == "".join(w.text for w in words).replace(" ", "")


def test_a_word_rings_on_but_not_into_the_next(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode("x", "en")  # a space, an x
    canvas = torch.tensor([0, *ids, *[0] * 10, *ids, 0, *ids])
    first, second, third = words_of(decoded(canvas), vocabulary)
    assert (first.start, first.end) == pytest.approx((1 * SLOT, 3 * SLOT + TAIL))
    assert (second.start, second.end) == pytest.approx((13 * SLOT, 16 * SLOT))
    assert (third.start, third.end) == pytest.approx((16 * SLOT, 18 * SLOT))


def test_surer_words_have_more_confidence(vocabulary: Vocabulary) -> None:
    canvas = canvas_of(vocabulary.encode("x", "en"))
    sure, unsure = (words_of(decoded(canvas, p), vocabulary)[0].confidence for p in (0.9, 0.2))
    assert sure is not None
    assert unsure is not None
    assert sure > unsure


def test_a_lag_moves_words_but_not_the_first_and_none_beyond_the_clip(vocabulary: Vocabulary) -> None:
    canvas = canvas_of([n for _ in range(20) for n in vocabulary.encode("the", "en")], 3)
    clip, seconds = decoded(canvas), SLOT * len(canvas)
    scales = (Calibration(), Calibration(lag=0.4))
    plain, late = (build_words(clip, seconds, vocabulary, scale) for scale in scales)
    assert [w.text for w in plain] == [w.text for w in late]
    moved = [b.start - a.start for a, b in zip(plain, late, strict=True)]
    assert moved[0] == 0.0
    settled = [by for a, by in zip(plain, moved, strict=True) if RAMP < a.start < seconds - 0.4]
    assert settled == pytest.approx([0.4] * len(settled))
    assert len(settled) > 3
    assert all(a.start <= a.end <= seconds for a in late)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(late))


def test_words_start_where_they_are_told_to_and_end_before_the_next(real: Vocabulary) -> None:
    one, two, three = (real.encode(text, "en")[0] for text in (" one", " two", " three"))
    canvas = torch.tensor([0, one, 0, 0, two, 0, 0, 0, three, 0])
    told = decoded(canvas, 1.0, starts=(0.05, 0.1, 0.72))
    found = build_words(told, 0.8, real, Calibration(lag=0.3))
    assert [word.start for word in found] == [0.05, 0.1, 0.72]
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(word.start <= word.end <= 0.8 for word in found)


def test_an_uncalibrated_word_is_as_sure_as_its_tokens(vocabulary: Vocabulary) -> None:
    canvas = canvas_of(vocabulary.encode("x", "en"))
    assert words_of(decoded(canvas, 1.0), vocabulary)[0].confidence == pytest.approx(1.0, abs=0.01)


# --- text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "text"), REAL)
def test_words_of_real_sentences_make_their_text(real: Vocabulary, language: str, text: str) -> None:
    joined, heard = rejoined(text, language, real)
    assert joined == heard


LETTERS = {
    "en": "abthe'\"-,.!? 19",
    "de": "abtheäöüß„“–., 19",
    "fr": "abthéèœç«»'’!? ",
    "es": "abthñáéí¿?¡!, ",
}


@pytest.mark.parametrize("language", LETTERS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_words_make_the_text_of_their_tokens(
    vocabulary: Vocabulary, language: str, data: st.DataObject
) -> None:
    """Also with letters that are cut into bytes, as all that are not ASCII are here."""
    text = data.draw(st.text(st.sampled_from(LETTERS[language]), max_size=25))
    joined, heard = rejoined(text, language, vocabulary)
    assert joined == heard == " ".join(text.split())


@settings(max_examples=100, deadline=None)
@given(text=st.lists(st.sampled_from(tiny.HINDI), max_size=25).map("".join))
def test_words_make_hindi_text(vocabulary: Vocabulary, text: str) -> None:
    joined, heard = rejoined(text, "hi", vocabulary)
    assert joined == heard


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from([*HANZI, *"abthe19“”.?《》ü龘"]), max_size=25))
def test_words_make_chinese_text_without_spaces(vocabulary: Vocabulary, text: str) -> None:
    joined, heard = rejoined(text, "zh", vocabulary)
    assert joined == heard == text


@pytest.mark.parametrize(
    ("heard", "joined"), [("我 ab 你", "我ab你"), ("ab 19 好", "ab 19好"), ("好， ab", "好，ab")]
)
def test_spaces_next_to_hanzi_go(vocabulary: Vocabulary, heard: str, joined: str) -> None:
    assert rejoined(heard, "zh", vocabulary) == (joined, heard)
