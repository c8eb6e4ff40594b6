"""Words of a window to segments of a recording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, zip_longest

from diffusion_asr.audio.windows import Window
from diffusion_asr.decoding.decoder import Hypothesis
from diffusion_asr.text.sentences import ends_sentence
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Segment, Word

_PAUSE = 1.0  # seconds that part what no mark parts
_LONG = 12.0  # seconds of a sentence that is worth dividing
_BREATH = 0.2  # seconds that tell the end of a sentence from a mark inside


def cut_segments(window: Window, hypothesis: Hypothesis) -> list[Segment]:
    """A window's words as sentences: cut at their marks (see ``text.sentences``) and at pauses."""
    out: list[Segment] = []
    words: list[Word] = []
    for word, following in zip_longest(hypothesis.words, hypothesis.words[1:]):
        words.append(word)
        text = None if following is None else following.text
        pause = math.inf if following is None else following.start - word.end
        tail = join_words(tuple(words[-2:]))
        if pause > _PAUSE or ends_sentence(tail, text, hypothesis.language, paused=pause > _BREATH):
            for part in _divide_long(words):
                whole = Segment(part[0].start, part[-1].end, join_words(part), part, hypothesis.language)
                out.append(_placed(whole, window))
            words = []
    return out


def _divide_long(words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """A sentence without marks that goes on and on, in parts: cut at its longest pauses."""
    pauses = [after.start - before.end for before, after in pairwise(words)]
    widest = max(pauses, default=0.0)
    if words[-1].end - words[0].start <= _LONG or widest <= _BREATH:
        return [tuple(words)]
    cut = pauses.index(widest) + 1
    return _divide_long(words[:cut]) + _divide_long(words[cut:])


def _placed(segment: Segment, window: Window) -> Segment:
    """A segment at its place in the recording, in milliseconds; none ends after its window."""

    def at(seconds: float) -> float:
        return round(min(window.start + seconds, window.end), 3)

    words = tuple(replace(w, start=at(w.start), end=at(w.end)) for w in segment.words)
    return replace(segment, start=at(segment.start), end=at(segment.end), words=words)
