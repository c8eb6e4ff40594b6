"""A branch: another token somewhere in a settled text, and what follows until both texts meet again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from diffusion_asr.decoding.causal.model import END
from diffusion_asr.decoding.causal.rewriting import repair_tail

MEET = 3  # equal tokens after which two texts have met again
_SHIFT = 4  # tokens by which a branch may be longer or shorter than what it replaces


class Rows(NamedTuple):
    """What the refiner says after each token of a branch that it read; all lists are as long."""

    rejected: list[bool]  # the token that follows
    chances: list[float]  # log-probability of the token that follows
    clean: list[int]  # the likeliest token
    best: list[float]  # its log-probability
    edits: list[int]  # operation for the token that was read


@dataclass
class Branch:
    """``tokens`` instead of the text from ``start`` on.

    Attributes:
        start: Place of the token that is put in doubt.
        tokens: The other token, and what may follow.
        chances: Log-probabilities of those that are settled, the other token first.
        ended: Whether ``tokens`` hold all of the text that is left.
        met: Where the text goes on after the settled tokens; None as long as they have not met.
    """

    start: int
    tokens: list[int]
    chances: list[float]
    ended: bool
    met: int | None = None

    @classmethod
    def at(cls, text: Sequence[int], start: int, other: int, chance: float, reach: int) -> Branch:
        """Put ``other``, of log-probability ``chance``, in the place ``start``."""
        # It may stand for its token, or be the one after it.
        following = start + 2 if text[start + 1 : start + 2] == [other] else start + 1
        tail = list(text[following : following + reach])
        return cls(start, [other, *tail], [chance], following + reach >= len(text))

    @property
    def settled(self) -> list[int]:
        """What it says, up to where the texts meet."""
        return self.tokens[: len(self.chances)]

    @property
    def seen(self) -> list[int]:
        """What a pass has to read: just enough for the texts to meet."""
        return self.tokens[: len(self.chances) + MEET - 1]

    @property
    def last(self) -> bool:
        """Whether after what it reads, nothing of the text is left."""
        return self.ended and len(self.seen) == len(self.tokens)

    def grow(self, rows: Rows, text: Sequence[int]) -> None:
        """Settle what the model agrees with; where it does not, put its token and edit the rest."""
        seen = len(self.seen)
        at = len(self.chances)
        while at < len(self.tokens) and at <= seen and not rows.rejected[at - 1]:
            self.chances.append(rows.chances[at - 1])
            at += 1
            if self._meets(text):
                return
        if at > seen:
            return  # all that was read stands, and there is more
        agreed = at == len(self.tokens) and self.ended and not rows.rejected[at - 1]
        if agreed or rows.clean[at - 1] == END:
            self.tokens = self.tokens[:at]
            self.chances.append(rows.chances[at - 1] if agreed else rows.best[at - 1])
            self.met = len(text) + 1  # with the end, whose chance is the last
            return
        mended = repair_tail(self.tokens[at:seen], rows.clean[at - 1 :], rows.edits[at:], 0)
        self.tokens = self.tokens[:at] + mended + self.tokens[seen:]
        self.chances.append(rows.best[at - 1])
        self._meets(text)

    def _meets(self, text: Sequence[int]) -> bool:
        """Whether the last settled tokens stand in the text as well, at about the same place."""
        count = len(self.chances)
        if count < MEET:
            return False
        end, guess = self.tokens[count - MEET : count], self.start + count
        for place in sorted(range(guess - _SHIFT, guess + _SHIFT + 1), key=lambda p: abs(p - guess)):
            if place - MEET >= self.start and list(text[place - MEET : place]) == end:
                self.met = place
                return True
        return False
