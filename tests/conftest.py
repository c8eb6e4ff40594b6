"""SpeechBrain leaves modules in ``sys.modules`` that import optional packages when anyone looks at them.

Hypothesis looks at all of them (``__file__``) and falls over where k2 is not installed. They only serve
names that SpeechBrain has given up, so they are forgotten.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


def forget_lazy_modules() -> None:
    lazy = [name for name, module in sys.modules.items() if "LazyModule" in map(_name, type(module).__mro__)]
    for name in lazy:
        del sys.modules[name]


def _name(kind: type) -> str:
    return kind.__name__


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems() -> None:
    forget_lazy_modules()


@pytest.fixture(autouse=True, scope="module")
def no_lazy_modules() -> Iterator[None]:
    yield
    forget_lazy_modules()
