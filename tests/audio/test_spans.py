"""From probabilities of speech to spans of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_asr.audio.spans import SpanFinder, VadOptions, find_speech
from diffusion_asr.audio.speech import CHUNK
from tests.support.audio_files import Probabilities, vad_options


def their_spans(probabilities: Probabilities, options: VadOptions) -> list[tuple[int, int]]:
    threads = torch.get_num_threads()
    theirs = pytest.importorskip("silero_vad.utils_vad").get_speech_timestamps_from_probs
    torch.set_num_threads(threads)  # importing the package sets one
    found = theirs(
        probabilities.tolist(),
        threshold=options.threshold,
        neg_threshold=options.low,
        min_speech_duration_ms=options.min_speech * 1000,
        min_silence_duration_ms=options.min_silence * 1000,
        speech_pad_ms=options.padding * 1000,
    )
    return [(span["start"], span["end"]) for span in found]


# Durations whose products with 16 are whole numbers: then both round alike.
probability_lists = st.lists(
    st.tuples(st.integers(1, 20), st.sampled_from([0.0, 0.3, 0.4, 0.6, 1.0])), max_size=60
).map(lambda parts: np.array([p for n, p in parts for _ in range(n)], np.float32))


@settings(max_examples=300, deadline=None)
@given(probability_lists, vad_options)
def test_spans_are_silero_s(probabilities: Probabilities, options: VadOptions) -> None:
    assert find_speech(probabilities, options) == their_spans(probabilities, options)


@settings(max_examples=100, deadline=None)
@given(probability_lists, vad_options, st.integers(1, 50))
def test_spans_do_not_depend_on_blocks(probabilities: Probabilities, options: VadOptions, size: int) -> None:
    finder, found = SpanFinder(options), []
    for first in range(0, len(probabilities), size):
        settled = finder.settled
        new = finder.push(probabilities[first : first + size])
        assert all(start >= settled for start, _ in new)
        found += new
    length = len(probabilities) * CHUNK
    found += finder.finish(length)
    assert [(start, min(end, length)) for start, end in found] == find_speech(probabilities, options)


@pytest.mark.parametrize("bad", [{"threshold": 1.5}, {"exit_threshold": 0.9}, {"padding": -1.0}])
def test_rules_that_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"does not hold|cannot be negative"):
        VadOptions(**bad)
