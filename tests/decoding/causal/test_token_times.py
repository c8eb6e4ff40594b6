"""When tokens are said, from the refiner's cross-attention."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from diffusion_asr import Recognizer
from diffusion_asr.audio import files as audio
from diffusion_asr.decoding.causal.token_times import find_onset, segment_frames, smooth_gains
from tests.support.tiny import DATA

CLIP = DATA / "en-arctic_a0239_1592711579.flac"


@pytest.mark.parametrize("seed", range(8))
def test_the_cut_gains_most_of_all(seed: int) -> None:
    gains = torch.randn(4, 9, generator=torch.Generator().manual_seed(seed))

    def gain(starts: tuple[int, ...]) -> float:
        ends = [*starts[1:], 9]
        return sum(float(gains[n, a:b].sum()) for n, (a, b) in enumerate(zip(starts, ends, strict=True)))

    best = max(((0, *rest) for rest in combinations(range(1, 9), 3)), key=gain)
    assert segment_frames(gains) == list(best)


def test_each_row_gets_the_frames_that_it_stands_out_in() -> None:
    gains = torch.zeros(3, 30)
    gains[0, :10], gains[1, 10:17], gains[2, 17:] = 1.0, 1.0, 1.0
    assert segment_frames(gains) == [0, 10, 17]


def test_a_long_stretch_begins_where_its_weights_rise() -> None:
    weights = torch.full((100,), 0.01)
    weights[60:70] = torch.tensor([0.02, 0.02, 0.3, 0.4, 0.5, 0.4, 0.3, 0.1, 0.1, 0.1])
    assert find_onset(weights) == 62
    assert find_onset(weights[50:75]) == 0  # a word, from its beginning on


def test_smoothing_drops_a_single_frame() -> None:
    gains = torch.zeros(2, 40)
    gains[0, 20] = 1.0
    assert smooth_gains(gains).abs().max() == 0


def test_words_are_found_where_they_are_said() -> None:
    """Two seconds of silence before a clip move all its words by as much, the first one too."""
    asr, samples = Recognizer.from_pretrained(), audio.read_audio(CLIP)
    later = np.concatenate([np.zeros(2 * audio.SAMPLE_RATE, np.float32), samples])
    clips = (torch.from_numpy(clip)[None] for clip in (samples, later))
    plain, moved = (asr.decode(asr.encode(clip), "en")[0].words for clip in clips)
    assert [word.text for word in plain] == [word.text for word in moved]
    assert len(plain) > 5
    for before, after in zip(plain, moved, strict=True):
        assert after.start - before.start == pytest.approx(2.0, abs=0.3)
    for one, other in pairwise(moved):
        assert one.start < one.end <= other.start
