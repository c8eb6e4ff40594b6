"""The decoder of letters: its text is the search's, its words have times; what a folder may say of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_asr import Recognizer
from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.decoding.letters.decoder import LetterDecoder, Placed, place_pieces
from diffusion_asr.decoding.letters.search import search_text
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import ModelError
from diffusion_asr.loading import load_parts
from diffusion_asr.models.folder import sign_config
from tests.support import tiny


@pytest.fixture(scope="module")
def asr(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    return tiny.eager(tiny.parts(tmp_path_factory.mktemp("letters"), lettered=True))


def letters_of(asr: Recognizer) -> LetterDecoder:
    decoder = asr.parts.decoder
    assert isinstance(decoder, CanvasDecoder)
    assert decoder.letters is not None
    return decoder.letters


def test_the_text_is_what_the_search_found(asr: Recognizer) -> None:
    decoder = letters_of(asr)
    memory = asr.encode(torch.from_numpy(tiny.noise(2.0, 3))[None])
    assert memory.lower is not None
    with torch.inference_mode():
        rows = decoder.canvas(memory.lower, decoder.canvas.rows_of(["hi"]))[0].numpy()
    numbers = search_text(rows, decoder.model.chances, decoder.space, decoder.rule)
    expected = " ".join("".join(decoder.alphabet[n] for n in numbers).split())
    (found,) = asr.decode(memory, "hi")
    assert found.text == expected
    assert len(found.text) > 3
    assert found.decoded.passes == found.decoded.parallel_passes == 1
    assert found.decoded.slot_seconds == pytest.approx(0.04)


def test_words_follow_each_other_inside_the_clip(asr: Recognizer) -> None:
    memory = asr.encode(torch.from_numpy(tiny.noise(2.0, 3))[None])
    (found,) = asr.decode(memory, "hi")
    assert " ".join(word.text for word in found.words) == found.text
    assert all(a.start <= a.end <= b.start for a, b in pairwise(found.words))
    assert 0 <= found.words[0].start <= found.words[-1].end <= 2.0


@pytest.mark.parametrize(
    "options", [{"steps": 4}, {"start": "noise", "seed": 5}, {"verify": False}, {"trace": True}]
)
def test_options_change_nothing(asr: Recognizer, options: dict[str, Any]) -> None:
    memory = asr.encode(torch.from_numpy(tiny.noise(1.5, 2))[None])
    (plain,), (other,) = asr.decode(memory, "hi"), asr.decode(memory, "hi", **options)
    assert torch.equal(plain.decoded.canvas, other.decoded.canvas)
    assert len(other.decoded.trace) == int("trace" in options)


def test_a_clip_does_not_depend_on_its_neighbours(asr: Recognizer) -> None:
    clips = [torch.from_numpy(tiny.noise(seconds, 3)) for seconds in (1.3, 2.1)]
    both = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    memory = asr.encode(both, torch.tensor([len(clip) for clip in clips]))
    together = asr.decode(memory, ["hi", "hi"])
    for n, clip in enumerate(clips):
        (alone,) = asr.decode(asr.encode(clip[None]), "hi")
        assert alone.text == together[n].text
        assert torch.equal(alone.decoded.canvas, together[n].decoded.canvas)


def test_bare_states_are_decoded_the_other_way(asr: Recognizer) -> None:
    """A toolkit that keeps the states alone gets a text all the same."""
    memory = asr.encode(torch.from_numpy(tiny.noise(2.0, 3))[None])
    bare = replace(memory, lower=None)
    (found,) = asr.decode(bare, "hi")
    assert found.decoded.slot_seconds == pytest.approx(tiny.SLOT)
    with pytest.raises(ValueError, match=r"EncoderConfig\.tap"):
        letters_of(asr).decode(bare, ["hi"], DecodingOptions())


# --- pieces from letters -----------------------------------------------------------------------------------


def placed(text: str, pairs: list[tuple[int, int]]) -> list[Placed]:
    return [Placed(letter, a, b, 0.5) for letter, (a, b) in zip(text, pairs, strict=True)]


def test_pieces_stand_where_their_letters_do(tmp_path: Path) -> None:
    words = tiny.vocabulary(tmp_path)
    text = "नम के"
    letters = placed(text, [(2, 2), (4, 5), (6, 6), (8, 8), (10, 11)])
    pieces = words.encode(text, "hi")
    canvas, confidence = place_pieces(words, pieces, letters, 14)
    assert words.decode(read_tokens(canvas)) == text
    assert canvas.nonzero().flatten().tolist() == [2, 3, 4, 5, 8, 9, 10, 11]
    assert confidence[canvas != 0].tolist() == pytest.approx([0.5] * 8)


def test_a_lone_space_and_equal_neighbours_are_kept(tmp_path: Path) -> None:
    words = tiny.vocabulary(tmp_path)
    text = "क नमनम"  # "नम" twice without a null between, and a space that is a piece of its own
    letters = placed(text, [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)])
    canvas, _ = place_pieces(words, words.encode(text, "hi"), letters, 6)
    assert words.decode(read_tokens(canvas)) == text


# --- in a folder -------------------------------------------------------------------------------------------


def test_a_folder_holds_the_letters(asr: Recognizer, tmp_path: Path) -> None:
    again = Recognizer(load_parts(tiny.model(tmp_path, lettered=True)), asr.detector)
    wave = torch.from_numpy(tiny.noise(2.0, 3))[None]
    (first,), (second,) = asr.decode(asr.encode(wave), "hi"), again.decode(again.encode(wave), "hi")
    assert len(second.text) > 3
    assert first.decoded.canvas.shape == second.decoded.canvas.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d_model": 32}, "32 wide"),
        ({"languages": ["xx"]}, "none of the denoiser's languages"),
        ({"alphabet": ["a", "a", " "]}, "a letter twice"),
        ({"alphabet": ["a", "b"]}, "holds no space"),
        ({"alphabet": ["a", " "]}, "letters"),  # fewer than its files hold
        ({"weight": -1}, "weight"),
        ({"heads": True}, "heads"),
    ],
)
def test_letters_that_do_not_fit_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = tiny.model(tmp_path, lettered=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config["letters"] |= change
    (folder / "config.json").write_text(json.dumps(sign_config(config)), encoding="utf8")
    with pytest.raises(ModelError, match=message):
        load_parts(folder)


def test_letters_need_an_encoder_that_keeps_lower_states(tmp_path: Path) -> None:
    folder = tiny.model(tmp_path, lettered=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    config["encoder"]["tap"] = 2
    (folder / "config.json").write_text(json.dumps(sign_config(config)), encoding="utf8")
    with pytest.raises(ModelError, match=r"encoder\.tap below its last layer"):
        load_parts(folder)
