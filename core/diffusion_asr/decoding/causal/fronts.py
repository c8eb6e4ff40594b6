"""Fronts: stretches of a clip whose tokens are settled side by side, each from its own beginning.

A sequence settled from left to right needs passes in proportion to its length. The draft knows, better than
it knows the words, *when* they begin; so the canvas is cut at pauses between the draft's words, and every
stretch is settled at once, hearing only its own time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_asr.decoding.calibration import heard_at
from diffusion_asr.text.vocabulary import Vocabulary

MARGIN = 6  # encoder frames (120 ms) that a front hears beyond its cuts: a word begins before its slot

Run = tuple[int, int, int]  # token, first slot, last slot


@dataclass(frozen=True, slots=True)
class Front:
    """A stretch of a clip.

    Attributes:
        tokens: What the draft says there.
        slots: First slot, and the first one after it.
        frames: Encoder frames that it hears: the first, and the first one after them.
    """

    tokens: tuple[int, ...]
    slots: tuple[int, int]
    frames: tuple[int, int]


@dataclass(frozen=True, slots=True)
class SlotTimes:
    """Encoder frames in a slot and in a second, and the seconds by which slots run ahead (``heard_at``)."""

    slot_frames: int
    lag: float = 0.0
    frame_rate: float = 50.0

    def frame(self, slot: int) -> int:
        """The encoder frame at which a slot's beginning is heard."""
        return round(heard_at(slot * self.slot_frames / self.frame_rate, self.lag) * self.frame_rate)


def begins_word(vocabulary: Vocabulary, token: int, language: str) -> bool:
    """Whether a canvas may be cut before this token; Mandarin is written without spaces."""
    return language == "zh" or vocabulary.bytes_of(token).startswith(b" ")


def cut(
    runs: Sequence[Run], vocabulary: Vocabulary, language: str, most: int, times: SlotTimes, frames: int
) -> list[Front]:
    """Fronts of about ``most`` tokens at most, cut at the longest pauses near the middle.

    Args:
        runs: The draft, as ``collapse`` gives it.
        vocabulary: Of its tokens.
        language: Its code.
        most: Tokens; a stretch without a word's beginning in its middle half stays longer.
        times: Of the slots.
        frames: Encoder frames of the clip.
    """

    def ranges(first: int, end: int) -> list[tuple[int, int]]:
        quarter = max(1, (end - first) // 4)
        inside = range(first + quarter, end - quarter + 1) if end - first > most else range(0)
        places = [n for n in inside if n < end and begins_word(vocabulary, runs[n][0], language)]
        if not places:
            return [(first, end)]
        middle = (first + end) / 2
        at = max(places, key=lambda n: (runs[n][1] - runs[n - 1][2], -abs(n - middle)))
        return [*ranges(first, at), *ranges(at, end)]

    parts = ranges(0, len(runs))
    starts = [0] + [(runs[first - 1][2] + 1 + runs[first][1] + 1) // 2 for first, _ in parts[1:]]
    ends = [*starts[1:], -(-frames // times.slot_frames)]
    return [
        Front(
            tuple(token for token, _, _ in runs[first:end]),
            (start, stop),
            (
                max(0, min(times.frame(start), frames) - MARGIN) if start else 0,
                min(frames, times.frame(stop) + MARGIN),
            ),
        )
        for (first, end), start, stop in zip(parts, starts, ends, strict=True)
    ]
