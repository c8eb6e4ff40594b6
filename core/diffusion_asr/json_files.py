"""JSON files of models, read within bounds: of size, depth, and what a schema says about each value.

Everything that a model states is checked here before anything of that size is made.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from diffusion_asr.errors import REINSTALL, ModelError

MOST_BYTES = 1 << 20  # of a configuration
MOST_DEPTH = 16  # lists and objects inside each other
_SHOWN = 3  # problems that a message tells

_SHORT = Repr()
_SHORT.maxstring = 60


class Schema(BaseModel):
    """An object with these keys and no others; numbers are numbers, finite, and ``true`` is none."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Schema)


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of a sensible size.

    Raises:
        ModelError: It is missing, something else (a pipe would be waited for), or larger than ``most`` bytes.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ModelError(f"{path} is not a regular file. {REINSTALL}")
        if found.st_size > most:
            raise ModelError(f"{path}: {found.st_size} bytes, expected at most {most}. {REINSTALL}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}). {REINSTALL}") from error


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """The value in a JSON file.

    Raises:
        ModelError: See ``read_bytes`` and ``parse_json``.
    """
    return parse_json(read_bytes(path, most), path)


def parse_json(data: bytes, where: object) -> Any:
    """The value in JSON text, which may hold neither NaN nor a key twice, nor be nested without end.

    Raises:
        ModelError: With ``where``, the file.
    """
    try:
        value = json.loads(data.decode("utf8"), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError as error:
        raise ModelError(f"{where}: nested too deeply. {REINSTALL}") from error
    except ValueError as error:
        raise ModelError(f"{where}: not readable JSON ({error}). {REINSTALL}") from error
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [item for each in level for item in _inside(each) if isinstance(item, dict | list)]
    if level:
        raise ModelError(f"{where}: nested too deeply. {REINSTALL}")
    return value


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in the same object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def check(schema: type[S], value: Any, where: object) -> S:
    """The value as the schema has it.

    Raises:
        ModelError: With ``where``, the place inside, and what is expected there.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        problems = [_told(each) for each in error.errors(include_url=False)[:_SHOWN]]
        if (more := error.error_count() - _SHOWN) > 0:
            problems.append(f"and {more} more")
        raise ModelError(f"{where}: {'; '.join(problems)}. {REINSTALL}") from error


def _told(problem: Mapping[str, Any]) -> str:
    place = ".".join(map(str, problem["loc"]))
    what = str(problem["msg"]).removeprefix("Value error, ").replace("Input ", "it ", 1)
    what = what[:1].lower() + what[1:]
    given = "" if problem["type"] in ("missing", "value_error") else f", not {_SHORT.repr(problem['input'])}"
    return (f"{place}: " if place else "") + what + given
