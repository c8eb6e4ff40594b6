"""By which names people ask for a language."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_asr.errors import LanguageError
from diffusion_asr.languages import LANGUAGES, find_language, is_spaced, is_syllabic


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("en", "en EN English english eng en-US en_US en_US.UTF-8 en-GB-oed <|en|> <|EN|> en-Latn-US"),
        ("de", "de German Deutsch deu ger de-DE de_DE@euro de-CH-1996 DE-de <|German|>"),
        ("fr", "French français FRANÇAIS francais fra fre fr-CA fr-x-private"),
        ("es", "Spanish español castilian Castellano spa es-419 es-MX"),
        ("hi", "Hindi HINDI hin हिन्दी hi-IN hi-Deva-IN"),
        ("zh", "zh-CN zh_CN zh-Hans zh-Hant-TW cmn cmn-Hans-CN zho chi zh-cmn-Hans-CN Mandarin 中文 普通话"),
    ],
)
def test_codes_names_and_tags_mean_the_language(code: str, names: str) -> None:
    for name in names.split():
        assert find_language(name) == code, name
        assert find_language(f" {name} ") == code, name


def test_names_of_several_words() -> None:
    assert find_language("Mandarin Chinese") == find_language("Chinese, Mandarin") == "zh"


@pytest.mark.parametrize("name", [None, "auto", "AUTO", " Auto "])
def test_nobody_tells(name: str | None) -> None:
    assert find_language(name) is None


@pytest.mark.parametrize(
    "name", ["", " ", "xx", "Klingon", "de DE", "de-", "de--DE", "zh-yue", "yue", "germ", "<|de", "it-IT"]
)
def test_what_names_none_is_an_error(name: str) -> None:
    with pytest.raises(LanguageError, match=r"unknown language '.*'; this model knows en, de, fr"):
        find_language(name)


@pytest.mark.parametrize("name", [5, ["de"], b"de", float("nan")])
def test_other_types_are_the_same_error(name: Any) -> None:
    with pytest.raises(LanguageError):
        find_language(name)


def test_a_model_of_ones_own_has_its_own_languages() -> None:
    assert find_language("it-IT", ("en", "it")) == "it"
    assert find_language("German", ("de",)) == "de"
    assert find_language("zh-TW", ("zh", "zh-TW")) == "zh-TW"
    with pytest.raises(LanguageError, match="this model knows it"):
        find_language("de", ("it",))


def test_how_a_language_is_written_does_not_depend_on_its_name() -> None:
    assert not is_spaced("zh")
    assert not is_spaced("cmn-Hans-CN")
    assert is_spaced("de-DE")
    assert is_spaced(None)
    assert is_spaced("nonsense!")
    assert is_syllabic("hi-IN")
    assert not is_syllabic(None)
    assert [code for code in LANGUAGES if not is_spaced(code)] == ["zh"]
