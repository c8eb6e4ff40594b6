"""Sentences to subtitle cues: short lines, few of them, long enough on the screen to be read.

The limits are those of broadcasters' style guides: 42 columns (a Hanzi takes two) in 2 lines, 1 to 7 seconds,
20 columns a second. Text is never left out: where people talk faster than one can read, the last gives way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import zip_longest

from diffusion_asr.formats.units import Unit, has_times, join_units, list_units, width
from diffusion_asr.languages import is_glued
from diffusion_asr.transcript import Segment

_CLAUSE_END = tuple(",;:–—，、；：?!…。？！।")
_ABBREVIATION = 4  # letters of a word with a dot that may be one: "Mr."
_GAP = 0.5  # seconds between cues that may still become one
_SHIFT = 0.7  # seconds by which a cue may come early or late to be read
_INSTANT = 1e-6  # seconds that are none


@dataclass(frozen=True, slots=True)
class CueOptions:
    """How subtitles are cut.

    Attributes:
        max_line_width: Columns of a line; wide letters such as Hanzi take two.
        max_line_count: Lines of a cue.
        highlight_words: Each word is underlined while it is said, in a cue of its own.
        min_seconds: A cue stays at least so long,
        max_seconds: at most so long,
        max_speed: and long enough to be read at so many columns a second.
    """

    max_line_width: int = 42
    max_line_count: int = 2
    highlight_words: bool = False
    min_seconds: float = 1.0
    max_seconds: float = 7.0
    max_speed: float = 20.0

    def __post_init__(self) -> None:
        if self.max_line_width < 2 or self.max_line_count < 1:
            raise ValueError(f"a line needs 2 columns and a cue one line at least, not {self}")
        if not 0 < self.min_seconds <= self.max_seconds or self.max_speed <= 0:
            raise ValueError(f"seconds and speed must be over 0, min_seconds at most max_seconds, not {self}")


@dataclass(frozen=True, slots=True)
class Cue:
    """What is on the screen at a time.

    Attributes:
        start: Seconds.
        end: Seconds.
        lines: Units of each line.
        segment: Where it comes from.
        timed: Its units' times are known, so that it may be moved a little.
    """

    start: float
    end: float
    lines: tuple[tuple[Unit, ...], ...]
    segment: Segment
    timed: bool = False

    @property
    def units(self) -> tuple[Unit, ...]:
        """All units."""
        return tuple(unit for line in self.lines for unit in line)

    def render(self, show: Callable[[Unit], str] = lambda unit: unit.text) -> str:
        """The text with its line ends."""
        return "\n".join(join_units(line, show) for line in self.lines)


def build_cues(
    segments: Iterable[Segment], options: CueOptions, lead: Callable[[Segment], int] = lambda _: 0
) -> list[Cue]:
    """Cues of a transcript, in order.

    A segment whose words have no times keeps its own, and its line ends, as far as they fit.

    Args:
        segments: In order of time, of one speaker each.
        options: Limits.
        lead: Columns that something else takes at the beginning of a segment's cues.
    """
    cues: list[Cue] = []
    for segment in segments:
        layout = _Layout(options, lead(segment))
        cues += _cut(segment, layout)
    return _settle_times(_join_short(cues, options, lead), options)


def _cut(segment: Segment, layout: _Layout) -> Iterator[Cue]:
    timed = has_times(segment)
    lines = [line for line in map(str.strip, segment.text.splitlines()) if line]
    if not lines:
        return
    if not timed and layout.holds(lines):
        rows = tuple((Unit(line, segment.start, segment.end),) for line in lines)
        yield Cue(segment.start, segment.end, rows, segment)
        return
    units = list(list_units(segment, timed, layout.options.max_line_width))
    if not timed and layout.fits(units):
        yield Cue(segment.start, segment.end, layout.lines(units), segment)
        return
    for first, last in layout.divide(units):
        part = units[first:last]
        yield Cue(part[0].start, part[-1].end, layout.lines(part), segment, timed)


# --- lines and cues ----------------------------------------------------------------------------------------


class _Layout:
    """Lines of one segment's cues; ``lead`` columns of the first are taken."""

    def __init__(self, options: CueOptions, lead: int) -> None:
        self.options = options
        self.lead = min(lead, options.max_line_width // 2)  # of a longer name nothing can be done

    def holds(self, lines: Sequence[str]) -> bool:
        """Whether lines fit as they are."""
        widths = [width(line) for line in lines]
        widths[0] += self.lead
        return len(lines) <= self.options.max_line_count and max(widths) <= self.options.max_line_width

    def fits(self, units: Sequence[Unit]) -> bool:
        """Whether units are a cue."""
        return len(self._wrapped(units, self.options.max_line_width)) <= self.options.max_line_count

    def lines(self, units: Sequence[Unit]) -> tuple[tuple[Unit, ...], ...]:
        """As few lines as possible, about as wide as one another."""
        limit = self.options.max_line_width
        best = self._wrapped(units, limit)
        whole = self.lead + width(join_units(units))
        for narrower in range(-(-whole // len(best)), limit):
            lines = self._wrapped(units, narrower)
            if len(lines) == len(best):
                return tuple(lines)
        return tuple(best)

    def _wrapped(self, units: Sequence[Unit], limit: int) -> list[tuple[Unit, ...]]:
        lines: list[list[Unit]] = []
        used = 0
        for unit in units:
            needed = width(unit.text) + (0 if unit.glued else 1)
            if lines and used + needed <= limit:
                lines[-1].append(unit)
                used += needed
            else:
                used = width(unit.text) + (0 if lines else self.lead)
                lines.append([unit])
        return [tuple(line) for line in lines]

    def divide(self, units: Sequence[Unit]) -> list[tuple[int, int]]:
        """Where one cue ends and the next begins: at the cheapest places (dynamic programming)."""
        best: list[tuple[float, int]] = [(0.0, 0)] + [(float("inf"), 0)] * len(units)
        for first in range(len(units)):
            for last in range(first + 1, len(units) + 1):
                part = units[first:last]
                if last - first > 1 and not self._may_be_cue(part):
                    break
                cost = best[first][0] + self._cost(part, units[last] if last < len(units) else None)
                best[last] = min(best[last], (cost, first))
        spans, last = list[tuple[int, int]](), len(units)
        while last:
            spans.append((best[last][1], last))
            last = best[last][1]
        return spans[::-1]

    def _may_be_cue(self, part: Sequence[Unit]) -> bool:
        return part[-1].end - part[0].start <= self.options.max_seconds and self.fits(part)

    def _cost(self, part: Sequence[Unit], following: Unit | None) -> float:
        """Few cues, filled alike, that end where clauses do or a pause is."""
        room = self.options.max_line_width * self.options.max_line_count
        empty = 1.0 - min(1.0, width(join_units(part)) / room)
        cost = 1.0 + empty**2
        if part[-1].end - part[0].start < self.options.min_seconds:
            cost += 0.5
        last = part[-1].text
        ends = last.endswith(_CLAUSE_END) or (last.endswith(".") and len(last) > _ABBREVIATION)
        if following is not None and not ends:
            cost += max(0.0, 0.5 - (following.start - part[-1].end))
        return cost


def _join_short(cues: Sequence[Cue], options: CueOptions, lead: Callable[[Segment], int]) -> list[Cue]:
    """Cues that would be gone too soon become one with a neighbour of the same speaker, where they fit."""
    out: list[Cue] = []
    for cue, following in zip_longest(cues, cues[1:]):
        until = float("inf") if following is None else following.start
        if out and _may_be_one(out[-1], cue, options) and _are_short(out[-1], cue, until, options):
            before, first = out[-1].units, cue.units[0]
            both = (*before, replace(first, glued=is_glued(before[-1].text, first.text)), *cue.units[1:])
            layout = _Layout(options, lead(cue.segment))
            if layout.fits(both):
                out[-1] = replace(out[-1], end=cue.end, lines=layout.lines(both))
                continue
        out.append(cue)
    return out


def _may_be_one(first: Cue, second: Cue, options: CueOptions) -> bool:
    if not (first.timed and second.timed) or second.end - first.start > options.max_seconds:
        return False
    one, other = first.segment, second.segment
    alike = (one.speaker, one.language) == (other.speaker, other.language)
    return alike and -_INSTANT < second.start - first.end < _GAP


def _are_short(first: Cue, second: Cue, until: float, options: CueOptions) -> bool:
    """Whether one of two cues in a row has no time to be read; the second may stay ``until`` then."""
    return min(second.start - first.start, until - second.start) < options.min_seconds


# --- times -------------------------------------------------------------------------------------------------


def _settle_times(cues: Sequence[Cue], options: CueOptions) -> list[Cue]:
    """Each cue long enough to be read, as far as its neighbours let it; none longer than allowed."""
    out = list(cues)
    for n, cue in enumerate(out):
        if not cue.timed:
            continue
        wanted = _wanted(cue, options)
        before = max((c.end for c in out[max(0, n - 3) : n]), default=0.0)
        after = min((c.start for c in out[n + 1 : n + 4] if c.start >= cue.start), default=float("inf"))
        start, end = cue.start, min(cue.end, cue.start + options.max_seconds)
        end = max(end, min(start + wanted, after))
        if end - start < wanted and before <= start:
            start = max(before, end - wanted, start - _SHIFT)
        out[n] = replace(cue, start=start, end=end)
        for goal, needed in ((wanted, _wanted), (options.min_seconds, _least)):
            _borrow(out, n, goal, partial(needed, options=options))
    return out


def _wanted(cue: Cue, options: CueOptions) -> float:
    """Seconds in which a cue can be read."""
    columns = sum(width(join_units(line)) for line in cue.lines)
    return min(max(options.min_seconds, columns / options.max_speed), options.max_seconds)


def _least(cue: Cue, options: CueOptions) -> float:
    return options.min_seconds


def _borrow(cues: list[Cue], n: int, goal: float, needed: Callable[[Cue], float]) -> None:
    """Time for a cue from the next one, then from the one before, if these have more than they need."""
    cue = cues[n]
    if n + 1 < len(cues) and cues[n + 1].timed and abs(cues[n + 1].start - cue.end) < _INSTANT:
        following = cues[n + 1]
        moved = _lent(following, goal - (cue.end - cue.start), needed)
        cues[n] = cue = replace(cue, end=cue.end + moved)
        cues[n + 1] = replace(following, start=following.start + moved)
    if n and cues[n - 1].timed and abs(cues[n - 1].end - cue.start) < _INSTANT:
        earlier = cues[n - 1]
        moved = _lent(earlier, goal - (cue.end - cue.start), needed)
        cues[n] = replace(cue, start=cue.start - moved)
        cues[n - 1] = replace(earlier, end=earlier.end - moved)


def _lent(cue: Cue, asked: float, needed: Callable[[Cue], float]) -> float:
    """Seconds that a cue can do without."""
    return max(0.0, min(asked, cue.end - cue.start - needed(cue), _SHIFT))
