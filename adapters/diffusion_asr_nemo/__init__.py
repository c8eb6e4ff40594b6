"""diffusion-asr for NeMo.

>>> from diffusion_asr_nemo import DiffusionASRModel
>>> model = DiffusionASRModel.from_checkpoint("canvas-base")
>>> model.transcribe(["talk.wav"], timestamps=True)[0].timestamp["word"]

``python -m diffusion_asr_nemo export canvas-base.nemo`` writes a file for NeMo's own scripts.
"""

from diffusion_asr.errors import ToolkitMissingError
from diffusion_asr_nemo import toolkit as _toolkit  # its error comes before NeMo's own
from diffusion_asr_nemo.hypotheses import words_and_times
from diffusion_asr_nemo.model import DiffusionASRModel, model_config
from diffusion_asr_nemo.scripts import accept_archives
from diffusion_asr_nemo.toolkit import RecognitionError
from diffusion_asr_nemo.transcribing import DiffusionTranscribeConfig

TOOLKIT = "nemo-toolkit"
TOOLKIT_VERSION: str = _toolkit.VERSION

__all__ = [
    "TOOLKIT",
    "TOOLKIT_VERSION",
    "DiffusionASRModel",
    "DiffusionTranscribeConfig",
    "RecognitionError",
    "ToolkitMissingError",
    "accept_archives",
    "model_config",
    "words_and_times",
]
