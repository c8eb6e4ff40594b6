"""Making a vocabulary: from Whisper's tokenizer, and a larger one from a smaller."""

from __future__ import annotations

import pytest
import torch

from diffusion_asr.text.vocabulary import Vocabulary, map_byte_letters
from recipes.embedded.build_vocabulary import pruned, repaired, spoken
from recipes.embedded.grow import carried, larger
from tests.support import tiny


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    return tiny.vocabulary(tmp_path_factory.mktemp("vocabulary"))


def test_whisper_s_first_merge_is_put_back() -> None:
    assert repaired(["Ġ a", "Ġt h"]) == ["Ġ t", "Ġ a", "Ġt h"]
    assert repaired([["Ġ", "a"]]) == [["Ġ", "t"], ["Ġ", "a"]]
    assert repaired(["Ġ t", "Ġ a"]) == ["Ġ t", "Ġ a"]


def test_a_pruned_tokenizer_keeps_what_its_pieces_are_merged_from() -> None:
    merges = ["Å ĵ", "Ġ c", "Ġc Åĵ", "Ð ¿", "Ð¿ Ð¿"]
    whole = [*map_byte_letters(), *(m.replace(" ", "") for m in merges)]
    bpe = {"model": {"merges": merges, "vocab": {p: n for n, p in enumerate(whole)}}}
    found = pruned(bpe, ["ĠcÅĵ", "Ð"])["model"]
    assert found["merges"] == merges[:3]
    assert set(found["vocab"]) == set(whole) - {"Ð¿", "Ð¿Ð¿"}
    assert pruned(bpe, ["Ð¿Ð¿"])["model"]["merges"] == merges[3:]


def test_a_larger_vocabulary_keeps_every_piece(vocabulary: Vocabulary) -> None:
    pieces, places = larger(vocabulary, ["Ġthe", "Ġ25"])
    assert [pieces[i] for i in places] == vocabulary.pieces
    assert set(pieces) - set(vocabulary.pieces) == {"Ġ25"}
    assert pieces.index("Ġ25") == vocabulary.hindi_start  # below Hindi, which is not spelt in bytes
    known = torch.arange(len(vocabulary)).float()[:, None].expand(-1, 2)
    table = carried(known, places, torch.full((len(pieces), 2), -1.0))
    assert table[places].equal(known)
    assert (table[vocabulary.hindi_start] == -1).all()


@pytest.mark.parametrize(
    ("text", "may"),
    [(" word", True), (" US", True), ("ización", True), (" 25", True), (" LAURA", False), ("я", False)],
)
def test_latin_pieces_are_what_is_said(text: str, may: bool) -> None:
    assert spoken(text) is may
