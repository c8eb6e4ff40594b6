"""Words of a window to segments of a recording."""

from __future__ import annotations

import numpy as np
import torch

from diffusion_asr.audio.windows import Window
from diffusion_asr.decoding.decoder import Hypothesis
from diffusion_asr.segments import cut_segments
from diffusion_asr.transcript import Word
from tests.support.tiny import decoded

WINDOW = Window(10.0, np.zeros(5 * 16_000, np.float32))


def hypothesis(*words: tuple[str, float, float]) -> Hypothesis:
    told = tuple(Word(text, start, end, 0.5) for text, start, end in words)
    return Hypothesis("", told, "de", 0.5, decoded(torch.zeros(3, dtype=torch.long)))


def texts(*words: tuple[str, float, float]) -> list[str]:
    return [segment.text for segment in cut_segments(WINDOW, hypothesis(*words))]


def test_a_long_pause_parts_and_a_sentence_needs_none() -> None:
    assert texts(("a", 0.0, 1.0), ("b", 1.9, 2.0)) == ["a b"]
    assert texts(("a", 0.0, 1.0), ("b", 2.1, 2.3)) == ["a", "b"]
    for end in (".", "?", "!", "。", "？", "！", "।", "…"):
        assert texts((f"so{end}", 0.0, 1.0), ("B", 1.0, 2.0)) == [f"so{end}", "B"]
        assert texts((f"a{end}", 0.0, 1.0), ("b", 1.3, 2.0)) == [f"a{end}", "b"]
    assert texts(("z.B.", 0.0, 1.0), ("b", 1.0, 2.0)) == ["z.B. b"]
    assert texts() == []


def test_a_sentence_that_goes_on_and_on_is_cut_at_its_pauses() -> None:
    steady = [(f"w{n}", float(n), n + 0.9) for n in range(14)]
    assert len(texts(*steady)) == 1  # nobody draws breath
    late = [0.3 * (n >= 4) + 0.5 * (n >= 9) for n in range(14)]
    paused = [(text, a + more, b + more) for (text, a, b), more in zip(steady, late, strict=True)]
    assert texts(*paused) == ["w0 w1 w2 w3 w4 w5 w6 w7 w8", "w9 w10 w11 w12 w13"]
    short = [(f"w{n}", 0.8 * n, 0.8 * n + 0.5) for n in range(10)]
    assert len(texts(*short)) == 1


def test_times_are_the_recording_s_and_none_ends_after_the_window() -> None:
    (first, second) = cut_segments(WINDOW, hypothesis(("a.", 0.0004, 1.0), ("b", 3.0, 7.0)))
    assert (first.start, first.end) == (10.0, 11.0)
    assert (second.start, second.end) == (13.0, 15.0)
    assert [(w.text, w.start, w.end, w.confidence) for w in second.words] == [("b", 13.0, 15.0, 0.5)]
    assert {first.language, second.language} == {"de"}
