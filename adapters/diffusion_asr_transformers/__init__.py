"""diffusion-asr for transformers.

>>> from transformers import pipeline
>>> import diffusion_asr_transformers
>>> asr = pipeline("diffusion-asr")  # the embedded canvas-base
>>> asr("talk.flac", return_timestamps="word", generate_kwargs={"language": "de"})

The task's stock name does as well: ``pipeline("automatic-speech-recognition", model=CANVAS_BASE)``, or with
a saved model's folder. Importing this package registers configuration, model, tokenizer, feature extractor,
processor and both tasks.
"""

from diffusion_asr_transformers import toolkit as _toolkit  # its error comes before transformers' own
from diffusion_asr_transformers.arguments import PipelineInputError
from diffusion_asr_transformers.configuration import DiffusionASRConfig
from diffusion_asr_transformers.feature_extraction import DiffusionASRFeatureExtractor
from diffusion_asr_transformers.generation import DiffusionASRGenerateOutput
from diffusion_asr_transformers.model import DiffusionASRForSpeech
from diffusion_asr_transformers.pipeline import DiffusionASRPipeline
from diffusion_asr_transformers.processing import DiffusionASRProcessor
from diffusion_asr_transformers.registration import CANVAS_BASE, TASK, register
from diffusion_asr_transformers.tokenization import DiffusionASRTokenizer

TOOLKIT = "transformers"
TOOLKIT_VERSION = _toolkit.VERSION
register()

__all__ = [
    "CANVAS_BASE",
    "TASK",
    "TOOLKIT",
    "TOOLKIT_VERSION",
    "DiffusionASRConfig",
    "DiffusionASRFeatureExtractor",
    "DiffusionASRForSpeech",
    "DiffusionASRGenerateOutput",
    "DiffusionASRPipeline",
    "DiffusionASRProcessor",
    "DiffusionASRTokenizer",
    "PipelineInputError",
]
