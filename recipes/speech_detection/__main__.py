"""The network of speech detection, from Silero's weights to the ONNX file that the package carries.

    python -m recipes.speech_detection                        from the installed silero-vad package
    python -m recipes.speech_detection --weights FILE --out FILE

Needs ``pip install 'diffusion-asr[train]'``. The weights are ``silero_vad_16k.safetensors`` of the package
silero-vad 6.2.1 or later (MIT, https://github.com/snakers4/silero-vad). The package's own ONNX files hold
another training of the same network (no better on the AMI meetings that we tried), and they take one chunk of
32 ms at a time.

Prints the sha256 of what it wrote. ``core/diffusion_asr/audio/speech.py`` states the one that it accepts, so
other weights are a change of that line too.
"""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from safetensors.numpy import load_file

from diffusion_asr.audio.speech import NETWORK
from recipes.speech_detection.graph import build

app = typer.Typer(add_completion=False, rich_markup_mode=None)


def package_weights() -> Path:
    """The file in the installed package, which is not imported: that sets torch to one thread.

    Raises:
        SystemExit: The package is not installed.
    """
    package = find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("silero-vad is not installed: pip install 'diffusion-asr[train]'")
    return Path(package.submodule_search_locations[0]) / "data/silero_vad_16k.safetensors"


@app.command(help=__doc__)
def main(
    weights: Annotated[Path | None, typer.Option(help="Another copy of the safetensors file.")] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = NETWORK,
) -> None:
    model = build(load_file(weights or package_weights())).SerializeToString(deterministic=True)
    out.write_bytes(model)
    print(f"{out}: {len(model)} bytes, sha256 {hashlib.sha256(model).hexdigest()}")


if __name__ == "__main__":
    app()
