"""A branch beside a text: where it meets the text again, and what it writes until then."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_asr.decoding.causal.branches import Branch, Rows
from diffusion_asr.decoding.causal.model import END, KEEP, REPLACE


def rows(count: int, rejected: Sequence[int] = (), clean: int = 30) -> Rows:
    """The model agrees with what follows ``count`` tokens but for those after the ``rejected``."""
    refused = [n in rejected for n in range(count)]
    edits = [REPLACE if n - 1 in rejected else KEEP for n in range(count)]
    return Rows(refused, [-0.1] * count, [clean] * count, [-0.2] * count, edits)


TEXT = list(range(1, 13))


def test_a_branch_meets_after_three_equal_tokens() -> None:
    branch = Branch.at(TEXT, 2, 20, -1.0, 8)
    assert branch.seen == [20, 4, 5]
    branch.grow(rows(3), TEXT)
    assert branch.settled == [20, 4, 5, 6]
    assert branch.met == 6
    assert branch.chances == [-1.0, -0.1, -0.1, -0.1]


def test_the_next_token_in_a_place_leaves_one_out() -> None:
    branch = Branch.at(TEXT, 2, 4, -1.0, 8)
    branch.grow(rows(3), TEXT)
    assert TEXT[:2] + branch.settled + TEXT[branch.met :] == [1, 2, *TEXT[3:]]


def test_a_rejected_token_is_replaced_and_the_branch_goes_on() -> None:
    branch = Branch.at(TEXT, 2, 20, -1.0, 8)
    branch.grow(rows(3, rejected=[0]), TEXT)
    assert branch.met is None
    assert branch.settled == [20, 30]
    branch.grow(rows(len(branch.seen)), TEXT)
    branch.grow(rows(len(branch.seen)), TEXT)
    assert branch.met is not None
    assert TEXT[:2] + branch.settled + TEXT[branch.met :] == [1, 2, 20, 30, *TEXT[4:]]


def test_a_branch_meets_at_the_end() -> None:
    branch = Branch.at(TEXT, 11, 20, -1.0, 8)
    assert branch.last
    branch.grow(rows(1), TEXT)
    assert branch.met == len(TEXT) + 1
    assert branch.settled[:1] == [20]
    assert len(branch.chances) == 2  # the end's is the last


def test_a_branch_that_wants_to_end_early_says_so() -> None:
    branch = Branch.at(TEXT, 2, 20, -1.0, 8)
    branch.grow(rows(3, rejected=[0], clean=END), TEXT)
    assert branch.met == len(TEXT) + 1
    assert branch.settled == [20]
