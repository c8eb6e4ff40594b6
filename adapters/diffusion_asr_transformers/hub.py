"""Saved models in repositories of the Hugging Face hub: fetched where somebody names one, and never else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers.utils import cached_file

from diffusion_asr_transformers.configuration import FOLDER, read_config

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_ASKED = ("cache_dir", "force_download", "local_files_only", "revision", "token")
_QUIET = ("gated_repo", "missing_entries", "connection_errors")  # core says what a name may be


def find_home(name: str | os.PathLike[str], asked: Mapping[str, Any]) -> str | os.PathLike[str]:
    """The folder of a saved model that a repository's name stands for; any other name or folder as it is.

    Args:
        name: As given to ``from_pretrained``.
        asked: Its further arguments, such as ``revision`` and ``token``.
    """
    if not isinstance(name, str) or Path(name).exists() or not _REPOSITORY.fullmatch(name):
        return name
    given = {key: asked[key] for key in _ASKED if asked.get(key) is not None}
    quiet = {f"_raise_exceptions_for_{kind}": False for kind in _QUIET}
    config = cached_file(name, "config.json", **given, **quiet)
    if config is None or read_config(Path(config).parent) is None:
        return name  # a DiffusionGemma adapter is core's matter
    files = ["*.json", f"{FOLDER}/*"]
    return snapshot_download(name, allow_patterns=files, **given)  # type: ignore[no-any-return]
