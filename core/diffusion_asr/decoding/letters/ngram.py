"""A language model of letters: interpolated n-grams (Witten & Bell 1991) in a trie of bytes.

A node of the trie is a string of letters; its weight is what the last of them gains after the others:
``c / (total + kinds)``. What the children of a node leave of 1 goes to the next shorter context, so that
pruned n-grams cost nothing but their place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

STEPS = 24.0  # of a stored weight's logarithm, a nat
LEFT = 1e-3  # least share that goes on to shorter contexts: weights are rounded
MOST_KNOWN = 50_000  # contexts whose chances are kept


class LetterModel:
    """Log-probabilities of the next letter; letters are numbers up to 255, 0 is null and never asked for.

    Attributes:
        size: Of the alphabet, with null.
        letters: (N,) uint8, by level of the trie and there by parent and letter: the last letter of a node.
        children: (N,) uint8: how many children it has.
        weights: (N,) uint8: minus the logarithm of its weight, in ``STEPS``.
    """

    def __init__(
        self,
        size: int,
        letters: NDArray[np.uint8],
        children: NDArray[np.uint8],
        weights: NDArray[np.uint8],
    ) -> None:
        """Put it together.

        Raises:
            ValueError: The parts contradict each other.
        """
        self.size, self.letters, self.children, self.weights = size, letters, children, weights
        roots = len(letters) - int(children.sum(dtype=np.int64))
        if not len(letters) == len(children) == len(weights) or roots < 0:
            raise ValueError("the children in the letter model do not add up")
        if len(letters) and int(letters.max()) >= size:
            raise ValueError(f"the letter model holds letters beyond an alphabet of {size}")
        self._firsts = roots + np.concatenate([[0], np.cumsum(children, dtype=np.int64)])
        rising = np.diff(letters.astype(np.int64)) > 0
        rising[self._firsts[(self._firsts > 0) & (self._firsts < len(letters))] - 1] = True
        if not rising.all():
            raise ValueError("the children of a node of the letter model are not sorted")
        self._gains = np.exp(-weights.astype(np.float64) / STEPS)
        self._known: dict[tuple[int, ...], NDArray[np.float64]] = {}

    def chances(self, before: tuple[int, ...]) -> NDArray[np.float64]:
        """(size,) log-probabilities of each letter after those ``before``."""
        found = self._known.get(before)
        if found is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[before] = np.log(self._interpolate(before))
        return found

    def _interpolate(self, before: tuple[int, ...]) -> NDArray[np.float64]:
        out = np.full(self.size, 1 / self.size)
        for size in range(len(before) + 1):
            node = self._find(before[len(before) - size :])
            if node is None:
                break
            first, end = self._children(node)
            if first == end:
                break
            gains = self._gains[first:end]
            out *= max(LEFT, 1 - gains.sum())
            out[self.letters[first:end]] += gains
        return out

    def _children(self, node: int) -> tuple[int, int]:
        """First and end of a node's children; -1 is the trie's root."""
        if node < 0:
            return 0, int(self._firsts[0])
        return int(self._firsts[node]), int(self._firsts[node + 1])

    def _find(self, letters: tuple[int, ...]) -> int | None:
        """The node of these letters, -1 if there are none, None if the trie does not hold them."""
        node = -1
        for letter in letters:
            first, end = self._children(node)
            node = first + int(np.searchsorted(self.letters[first:end], letter))
            if node == end or self.letters[node] != letter:
                return None
        return node


def count_letters(texts: Iterable[Sequence[int]], space: int, order: int) -> list[Counter[tuple[int, ...]]]:
    """Counts of n-grams of 1 to ``order`` letters; texts begin and end with a space."""
    counts: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
    for text in texts:
        padded = (space, *text, space)
        for size in range(1, order + 1):
            counts[size - 1].update(padded[n : n + size] for n in range(len(padded) - size + 1))
    return counts


def build_model(counts: Sequence[Counter[tuple[int, ...]]], size: int, least: int = 2) -> LetterModel:
    """A model of the n-grams that occur at least ``least`` times (single letters: all)."""
    kept: list[list[tuple[int, ...]]] = []
    for n, level in enumerate(counts):
        known = set(kept[-1]) if kept else {()}
        kept.append(sorted(g for g, c in level.items() if (c >= least or n == 0) and g[:-1] in known))
    letters, children, weights = [], [], []
    for n, grams in enumerate(kept):
        totals: Counter[tuple[int, ...]] = Counter()
        kinds: Counter[tuple[int, ...]] = Counter()
        for gram, count in counts[n].items():
            totals[gram[:-1]] += count
            kinds[gram[:-1]] += 1
        below = Counter(g[:-1] for g in kept[n + 1]) if n + 1 < len(kept) else Counter()
        for gram in grams:
            gain = counts[n][gram] / (totals[gram[:-1]] + kinds[gram[:-1]])
            letters.append(gram[-1])
            children.append(below[gram])
            weights.append(min(255, round(-np.log(gain) * STEPS)))
    return LetterModel(
        size, np.array(letters, np.uint8), np.array(children, np.uint8), np.array(weights, np.uint8)
    )
