"""Makes the adapter's classes known to transformers' Auto classes and to ``pipeline``."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES
from transformers.pipelines import PIPELINE_REGISTRY

from diffusion_asr_transformers.configuration import DiffusionASRConfig
from diffusion_asr_transformers.feature_extraction import DiffusionASRFeatureExtractor
from diffusion_asr_transformers.model import DiffusionASRForSpeech
from diffusion_asr_transformers.pipeline import DiffusionASRPipeline
from diffusion_asr_transformers.processing import DiffusionASRProcessor
from diffusion_asr_transformers.stock import take_task
from diffusion_asr_transformers.tokenization import DiffusionASRTokenizer

TASK = "diffusion-asr"
CANVAS_BASE = Path(__file__).parent / "canvas-base"
"""Folder that names the embedded model, for the Auto classes and ``pipeline(model=…)``."""


def register() -> None:
    """Once for a process."""
    AutoConfig.register(DiffusionASRConfig.model_type, DiffusionASRConfig)
    AutoModel.register(DiffusionASRConfig, DiffusionASRForSpeech)
    AutoModelForSpeechSeq2Seq.register(DiffusionASRConfig, DiffusionASRForSpeech)
    AutoFeatureExtractor.register(DiffusionASRConfig, DiffusionASRFeatureExtractor)
    AutoTokenizer.register(DiffusionASRConfig, slow_tokenizer_class=DiffusionASRTokenizer)
    AutoProcessor.register(DiffusionASRConfig, DiffusionASRProcessor)
    # By this list transformers' own pipeline tells that a model generates text, where it is made by hand.
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[DiffusionASRConfig.model_type] = DiffusionASRForSpeech.__name__
    PIPELINE_REGISTRY.register_pipeline(
        TASK,
        pipeline_class=DiffusionASRPipeline,
        pt_model=AutoModelForSpeechSeq2Seq,
        default={"model": (str(CANVAS_BASE), "main")},
        type="audio",
    )
    take_task()
