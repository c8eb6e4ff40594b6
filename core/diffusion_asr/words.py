"""From a settled canvas to words with times and confidence.

A token starts where the refiner's attention says so (see ``timing``). Without that its slots tell, as they
know when they are: it starts where its run of slots starts, a measured lag later (see ``heard_at``). A word
ends where its last token's run ends, stretched towards the next word by at most ``TAIL`` because the canvas
marks where a token is recognised, not how long it rings.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from torch import Tensor

from diffusion_asr.sampler import Denoised, collapse
from diffusion_asr.transcript import Word
from diffusion_asr.vocabulary import Vocabulary

TAIL = 0.32  # seconds
RAMP = 1.2  # seconds from a clip's start in which its canvas comes to run ahead


@dataclass(frozen=True, slots=True)
class Token:
    """One recognised piece: its UTF-8 bytes, first and last slot, probability, start in seconds if told."""

    data: bytes
    first: int
    last: int
    probability: float
    start: float | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was fitted after training; the default changes nothing.

    Attributes:
        a: Platt scaling of a word's probability, p' = sigmoid(a * logit(p) + b).
        b: See ``a``.
        lag: Seconds by which a slot's words are heard after the slot's own time.
    """

    a: float = 1.0
    b: float = 0.0
    lag: float = 0.0

    def __call__(self, log_probability: float) -> float:
        """Confidence in [0, 1] of a word whose tokens have this mean log-probability."""
        p = min(max(math.exp(min(log_probability, 0.0)), 1e-6), 1 - 1e-6)
        x = self.a * math.log(p / (1 - p)) + self.b
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, x))))


def heard_at(seconds: float, lag: float) -> float:
    """When the words of a slot are heard, both in seconds from the clip's start.

    A denoiser that attends both ways and is trained with CTC is free to write a word down before it is said
    (CTC's alignments drift: Sak et al. 2015); canvas-base does, by a constant lag after the first words.
    """
    return seconds + lag * min(1.0, max(0.0, seconds) / RAMP)


def tokens(clip: Denoised, vocabulary: Vocabulary) -> list[Token]:
    """Collapsed tokens; a run's probability is that of its surest slot."""
    runs = collapse(clip.canvas)
    return [
        Token(vocabulary.bytes_of(t), a, b, float(clip.confidence[a : b + 1].max()), start)
        for (t, a, b), start in zip(runs, clip.starts or [None] * len(runs), strict=True)
    ]


def _is_han(text: str) -> bool:
    return bool(text) and "\u3400" <= text[0] <= "\u9fff"


def _is_mark(text: str) -> bool:
    return bool(text) and all(unicodedata.category(c)[0] == "P" for c in text)


def characters(pieces: list[Token]) -> list[Token]:
    """Pieces that hold only part of a character joined to whole ones."""
    out: list[Token] = []
    for piece in pieces:
        if out and _is_torn(out[-1].data):
            torn = out.pop()
            sure = min(torn.probability, piece.probability)
            piece = Token(torn.data + piece.data, torn.first, piece.last, sure, torn.start)
        out.append(piece)
    return out


def _is_torn(data: bytes) -> bool:
    try:
        data.decode("utf8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def group(pieces: list[Token]) -> list[list[Token]]:
    """Tokens of one word each: split at spaces and around every Hanzi; punctuation joins what it follows."""
    words: list[list[Token]] = []
    for piece in characters(pieces):
        text = piece.data.decode("utf8", errors="ignore")
        first = words[-1][0].data.decode("utf8", errors="ignore").strip() if words else ""
        apart = text.startswith(" ") or _is_han(text.strip()) or (_is_han(first) and not _is_mark(text))
        if words and not apart:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def to_words(
    clip: Denoised,
    times: Tensor,
    slot_seconds: float,
    seconds: float,
    vocabulary: Vocabulary,
    calibration: Calibration,
) -> tuple[Word, ...]:
    """Words of one clip, times in seconds from its start; none ends after the clip or the next's start.

    Args:
        clip: A settled canvas.
        times: (L,) centre of each slot in seconds.
        slot_seconds: Length of a slot.
        seconds: Length of the clip.
        vocabulary: Decodes the tokens.
        calibration: From log-probability to confidence, and the lag.
    """
    groups = group(tokens(clip, vocabulary))

    def heard(slot: int, edge: float) -> float:
        return max(0.0, heard_at(float(times[slot]) + edge * slot_seconds, calibration.lag))

    told = [heard(g[0].first, -0.5) if g[0].start is None else g[0].start for g in groups]
    starts = [min(start, seconds) for start in told]
    out = []
    for n, pieces in enumerate(groups):
        text = b"".join(p.data for p in pieces).decode("utf8", errors="ignore").strip()
        if not text:
            continue
        following = starts[n + 1] if n + 1 < len(starts) else seconds
        end = max(heard(pieces[-1].last, 0.5), pieces[-1].start or 0.0)
        end = min(max(end, min(following, end + TAIL)), following, seconds)
        sure = sum(math.log(max(p.probability, 1e-6)) for p in pieces) / len(pieces)
        out.append(
            Word(text, round(starts[n], 3), round(max(end, starts[n]), 3), round(calibration(sure), 4))
        )
    return tuple(out)


def join(words: tuple[Word, ...]) -> str:
    """The text of some words: spaces between them, but none around a word that starts with a Hanzi."""
    text, before = "", ""
    for word in words:
        glued = not text or _is_han(word.text) or _is_han(before) or _is_wide(text[-1])
        text += word.text if glued else " " + word.text
        before = word.text
    return text


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"
