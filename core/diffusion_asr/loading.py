"""Which kind of model a name or a folder means, and what loads it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path


def is_adapter(name: str | os.PathLike[str]) -> bool:
    """Whether a name means a DiffusionGemma adapter: ``organisation/model``, or foreign weights."""
    folder = Path(name)
    if not folder.is_dir():
        hub = isinstance(name, str) and re.fullmatch(r"\w[\w.-]*/[\w.-]+(@[\w./-]+)?", name)
        return bool(hub) and not folder.parent.is_dir()  # a folder's name misspelt is no reason to go online
    if not any(p.suffix in (".safetensors", ".bin", ".pt", ".pth") for p in folder.iterdir()):
        return False
    try:
        return "format" not in json.loads((folder / "config.json").read_text(encoding="utf8"))
    except FileNotFoundError:
        return not (folder / "denoiser.safetensors").exists()
    except (OSError, ValueError, TypeError):
        return False  # of a canvas model, damaged: its own loader says how
