"""diffusion-asr for transformers.

>>> from transformers import pipeline
>>> import diffusion_asr_transformers
>>> asr = pipeline("diffusion-asr")  # the embedded canvas-base
>>> asr("talk.flac", return_timestamps="word", generate_kwargs={"language": "de"})

With the task's stock name: ``pipeline("automatic-speech-recognition", pipeline_class=DiffusionASRPipeline,
model=DiffusionASRForSpeech.from_pretrained())``. Importing this package registers configuration, model
and task.
"""

from pathlib import Path

from diffusion_asr_transformers import toolkit as _toolkit  # its error comes before transformers' own
from diffusion_asr_transformers.model import DiffusionASRConfig, DiffusionASRForSpeech
from diffusion_asr_transformers.pipeline import DiffusionASRPipeline, PipelineInputError

from transformers import AutoConfig, AutoModelForSpeechSeq2Seq  # isort: skip
from transformers.pipelines import PIPELINE_REGISTRY  # isort: skip

TOOLKIT = "transformers"
TOOLKIT_VERSION = _toolkit.VERSION
TASK = "diffusion-asr"
CANVAS_BASE = Path(__file__).parent / "canvas-base"
"""Folder that names the embedded model, for the Auto classes and ``pipeline(model=…)``."""

AutoConfig.register(DiffusionASRConfig.model_type, DiffusionASRConfig)
AutoModelForSpeechSeq2Seq.register(DiffusionASRConfig, DiffusionASRForSpeech)
PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=DiffusionASRPipeline,
    pt_model=AutoModelForSpeechSeq2Seq,
    default={"model": (str(CANVAS_BASE), "main")},
    type="audio",
)

__all__ = [
    "CANVAS_BASE",
    "TASK",
    "TOOLKIT",
    "TOOLKIT_VERSION",
    "DiffusionASRConfig",
    "DiffusionASRForSpeech",
    "DiffusionASRPipeline",
    "PipelineInputError",
]
