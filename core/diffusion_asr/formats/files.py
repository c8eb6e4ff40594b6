"""Text files on disk: read with clear errors, written whole or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path

from diffusion_asr.errors import FormatError


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, with its line ends as they are.

    Raises:
        FormatError: If the file cannot be read or is not UTF-8 text.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read: {_reason(error)}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(
            f"{path}: line {line}: not UTF-8 text (byte 0x{data[error.start]:02x}); save it as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise FormatError(f"{path}: line {line}: holds a zero byte; is it a binary file?")
    return text


def write_text(path: Path, text: str, overwrite: bool) -> None:
    """Write UTF-8 text under another name in the same folder, then move it into place.

    Raises:
        FormatError: If the file exists (unless ``overwrite``) or cannot be written.
    """
    try:
        if not path.parent.is_dir():
            raise FormatError(f"{path}: its folder does not exist; create it first")
        target = path.resolve()  # through a symbolic link, which stays a link
        if target.exists():
            _refuse_existing(path, target, overwrite)
        temporary = target.with_name(f".{secrets.token_hex(6)}.tmp")
        try:
            with temporary.open("xb") as file:  # unlike tempfile, with the user's usual permissions
                file.write(text.encode("utf-8"))
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise FormatError(f"{path}: cannot be written: {_reason(error)}") from error


def _refuse_existing(path: Path, target: Path, overwrite: bool) -> None:
    if not target.is_file():
        raise FormatError(f"{path}: is not a regular file; choose another name")
    if not overwrite:
        raise FormatError(f"{path}: exists already; choose another name or overwrite it (overwrite=True)")


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
