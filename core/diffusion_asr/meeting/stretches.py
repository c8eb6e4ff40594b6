"""Who has the floor when: a window of speech cut where it changes hands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from diffusion_asr.meeting.attribution import Turn, TurnIndex

_SHORTEST = 0.3  # seconds: what a shorter turn says goes to its neighbour, for nothing could be decoded
_SHORTEST_UNKNOWN = 1.0  # seconds: a pause inside a window with a limit of 0.5 s on both sides is no longer


@dataclass(frozen=True, slots=True)
class Stretch:
    """Seconds in which one speaker (or nobody known) has the floor."""

    start: float
    end: float
    speaker: str | None


def cut_stretches(
    index: TurnIndex, turns: Sequence[Turn], start: float, end: float, limit: float
) -> list[Stretch]:
    """A window cut at the turn changes; nothing is left out.

    Time between turns goes to the nearer one within ``limit`` seconds, else to nobody. What is too short to
    decode goes to the longer neighbour.

    Args:
        index: Of ``turns``.
        turns: The exclusive view, in order.
        start: Of the window, in seconds.
        end: Of the window.
        limit: Seconds.
    """
    edges = {start, end}
    near = [turn for turn in turns if turn.end > start - limit and turn.start < end + limit]
    for turn in near:
        edges |= {turn.start, turn.end, turn.start - limit, turn.end + limit}
    for before, after in pairwise(near):
        edges.add((before.end + after.start) / 2)
    inside = sorted(edge for edge in edges if start <= edge <= end)
    pieces = [Stretch(a, b, _holder(index, (a + b) / 2, limit)) for a, b in pairwise(inside)]
    return _without_short(_joined(pieces))


def _holder(index: TurnIndex, moment: float, limit: float) -> str | None:
    talking = index.during(moment - 1e-6, moment + 1e-6)
    if talking:
        return max(talking, key=lambda name: talking[name])
    near = index.nearest(moment, moment)
    return near[0] if near is not None and near[1] <= limit else None


def _joined(pieces: Sequence[Stretch]) -> list[Stretch]:
    out: list[Stretch] = []
    for piece in pieces:
        if out and out[-1].speaker == piece.speaker:
            out[-1] = replace(out[-1], end=piece.end)
        else:
            out.append(piece)
    return out


def _without_short(pieces: list[Stretch]) -> list[Stretch]:
    while len(pieces) > 1:
        n = min(range(len(pieces)), key=lambda k: _room(pieces[k]))
        if _room(pieces[n]) >= 0:
            break
        beside = [k for k in (n - 1, n + 1) if 0 <= k < len(pieces)]
        taker = max(beside, key=lambda k: pieces[k].end - pieces[k].start)
        pieces[n] = replace(pieces[n], speaker=pieces[taker].speaker)
        pieces = _joined(pieces)
    return pieces


def _room(piece: Stretch) -> float:
    """Seconds by which a piece is long enough; below 0 it is too short."""
    least = _SHORTEST_UNKNOWN if piece.speaker is None else _SHORTEST
    return piece.end - piece.start - least
