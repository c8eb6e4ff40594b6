"""What a user should know about a recording that was read all the same."""

from __future__ import annotations

import warnings


class AudioWarning(UserWarning):
    """The audio was read, but something about it matters: it is cut short, has several tracks, gaps, ..."""


def warn(message: str) -> None:
    """Tell it once it is known."""
    warnings.warn(message, AudioWarning, stacklevel=2)
