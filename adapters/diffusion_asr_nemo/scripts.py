"""NeMo's scripts that load a model as ``ASRModel``, which would refuse one of ours.

``ASRModel.restore_from`` builds NeMo's own classes only: a ``.nemo`` file must not choose what code is run.
That control stays. Whoever wants such a script to take our models says so, by ``accept_archives`` or by
``python -m diffusion_asr_nemo run SCRIPT``: then files that hold one of ours are handed to
``DiffusionASRModel``, which reads no pickle, and every other file goes NeMo's way as before.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nemo.collections.asr.models.asr_model import ASRModel

from diffusion_asr.models.folder import is_embedded
from diffusion_asr_nemo.archive import FOLDER
from diffusion_asr_nemo.model import DiffusionASRModel
from diffusion_asr_nemo.toolkit import RecognitionError

_TARGET = f"{DiffusionASRModel.__module__}.{DiffusionASRModel.__qualname__}"
_MOST_BYTES = 1 << 20  # of a configuration that is looked at
_restore, _fetch = ASRModel.restore_from.__func__, ASRModel.from_pretrained.__func__


def accept_archives() -> None:
    """Let ``ASRModel.restore_from`` and ``from_pretrained`` load our models, in this process.

    ``restore_from`` takes our ``.nemo`` files, ``from_pretrained`` the name of an embedded model
    ("canvas-base"). NeMo's allow-list of classes is left as it is.
    """
    ASRModel.restore_from = classmethod(_restore_from)
    ASRModel.from_pretrained = classmethod(_from_pretrained)


def _restore_from(cls: Any, restore_path: Any, *args: Any, **kwargs: Any) -> Any:
    if cls is ASRModel and is_ours(restore_path):
        return DiffusionASRModel.restore_from(restore_path, *args, **kwargs)
    return _restore(cls, restore_path, *args, **kwargs)


def _from_pretrained(cls: Any, model_name: str, *args: Any, **kwargs: Any) -> Any:
    if cls is ASRModel and is_embedded(model_name):
        return DiffusionASRModel.from_checkpoint(model_name)
    return _fetch(cls, model_name, *args, **kwargs)


def is_ours(path: str | os.PathLike[str]) -> bool:
    """Whether a ``.nemo`` file holds one of our models."""
    try:
        with tarfile.open(path, "r:") as tar:
            tar.getmember(f"./{FOLDER}/config.json")
            config = tar.extractfile("./model_config.yaml")
            text = b"" if config is None else config.read(_MOST_BYTES)
    except (OSError, KeyError, tarfile.TarError):
        return False
    return (
        re.search(rf"^target: {re.escape(_TARGET)}$", text.decode("utf8", "replace"), re.MULTILINE)
        is not None
    )


def run_script(script: Path, arguments: Sequence[str]) -> None:
    """Run a script as ``python SCRIPT ARGUMENTS`` does, with our models accepted.

    Raises:
        RecognitionError: There is no such file.
    """
    if not script.is_file():
        raise RecognitionError(f"{script}: no such script")
    accept_archives()
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.parent.absolute())
    runpy.run_path(str(script), run_name="__main__")
