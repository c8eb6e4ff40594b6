"""The draft: one parallel pass, and what its slots say of any other text."""

from __future__ import annotations

import itertools

import pytest
import torch

from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.decoding.drafting import Draft, write_draft
from diffusion_asr.decoding.options import DecodingOptions
from tests.support import tiny
from tests.support.tiny import denoiser, memory

PIECES = torch.tensor([0, 3, 5, 17])
SLOTS = 5


def draft(**options: int) -> Draft:
    return write_draft(denoiser(), memory([4 * SLOTS]), "de", PIECES, DecodingOptions(**options))  # type: ignore[arg-type]


@torch.inference_mode()
def log_probs(made: Draft) -> torch.Tensor:
    return made.denoiser.logits(made.hidden, PIECES)[0].float().log_softmax(-1)


def test_it_is_the_first_of_the_parallel_decoder_s_steps(tmp_path_factory: pytest.TempPathFactory) -> None:
    parts = tiny.parts(tmp_path_factory.mktemp("tiny"))
    decoder, heard = parts.decoder, memory([60])
    assert isinstance(decoder, DiffusionDecoder)
    for options in (DecodingOptions(steps=1), DecodingOptions(steps=1, start="noise", seed=4)):
        (theirs,) = decoder.decode(heard, ["fr"], options)
        ours = write_draft(tiny.canvas_denoiser(parts), heard, "fr", decoder.pieces["fr"], options).decoded
        assert torch.equal(ours.canvas, theirs.canvas)
        torch.testing.assert_close(ours.confidence, theirs.confidence)
        assert torch.equal(ours.slot_times, theirs.slot_times)
        assert (ours.parallel_passes, ours.causal_passes) == (1, 0)


def test_slots_tell_the_chance_of_any_piece() -> None:
    made = draft()
    used, chances = made.slot_chances({17, 3})
    assert used.tolist() == [0, 3, 17]
    expected = log_probs(made)[:, [0, 1, 3]].clamp(min=-15.0)
    torch.testing.assert_close(chances[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("text", [[], [3], [5, 5], [17, 3, 5]])
def test_a_text_s_chance_is_that_of_all_its_canvases(text: list[int]) -> None:
    made = draft()
    rows = log_probs(made).clamp(min=-15.0).exp()
    total = sum(
        float(torch.stack([rows[slot, place] for slot, place in enumerate(canvas)]).prod())
        for canvas in itertools.product(range(len(PIECES)), repeat=SLOTS)
        if read_tokens(PIECES[list(canvas)]) == text
    )
    (found,) = made.text_chances([text])
    assert found == pytest.approx(torch.tensor(total).log().item(), abs=1e-3)


def test_texts_side_by_side_have_the_chances_that_they_have_alone() -> None:
    made, texts = draft(), [[3], [17, 3, 5], [5, 5]]
    alone = [made.text_chances([text])[0] for text in texts]
    assert made.text_chances(texts) == pytest.approx(alone, abs=1e-4)


def test_a_text_without_room_is_all_but_impossible() -> None:
    assert draft().text_chances([[3] * (SLOTS + 1)]) == [-1e4]
