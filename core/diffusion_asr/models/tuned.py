"""A model folder with a fine-tuned denoiser: what training in any toolkit ends in.

The denoiser is the part that toolkits train; everything else is copied from the model that it started from.
Where that model has a refiner, the denoiser writes the draft and the refiner has the last word: it keeps
draft tokens that it finds nearly as probable as its own and replaces the others, names and terms that only
the denoiser has learnt among them. ``steps=1`` is the denoiser alone; a folder written without the refiner
always decodes with the denoiser alone, in parallel passes. With the refiner, languages that are written by
letters go on to be: training does not touch these.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.errors import ModelError
from diffusion_asr.models.canvas import Bare, denoiser_config
from diffusion_asr.models.folder import LETTERS, NGRAM, REFINER, find_model, load_config, save_folder
from diffusion_asr.models.packing import LARGEST
from diffusion_asr.models.parts import Parts
from diffusion_asr.models.schema import SIGNED

DENOISER = "denoiser.safetensors"
_MARK = "+tuned"  # behind the version of a model whose denoiser is not the published one


@dataclass(frozen=True)
class Source:
    """The files of a model that was loaded, to be read once more.

    Attributes:
        name: What errors call it.
        config: Its ``config.json`` as it was loaded; files that do not match its sha256 are refused.
        read: Bytes of one of its files; raises ``ModelError`` if it is gone.
    """

    name: str
    config: dict[str, Any]
    read: Callable[[str], bytes]

    @classmethod
    def of(cls, model: str | os.PathLike[str]) -> Source:
        """An embedded model by name, or a model folder.

        Raises:
            ModelError: No such model, or a corrupt one.
        """
        folder = find_model(model)

        def read(name: str) -> bytes:
            try:
                return (folder / name).read_bytes()
            except OSError as error:
                raise ModelError(
                    f"{folder}, from which this model was loaded, no longer holds {name} ({error}); "
                    "a model can be saved while its source is there"
                ) from error

        return cls(str(folder), load_config(folder), read)

    def signed(self, name: str) -> bytes:
        """A file's bytes, which are those that were loaded.

        Raises:
            ModelError: It is gone, or another by now.
        """
        data = self.read(name)
        if hashlib.sha256(data).hexdigest() != self.config["sha256"][name]:
            raise ModelError(
                f"{self.name} has changed since this model was loaded from it ({name}): load it again"
            )
        return data


def copy_model(source: Source, target: Path) -> None:
    """Write ``source`` as the folder ``target``, file for file.

    Raises:
        ModelError: ``target`` exists, or ``source`` is gone or has changed.
    """
    with _made(target) as folder:
        for name in source.config["sha256"]:
            (folder / name).write_bytes(source.signed(name))
        (folder / "config.json").write_bytes(source.read("config.json"))
        if load_config(folder) != source.config:
            raise ModelError(f"{source.name} has changed since this model was loaded from it: load it again")


def write_tuned(source: Source, target: Path, denoiser: Mapping[str, Tensor], refiner: bool = True) -> None:
    """Write ``source`` with another denoiser as the folder ``target``, for ``Recognizer.from_pretrained``.

    Args:
        source: The model that training started from.
        target: The folder to make; it appears when it is complete.
        denoiser: Trained weights by their names in ``CanvasDenoiser``, stored in float32.
        refiner: Keep the refiner, if there is one. Without it the confidences are no longer calibrated.

    Raises:
        ModelError: The weights do not fit the model or are not finite, ``target`` exists, or ``source`` is
            gone or has changed.
    """
    weights = _checked(source, denoiser)
    dropped = {DENOISER} if refiner else {DENOISER, REFINER, LETTERS, NGRAM}
    config = {k: v for k, v in source.config.items() if k not in SIGNED}
    config["version"] = str(config["version"]).removesuffix(_MARK) + _MARK
    if not refiner and config.pop("refiner", None):
        config.pop("letters", None)
        config["calibration"] = asdict(Calibration(lag=config["calibration"].get("lag", 0.0)))
    with _made(target) as folder:
        for name in source.config["sha256"].keys() - dropped:
            (folder / name).write_bytes(source.signed(name))
        save_folder(folder, config, {"denoiser": weights})


def find_denoiser(parts: Parts) -> CanvasDenoiser:
    """The part of a loaded model that toolkits fine-tune, as it is.

    Raises:
        ModelError: A model whose decoder has no canvas denoiser.
    """
    if parts.denoiser is None:
        raise ModelError(f"{parts.name} has no canvas denoiser to fine-tune: start from canvas-base")
    return parts.denoiser


def make_trainable(parts: Parts) -> CanvasDenoiser:
    """The same, made float32 and with gradients.

    Its decoder goes on using it, so that what is trained is what decodes.

    Raises:
        ModelError: A model whose decoder has no canvas denoiser.
    """
    return find_denoiser(parts).float().requires_grad_(True)


def _checked(source: Source, denoiser: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32, if they are those of this model's denoiser: names, shapes, finite."""
    with torch.device("meta"), Bare():
        module = CanvasDenoiser(denoiser_config(source.config))
    if strange := [n for n, v in denoiser.items() if not isinstance(v, Tensor) or not v.is_floating_point()]:
        raise ModelError(f"{', '.join(map(str, strange[:3]))}: no weights, but something else")
    weights = {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in denoiser.items()}
    try:
        module.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"these weights are not of the denoiser of {source.name}: {error}") from error
    if broken := [name for name, value in weights.items() if not bool((value.abs() <= LARGEST).all())]:
        raise ModelError(
            f"{', '.join(broken[:3])}: weights are NaN, infinite or above {LARGEST:g}; training went wrong, "
            "use an earlier checkpoint or a lower learning rate"
        )
    return weights


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that takes its place at the end, and is gone if anything fails."""
    if target.exists():
        raise ModelError(f"{target} exists: choose another folder, or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise ModelError(f"{target} cannot be made: {error}") from error
    try:
        folder.chmod(0o755)  # mkdtemp's folders are for nobody else
        yield folder
        folder.rename(target)
    except OSError as error:
        raise ModelError(f"{target} cannot be written: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
