"""One error tree. Every message says what is wrong, with which file, and what to do about it."""

from __future__ import annotations

REINSTALL = "Reinstall the package or fetch the model again."


class DiffusionASRError(Exception):
    """Base of everything that this package raises on purpose."""


class AudioError(DiffusionASRError):
    """The audio cannot be read or is not speech-like data (wrong shape, NaN, truncated, no such file)."""


class ModelError(DiffusionASRError):
    """A model is missing, incomplete, corrupt or of another version."""


class LanguageError(DiffusionASRError):
    """A language that the model does not know."""


class FormatError(DiffusionASRError):
    """A transcript file that cannot be parsed or a format that does not exist."""


class ToolkitMissingError(DiffusionASRError, ImportError):
    """An adapter was imported without its toolkit."""
