"""Letters and fewer pieces into a model folder."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from diffusion_asr import Recognizer
from diffusion_asr.decoding.canvas_decoder import CanvasDecoder
from diffusion_asr.loading import load_parts
from diffusion_asr.models.packing import pack_tensors, unpack_file
from diffusion_asr.text.vocabulary import Vocabulary
from recipes.embedded.shrink import DICTIONARIES, choose_pieces, cut_rows, shrink
from recipes.letters.alphabet import Alphabet
from recipes.letters.ship import ship
from recipes.letters.train import WEIGHTS
from tests.support import tiny

SENTENCES = ["नमस्ते के बाद में", "के बाद नमन", "में नमन के बाद"] * 3


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Sentences and an empty manifest."""
    folder = tmp_path / "shared"
    (folder / "data/text").mkdir(parents=True)
    (folder / "data/speech").mkdir()
    (folder / "data/speech/manifest.jsonl").write_text("")
    texts = {"hi": SENTENCES, "en": ["the the ab"] * 3}
    for language in ("en", "de", "fr", "es", "hi", "zh"):
        with gzip.open(folder / f"data/text/{language}.txt.gz", "wt", encoding="utf8") as out:
            out.write("\n".join(texts.get(language, ["the"])) + "\n")
    return folder


def kept_run(folder: Path) -> Path:
    """An exported run of all languages with random weights as wide as the tiny model."""
    folder.mkdir()
    alphabet = Alphabet(("", " ", *"aनमसतकबदे्ां", "<zh>"), ("", "好"))
    alphabet.save(folder / "alphabet.json")
    from safetensors.torch import save_file

    from diffusion_asr.decoding.letters.model import LetterCanvas, LetterConfig

    config = LetterConfig(len(alphabet.letters), ("en", "de", "fr", "es", "hi", "zh"), tiny.WIDTH, 1, 2)
    save_file(pack_tensors(tiny.randomised(LetterCanvas(config), 5).state_dict()), folder / WEIGHTS)
    return folder


def test_a_run_is_put_into_a_folder_for_hindi_alone(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.letters.ship.LOWER", 1)
    model = tiny.model(tmp_path / "model", refined=True)
    ship(kept_run(tmp_path / "run"), model, tmp_path / "out", shared)
    parts = load_parts(tmp_path / "out")
    assert isinstance(parts.decoder, CanvasDecoder)
    letters = parts.decoder.letters
    assert letters is not None
    assert letters.languages == ("hi",)
    assert sorted(letters.alphabet) == sorted(("", " ", *"नमसतकबदे्ां"))  # what the sentences need, no more
    asr = Recognizer(parts, tiny.AlwaysSpeech())
    memory = asr.encode(torch.from_numpy(tiny.noise(1.0))[None])
    (found,) = asr.decode(memory, "hi")
    assert set(found.text) <= set(letters.alphabet)
    # The outputs that stay are the run's own.
    whole = unpack_file(tmp_path / "run" / WEIGHTS, torch.float32)["letters.weight"]
    known = Alphabet.load(tmp_path / "run/alphabet.json").letters
    own = letters.canvas.letters.weight.float()
    place = letters.alphabet.index("न")
    assert torch.allclose(own[place], whole[known.index("न")], atol=0.05)


def test_pieces_that_texts_never_use_go(shared: Path, tmp_path: Path) -> None:
    words = tmp_path / "dict"
    words.mkdir()
    for name in DICTIONARIES:
        (words / name).write_text("the\n", encoding="utf8")
    model = tiny.model(tmp_path / "model", refined=True)
    before = Vocabulary.load(model / "vocabulary.json")
    shrink(shared, str(model), tmp_path / "out", "1", words)
    parts = load_parts(tmp_path / "out")
    after = parts.vocabulary
    assert len(after) < len(before)
    assert parts.version == "1"
    for text, language in ((SENTENCES[0], "hi"), ("the ab", "en"), ("你好", "zh")):
        assert after.decode(after.encode(text, language)) == text
    assert json.loads((tmp_path / "out/config.json").read_text())["refiner"]["vocabulary"] == len(after)
    decoder = parts.decoder
    assert isinstance(decoder, CanvasDecoder)
    old = load_parts(model).decoder
    assert isinstance(old, CanvasDecoder)
    piece = before.encode("the", "en")[0]
    again = after.encode("the", "en")[0]
    for name in ("denoiser", "refiner"):
        table, whole = (getattr(d, name).embed_tokens.weight for d in (decoder, old))
        assert torch.equal(table[again], whole[piece])


def test_what_stays(tmp_path: Path) -> None:
    vocabulary = tiny.vocabulary(tmp_path)
    piece = vocabulary.encode("ab", "en")[0]  # " ab"
    assert piece not in choose_pieces(vocabulary, Counter(), set())
    assert piece in choose_pieces(vocabulary, Counter(), {"ab"})
    assert piece not in choose_pieces(vocabulary, Counter({piece: 1}), set())
    assert piece in choose_pieces(vocabulary, Counter({piece: 2}), set())
    kept = choose_pieces(vocabulary, Counter(), set())
    assert kept[0] == 0
    assert set(range(vocabulary.hindi_start, len(vocabulary))) <= set(kept)
    comma = vocabulary.encode("a,", "en")[-1]
    assert comma in kept


def test_exact_rows_follow_their_pieces() -> None:
    name = "embed_tokens.weight"
    stored = {
        f"{name}::nibbles": torch.arange(6, dtype=torch.uint8)[:, None],
        f"{name}::scale": torch.arange(6.0)[:, None],
        f"{name}::rows": torch.tensor([1, 2, 5], dtype=torch.int32),
        f"{name}::exact": torch.tensor([[1.0], [2.0], [5.0]]),
        "null_bias": torch.ones(1),
    }
    found = cut_rows(stored, torch.tensor([0, 2, 4, 5]))
    assert found[f"{name}::nibbles"].flatten().tolist() == [0, 2, 4, 5]
    assert found[f"{name}::rows"].tolist() == [1, 3]
    assert found[f"{name}::exact"].flatten().tolist() == [2.0, 5.0]
    assert torch.equal(found["null_bias"], torch.ones(1))
