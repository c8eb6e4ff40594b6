"""``pipeline("automatic-speech-recognition", model=…)``: the task's own name, for this model as for others.

transformers decides how a model speaks to that pipeline by a fixed list of its own models. So the task's
name leads here first, and on to transformers' pipeline for every model but ours.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoFeatureExtractor, AutoTokenizer
from transformers.pipelines import PIPELINE_REGISTRY, AutomaticSpeechRecognitionPipeline

from diffusion_asr_transformers.model import DiffusionASRForSpeech
from diffusion_asr_transformers.pipeline import DiffusionASRPipeline

TASK = "automatic-speech-recognition"


class SpeechRecognitionPipeline:
    """Makes a ``DiffusionASRPipeline`` for our model, transformers' own pipeline for any other."""

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = None
    _load_feature_extractor = None  # None: where there is one; ours needs none to be named
    _load_tokenizer = None

    def __new__(cls, model: Any, **kwargs: Any) -> Any:
        """The pipeline itself, never an object of this class."""
        if isinstance(model, DiffusionASRForSpeech):
            return DiffusionASRPipeline(model=model, **kwargs)
        for name, loader in (("tokenizer", AutoTokenizer), ("feature_extractor", AutoFeatureExtractor)):
            if kwargs.get(name) is None and kwargs.get("processor") is None:  # it was left out: say why
                kwargs[name] = loader.from_pretrained(model.config.name_or_path, local_files_only=True)
        return AutomaticSpeechRecognitionPipeline(model=model, **kwargs)


def take_task() -> None:
    """Let the task's name lead to ``SpeechRecognitionPipeline``."""
    entry = PIPELINE_REGISTRY.supported_tasks[TASK]
    PIPELINE_REGISTRY.supported_tasks[TASK] = {**entry, "impl": SpeechRecognitionPipeline}
