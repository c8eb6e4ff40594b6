"""From a settled canvas to words with times and confidence.

A token starts where the decoder said so (``Decoded.starts``). Without that its slots tell, as they know when
they are: it starts where its run of slots starts, a measured lag later (see ``shift_to_speech``). A word ends
where its last token's run ends, stretched towards the next word by at most ``TAIL`` because the canvas marks
where a token is recognised, not how long it rings.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass

from diffusion_asr.decoding.calibration import Calibration, shift_to_speech
from diffusion_asr.decoding.canvas import collapse_canvas
from diffusion_asr.decoding.decoder import Decoded
from diffusion_asr.text.spacing import is_han
from diffusion_asr.text.vocabulary import Vocabulary
from diffusion_asr.transcript import Word

TAIL = 0.32  # seconds


@dataclass(frozen=True, slots=True)
class Token:
    """One recognised piece: its UTF-8 bytes, first and last slot, probability, start in seconds if told."""

    data: bytes
    first: int
    last: int
    probability: float
    start: float | None = None


def list_tokens(clip: Decoded, vocabulary: Vocabulary) -> list[Token]:
    """Collapsed tokens; a run's probability is that of its surest slot."""
    runs = collapse_canvas(clip.canvas)
    return [
        Token(vocabulary.bytes_of(t), a, b, float(clip.confidence[a : b + 1].max()), start)
        for (t, a, b), start in zip(runs, clip.starts or [None] * len(runs), strict=True)
    ]


def _is_mark(text: str) -> bool:
    return bool(text) and all(unicodedata.category(c)[0] == "P" for c in text)


def join_characters(pieces: list[Token]) -> list[Token]:
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


def group_words(pieces: list[Token]) -> list[list[Token]]:
    """Tokens of one word each: split at spaces and around every Hanzi; punctuation joins what it follows."""
    words: list[list[Token]] = []
    for piece in join_characters(pieces):
        text = piece.data.decode("utf8", errors="ignore")
        first = words[-1][0].data.decode("utf8", errors="ignore").strip() if words else ""
        apart = text.startswith(" ") or is_han(text.strip()) or (is_han(first) and not _is_mark(text))
        if words and not apart:
            words[-1].append(piece)
        else:
            words.append([piece])
    return words


def build_words(
    clip: Decoded, seconds: float, vocabulary: Vocabulary, calibration: Calibration
) -> tuple[Word, ...]:
    """Words of one clip, times in seconds from its start; none ends after the clip or the next's start.

    Args:
        clip: A settled canvas.
        seconds: Length of the clip.
        vocabulary: Decodes the tokens.
        calibration: From log-probability to confidence, and the lag.
    """
    groups = group_words(list_tokens(clip, vocabulary))
    lag = calibration.lag if clip.lead is None else clip.lead

    def heard(slot: int, edge: float) -> float:
        return max(0.0, shift_to_speech(float(clip.slot_times[slot]) + edge * clip.slot_seconds, lag))

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
