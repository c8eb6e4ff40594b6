"""The piece table: what it spells, and what it cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_asr.errors import LanguageError, ModelError
from diffusion_asr.languages import LANGUAGES
from diffusion_asr.text.vocabulary import NULL, Vocabulary, map_byte_letters, spell_piece
from tests.support import tiny
from tests.support.tiny import HANZI, HINDI

LATIN = ("en", "de", "fr", "es")
SENTENCES = (
    ("en", "Don't say 'no', it's 3 o'clock."),
    ("de", "Die Straße ist größer, als Übermut tut."),
    ("fr", "L'été, c'est où l'œuvre naît à Noël ?"),
    ("es", "¿Qué tal, niño? ¡Mañana será!"),
    ("hi", "मैं स्कूल में हिन्दी पढ़ता हूँ।"),
    ("zh", "你好，我用Python写代码。"),
)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return tiny.vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="module")
def real() -> Vocabulary:
    return tiny.real_vocabulary()


def test_every_byte_has_one_letter() -> None:
    assert sorted(map_byte_letters().values()) == list(range(256))
    assert spell_piece("ĠÃ¼") == " ü".encode()


def test_null_is_nothing(vocabulary: Vocabulary) -> None:
    assert vocabulary.bytes_of(NULL) == b""
    assert vocabulary.decode([NULL, NULL]) == ""
    assert vocabulary.decode([]) == ""


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20))
def test_bytes_spell_any_text(vocabulary: Vocabulary, text: str) -> None:
    """Every byte is a piece here, so nothing of a Latin text is lost."""
    import unicodedata

    ids = vocabulary.encode(text, "en")
    assert NULL not in ids
    assert vocabulary.decode(ids) == " ".join(unicodedata.normalize("NFC", text).split())


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from([*HANZI, *"abtheé19"]), max_size=20))
def test_each_hanzi_is_one_token(vocabulary: Vocabulary, text: str) -> None:
    ids = vocabulary.encode(text, "zh")
    assert vocabulary.decode(ids) == text
    whole = [vocabulary.bytes_of(i).decode("utf8", errors="ignore") for i in ids]
    assert [c for c in text if c in HANZI] == [c for c in whole if c and c in HANZI]


words_of_hindi = st.text(st.sampled_from([p for p in HINDI if len(p) == 1 and p != " "]), min_size=1)


@settings(max_examples=200, deadline=None)
@given(st.lists(words_of_hindi, min_size=1, max_size=6))
def test_devanagari_comes_back(vocabulary: Vocabulary, words: list[str]) -> None:
    ids = vocabulary.encode(" ".join(words), "hi")
    assert all(i >= vocabulary.hindi_start for i in ids)
    assert vocabulary.decode(ids) == " ".join(words)


def test_merged_pieces_are_used(vocabulary: Vocabulary) -> None:
    assert [vocabulary.pieces[i] for i in vocabulary.encode("the the", "en")] == ["Ġthe", "Ġthe"]
    assert vocabulary.encode("  the \n the ", "en") == vocabulary.encode("the the", "en")


@pytest.mark.parametrize("language", LANGUAGES)
def test_empty_text_has_no_tokens_that_sound(vocabulary: Vocabulary, language: str) -> None:
    assert vocabulary.decode(vocabulary.encode("", language)) == ""
    assert vocabulary.decode(vocabulary.encode(" \n ", language)) == ""


@pytest.mark.parametrize("language", ["en", "hi"])
def test_empty_text_has_no_tokens(vocabulary: Vocabulary, language: str) -> None:
    assert vocabulary.encode("", language) == []


def test_pruned_pieces_are_spelled_by_their_parts(tmp_path: Path) -> None:
    whole = tiny.vocabulary(tmp_path)
    kept = [p for p in whole.pieces[: whole.hindi_start] if p not in ("Ġthe", "Ġth")]
    pruned = Vocabulary([*kept, *HINDI], len(kept), whole.hindi_scores, tmp_path / "bpe.json")
    assert [pruned.pieces[i] for i in pruned.encode("the", "en")] == ["Ġt", "h", "e"]


def test_what_cannot_be_spelled_is_left_out(tmp_path: Path) -> None:
    whole = tiny.vocabulary(tmp_path)
    kept = [p for p in whole.pieces[: whole.hindi_start] if p != "b" and "b" not in p]
    poor = Vocabulary([*kept, *HINDI], len(kept), whole.hindi_scores, tmp_path / "bpe.json")
    assert poor.decode(poor.encode("abcab", "en")) == "aca"


def test_unknown_language_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(LanguageError, match=r"'xx'.*en, de, fr, es, hi, zh"):
        vocabulary.encode("a", "xx")


def test_save_and_load(tmp_path: Path) -> None:
    made = tiny.vocabulary(tmp_path)
    again = Vocabulary.load(tmp_path / "vocabulary.json")
    assert again.pieces == made.pieces
    assert len(again) == len(made)
    assert again.encode("the cab", "fr") == made.encode("the cab", "fr")
    assert again.encode("नमस्ते", "hi") == made.encode("नमस्ते", "hi")


def test_decoding_does_not_need_the_merges(tmp_path: Path) -> None:
    made = tiny.vocabulary(tmp_path)
    ids = made.encode("the cab", "en")
    (tmp_path / "bpe.json").unlink()
    again = Vocabulary.load(tmp_path / "vocabulary.json")
    assert again.decode(ids) == "the cab"
    with pytest.raises(ModelError, match=r"bpe\.json"):
        again.encode("the cab", "en")


def test_merges_that_were_read_outlive_their_file(tmp_path: Path) -> None:
    tiny.vocabulary(tmp_path)
    loaded, late = (
        Vocabulary.load(tmp_path / "vocabulary.json"),
        Vocabulary.load(tmp_path / "vocabulary.json"),
    )
    loaded.read_merges()
    (tmp_path / "bpe.json").unlink()
    assert loaded.decode(loaded.encode("a text", "en")) == "a text"
    with pytest.raises(ModelError, match=r"bpe\.json"):
        late.read_merges()


@pytest.mark.parametrize("content", ["", "{", "{}", '{"pieces": []}', "\x00", '{"hindi_start": 1}'])
def test_a_broken_vocabulary_names_its_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"vocabulary\.json"):
        Vocabulary.load(path)
    with pytest.raises(ModelError, match=r"absent\.json"):
        Vocabulary.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"pieces": 3, "hindi_start": 1, "hindi_scores": []},
        {"pieces": ["", "你"], "hindi_start": 2, "hindi_scores": []},
        {"pieces": [], "hindi_start": 0, "hindi_scores": []},
    ],
)
def test_a_nonsensical_vocabulary_names_its_file(tmp_path: Path, data: object) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ModelError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


# --- the embedded model's table ----------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "text"), SENTENCES)
def test_real_sentences_come_back(real: Vocabulary, language: str, text: str) -> None:
    assert real.decode(real.encode(text, language)) == text


def test_real_pieces_are_distinct(real: Vocabulary) -> None:
    for part in (real.pieces[1 : real.hindi_start], real.pieces[real.hindi_start :]):
        assert len(set(part)) == len(part)


def test_no_real_piece_but_null_is_empty(real: Vocabulary) -> None:
    assert [i for i in range(len(real)) if not real.bytes_of(i)] == [NULL]


@pytest.mark.parametrize("language", LATIN)
@settings(max_examples=50, deadline=None)
@given(text=st.text(st.sampled_from("abcdeüñçßéèœ¿¡'’\"„“«»–,.?! 0123"), max_size=30))
def test_real_pieces_spell_any_latin_text(real: Vocabulary, language: str, text: str) -> None:
    assert real.decode(real.encode(text, language)) == " ".join(text.split())


def test_real_hindi_leaves_out_what_it_has_no_piece_for(real: Vocabulary) -> None:
    """There are no Arabic digits among the Hindi pieces; the words around them stay."""
    assert real.decode(real.encode("शाम 12 बजे।", "hi")).split() == ["शाम", "बजे।"]


def test_the_shipped_model_holds_whisper_s_words_whole(real: Vocabulary) -> None:
    """Versions 1 and 2 spelt every word with a small t as " " and the rest."""
    for text, lang in (("the two things", "en"), ("también todo", "es"), ("tout le temps", "fr")):
        tokens = real.encode(text, lang)
        assert [real.bytes_of(t).decode() for t in tokens] == [" " + word for word in text.split()]


def test_sorted_ids_are_saved_as_stretches(vocabulary: Vocabulary, tmp_path: Path) -> None:
    pieces = {"en": [0, 1, 2, 7, 9, 10], "hi": [0, 5]}
    made = Vocabulary(vocabulary.pieces, vocabulary.hindi_start, vocabulary.hindi_scores, None, pieces)
    made.save(tmp_path / "vocabulary.json")
    stored = json.loads((tmp_path / "vocabulary.json").read_text(encoding="utf8"))
    assert stored["language_pieces"]["en"] == [[0, 3], [7, 8], [9, 11]]
    assert Vocabulary.load(tmp_path / "vocabulary.json").language_pieces == pieces


def test_some_pieces_alone_spell_as_before(real: Vocabulary) -> None:
    kept = [i for i in range(len(real)) if i % 7 or i < 300]  # every byte is among the first
    fewer = real.only(kept)
    for language, text in SENTENCES:
        tokens = fewer.encode(text, language)
        assert fewer.decode(tokens) == real.decode(kept[t] for t in tokens)
        assert {kept[i] for i in fewer.pieces_for(language)} == set(real.pieces_for(language)) & set(kept)
    assert fewer.decode(fewer.encode(SENTENCES[0][1], "en")) == SENTENCES[0][1]
