"""Words of a window to segments of a recording."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import zip_longest

from diffusion_asr.audio.windows import Window
from diffusion_asr.decoding.decoder import Hypothesis
from diffusion_asr.text.sentences import ends_sentence
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Segment, Word

_PAUSE = 1.0  # seconds that part what no mark parts
_BREATH = 0.2  # seconds that tell the end of a sentence from a mark inside


def cut_segments(window: Window, hypothesis: Hypothesis) -> list[Segment]:
    """A window's words as sentences: cut at their marks (see ``text.sentences``) and at long pauses."""
    out: list[Segment] = []
    words: list[Word] = []
    for word, following in zip_longest(hypothesis.words, hypothesis.words[1:]):
        words.append(word)
        text = None if following is None else following.text
        pause = math.inf if following is None else following.start - word.end
        tail = join_words(tuple(words[-2:]))
        if pause > _PAUSE or ends_sentence(tail, text, hypothesis.language, paused=pause > _BREATH):
            joined = join_words(tuple(words))
            whole = Segment(words[0].start, words[-1].end, joined, tuple(words), hypothesis.language)
            out.append(_placed(whole, window))
            words = []
    return out


def _placed(segment: Segment, window: Window) -> Segment:
    """A segment at its place in the recording, in milliseconds; none ends after its window."""

    def at(seconds: float) -> float:
        return round(min(window.start + seconds, window.end), 3)

    words = tuple(replace(w, start=at(w.start), end=at(w.end)) for w in segment.words)
    return replace(segment, start=at(segment.start), end=at(segment.end), words=words)
