"""diffusion-asr for SpeechBrain.

>>> from diffusion_asr_speechbrain import CANVAS_BASE, DiffusionASR
>>> asr = DiffusionASR.from_hparams(source=CANVAS_BASE)
>>> asr.transcribe_file("talk.wav", language="de")

YAML files for SpeechBrain's own recipes lie in the project's ``recipes/speechbrain``.
"""

from diffusion_asr_speechbrain import toolkit as _toolkit
from diffusion_asr_speechbrain.checkpoints import export
from diffusion_asr_speechbrain.inference import CANVAS_BASE as _FOLDER
from diffusion_asr_speechbrain.inference import DiffusionASR
from diffusion_asr_speechbrain.module import DiffusionModule
from diffusion_asr_speechbrain.recipe import DiffusionEncoder, DiffusionLoss, DiffusionSearcher
from diffusion_asr_speechbrain.tokenizer import CanvasTokenizer
from diffusion_asr_speechbrain.toolkit import RecognitionError

TOOLKIT = "speechbrain"
TOOLKIT_VERSION = _toolkit.VERSION
CANVAS_BASE = str(_FOLDER)
"""Folder for ``from_hparams`` and ``foreign_class``: the embedded model."""

__all__ = [
    "CANVAS_BASE",
    "TOOLKIT",
    "TOOLKIT_VERSION",
    "CanvasTokenizer",
    "DiffusionASR",
    "DiffusionEncoder",
    "DiffusionLoss",
    "DiffusionModule",
    "DiffusionSearcher",
    "RecognitionError",
    "export",
]
