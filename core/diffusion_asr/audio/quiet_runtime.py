"""ONNX Runtime, imported so that it keeps to itself.

From version 1.29 on, its wheels send telemetry to Microsoft unless the environment says
otherwise at the first import: a thread, a database in the user's cache, an identifier of the machine, uploads
(https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md). Nothing of that fits a recogniser that
works offline. The variable is set for the import alone, for ONNX Runtime reads it once; who imported ONNX
Runtime before, or set the variable, has decided already.
"""

from __future__ import annotations

import os
from typing import Any

_OFF = "ORT_DISABLE_TELEMETRY"


def _imported() -> Any:
    decided = _OFF in os.environ
    if not decided:
        os.environ[_OFF] = "1"
    try:
        import onnxruntime
    finally:
        if not decided:
            del os.environ[_OFF]
    return onnxruntime


ort = _imported()
