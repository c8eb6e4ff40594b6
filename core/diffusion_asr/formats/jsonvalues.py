"""JSON values that know their place in the file, so that every error can name it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from diffusion_asr.errors import FormatError
from diffusion_asr.formats.base import bad, is_probability, is_time, shown


def dump_json(value: Any) -> str:
    """Readable JSON in which every alphabet stays as it is."""
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    # Lone surrogates (from file names that are not UTF-8) survive only as escapes.
    return re.sub(r"[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)


def load_json(text: str) -> Node:
    """The root of a JSON text.

    Raises:
        FormatError: If it is not JSON, for example because it was cut off.
    """
    try:
        return Node(json.loads(text), "")
    except json.JSONDecodeError as error:
        raise bad(
            error.lineno, f"not valid JSON ({error.msg}, column {error.colno}); is the file complete?"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, lists in lists in lists
        raise FormatError(f"not a sensible JSON file ({error})") from error


@dataclass(frozen=True, slots=True)
class Node:
    """A JSON value and the path to it, such as ``transcripts[0].duration``."""

    value: Any
    place: str

    def wrong(self, expected: str) -> FormatError:
        """The error for a value that is not as expected."""
        return FormatError(f"{self.place or 'the file'}: {expected} is expected, not {shown(self.value)}")

    def has(self, key: str) -> bool:
        """Whether this object has a value other than null under the key."""
        return self._object().get(key) is not None

    def at(self, key: str) -> Node:
        """The value under a key of this object; null if it is missing."""
        place = f"{self.place}.{key}" if self.place else key
        return Node(self._object().get(key), place)

    def keys(self) -> list[str]:
        """The keys of this object."""
        return list(self._object())

    def each(self) -> list[Node]:
        """The items of this list."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Node(item, f"{self.place}[{index}]") for index, item in enumerate(self.value)]

    def text(self) -> str:
        """This string."""
        if not isinstance(self.value, str):
            raise self.wrong("a string")
        return self.value

    def optional_text(self) -> str | None:
        """This string, or None for null."""
        return None if self.value is None else self.text()

    def seconds(self) -> float:
        """This time; CHiME writes times as strings."""
        number = self._number()
        if not is_time(number):
            raise self.wrong("a time, finite and not negative,")
        return number

    def optional_probability(self) -> float | None:
        """This number in [0, 1], or None for null."""
        if self.value is None:
            return None
        number = self._number()
        if not is_probability(number):
            raise self.wrong("a number between 0 and 1")
        return number

    def flag(self) -> bool:
        """This truth value; false for null."""
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def span(self, start: str, end: str) -> tuple[float, float]:
        """Two times of this object, in order."""
        first, last = self.at(start).seconds(), self.at(end).seconds()
        if last < first:
            raise FormatError(f"{self.place}: the end ({last:g} s) is before the start ({first:g} s)")
        return first, last

    def _number(self) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float | str):
            raise self.wrong("a number")
        try:
            return float(self.value)
        except (ValueError, OverflowError):
            raise self.wrong("a number") from None

    def _object(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value
