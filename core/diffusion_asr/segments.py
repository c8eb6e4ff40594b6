"""Words of a window to segments of a recording."""

from __future__ import annotations

import math
from dataclasses import replace

from diffusion_asr.audio.windows import Window
from diffusion_asr.decoding.decoder import Hypothesis
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Segment, Word

_SENTENCE_END = (".", "?", "!", "。", "？", "！", "।", "…")


def cut_segments(window: Window, hypothesis: Hypothesis) -> list[Segment]:
    """A window's words as segments: cut after a sentence, or at a pause of more than a second."""
    out: list[Segment] = []
    words: list[Word] = []
    for n, word in enumerate(hypothesis.words):
        words.append(word)
        following = hypothesis.words[n + 1] if n + 1 < len(hypothesis.words) else None
        pause = math.inf if following is None else following.start - word.end
        if pause > 1.0 or (pause > 0.2 and word.text.endswith(_SENTENCE_END)):
            text = join_words(tuple(words))
            whole = Segment(words[0].start, words[-1].end, text, tuple(words), hypothesis.language)
            out.append(_placed(whole, window))
            words = []
    return out


def _placed(segment: Segment, window: Window) -> Segment:
    """A segment at its place in the recording, in milliseconds; none ends after its window."""

    def at(seconds: float) -> float:
        return round(min(window.start + seconds, window.end), 3)

    words = tuple(replace(w, start=at(w.start), end=at(w.end)) for w in segment.words)
    return replace(segment, start=at(segment.start), end=at(segment.end), words=words)
