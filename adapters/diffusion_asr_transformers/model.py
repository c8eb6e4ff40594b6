"""The recogniser as a transformers model: its modules under one roof, ``generate``, saving and loading.

A saved model is transformers' ``config.json`` and, in ``recognizer/``, a signed folder of core's format
(safetensors, vocabulary, a sha256 for each file), which ``Recognizer.from_pretrained`` reads too.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from diffusion_asr.audio.files import convert_to_mono
from diffusion_asr.decoding.canvas import NULL
from diffusion_asr.decoding.objective import compute_losses
from diffusion_asr.errors import ModelError
from diffusion_asr.models.tuned import Source, find_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_transformers.arguments import (
    PipelineInputError,
    make_options,
    read_arguments,
    read_generation_config,
    warn_idle,
)
from diffusion_asr_transformers.configuration import FOLDER, DiffusionASRConfig, read_config
from diffusion_asr_transformers.feature_extraction import DiffusionASRFeatureExtractor
from diffusion_asr_transformers.generation import DiffusionASRGenerateOutput, generate_tokens
from diffusion_asr_transformers.hub import find_home
from diffusion_asr_transformers.saving import save_recognizer

_PLACED = "device_map", "dtype", "torch_dtype", "quantization_config", "load_in_8bit", "load_in_4bit"
_CPU = torch.device("cpu")
_SUITED = (None, "auto", "cpu", _CPU, False)


class DiffusionASRForSpeech(PreTrainedModel):  # type: ignore[misc]
    """A recogniser's encoder, denoiser, language posterior and rewriting decoder as a transformers model.

    It computes on the CPU, wherever it is sent: the shipped weights are packed for it. Inputs may lie on any
    device, and results come back to it.

    Example:
        >>> model = DiffusionASRForSpeech.from_pretrained("canvas-base")
        >>> model.recognizer.transcribe("talk.flac").text
    """

    config_class = DiffusionASRConfig
    base_model_prefix = "recognizer"
    main_input_name = "input_values"
    input_modalities = ("audio",)
    output_modalities = ("text",)
    _supports_sdpa = True  # the only attention there is

    def __init__(self, config: DiffusionASRConfig, recognizer: Recognizer | None = None) -> None:
        """Load ``config.checkpoint`` unless a recogniser is given.

        Raises:
            ModelError: No such model, or a corrupt one.
        """
        recognizer = recognizer or Recognizer.from_pretrained(config.find_checkpoint())
        config.languages = list(recognizer.languages)
        config.vocab_size = len(recognizer.parts.vocabulary)
        super().__init__(config)
        self.recognizer = recognizer
        parts = recognizer.parts
        self.encoder, self.denoiser, self.language = parts.encoder, parts.denoiser, parts.language
        own = (self.encoder, self.denoiser, self.language)
        self.others = nn.ModuleList(part for part in parts.modules if not any(part is one for one in own))
        self.generation_config = GenerationConfig(pad_token_id=config.pad_token_id, is_multilingual=True)
        self._loaded = [(weight.dtype, _sum_bits(weight)) for weight in _parameters(self.denoiser)]

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike[str] = "canvas-base", *args: Any, **kwargs: Any
    ) -> DiffusionASRForSpeech:
        """The embedded model by name, a folder that ``save_pretrained`` wrote, or a folder of core's format.

        Nothing is fetched but a repository of the hub that is named, ``organisation/model``. Core chooses
        device and precision: the CPU, in bf16 where it has it.

        Raises:
            ModelError: No such model, or a corrupt one.

        Warns:
            UserWarning: Another device or precision is asked for.
        """
        asked = [name for name in _PLACED if kwargs.get(name) not in _SUITED]
        warn_idle(asked, "this model computes on the CPU, in the precision that suits it")
        home, config = find_home(name, kwargs), kwargs.get("config")
        if not isinstance(config, DiffusionASRConfig):
            config = read_config(home) or DiffusionASRConfig(str(home))
        if home != name:
            config.name_or_path = str(home)
        model = cls(config)
        if (Path(home) / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(home)
        return model.eval()  # type: ignore[no-any-return]

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], *args: Any, push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Write ``config.json``, ``recognizer/`` and what the Auto classes need to load its processor.

        A model that was saved there before is replaced. Trained denoiser weights are stored as float32.

        Raises:
            ModelError: What this model was loaded from is gone, or the target holds something else.
            PipelineInputError: ``push_to_hub``, which is a command of its own.
        """
        if push_to_hub:
            raise PipelineInputError("save_pretrained writes to the disk only: use push_to_hub() for the hub")
        weights = find_denoiser(self.recognizer.parts).state_dict() if self._is_trained() else None
        save_recognizer(Source.of(self.config.find_checkpoint()), Path(save_directory) / FOLDER, weights)
        config = copy.deepcopy(self.config)
        config.checkpoint, config.architectures = FOLDER, [type(self).__name__]
        config.save_pretrained(save_directory)
        self.generation_config.save_pretrained(save_directory)
        DiffusionASRFeatureExtractor().save_pretrained(save_directory)

    @classmethod
    def can_generate(cls) -> bool:
        """Yes, by ``generate``."""
        return True

    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_values: Tensor | None = None,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_timestamps: bool | str | None = None,
        return_dict_in_generate: bool | None = None,
        **kwargs: Any,
    ) -> Tensor | DiffusionASRGenerateOutput:
        """Transcribe clips of any length, in the same words as ``Recognizer.transcribe``.

        Args:
            inputs: What the feature extractor returns: (B, samples) at 16 kHz.
            generation_config: Arguments in one; those that are named come first.
            input_values: The same as ``inputs``.
            input_features: The same as ``inputs``, as Whisper calls it.
            attention_mask: (B, samples), 0 on padding.
            labels: Taken and not looked at: ``Seq2SeqTrainer`` hands over whole batches.
            return_timestamps: Taken, for Whisper's sake: times are in ``transcripts``.
            return_dict_in_generate: Return ``DiffusionASRGenerateOutput`` with ids and transcripts.
            kwargs: ``language``: a code, name or tag, or one for each clip; fields of ``DecodingOptions``.
                Others that transformers knows change nothing, and are named in a warning.

        Returns:
            (B, tokens) ids for the tokenizer, padded with null, on the inputs' device.

        Raises:
            PipelineInputError: Wrong shapes, samples that are no sound, an argument that makes no sense.
        """
        given = [x for x in (inputs, input_values, input_features) if x is not None]
        if len(given) != 1:
            raise PipelineInputError(f"generate takes one of inputs, input_values, not {len(given)}")
        asked = {**self.decoding_defaults(), **kwargs, "generation_config": generation_config}
        found = read_arguments(asked, self.recognizer.languages)
        clips = _cut_padding(given[0], attention_mask)
        languages = found.pop("language", None)
        languages = languages if isinstance(languages, list) else [languages] * len(clips)
        if len(languages) != len(clips):
            raise PipelineInputError(f"{len(languages)} languages for {len(clips)} clips")
        out = generate_tokens(self.recognizer, clips, languages, make_options(found))
        assert out.sequences is not None
        out.sequences = out.sequences.to(given[0].device)
        return out if return_dict_in_generate else out.sequences

    def decoding_defaults(self) -> dict[str, Any]:
        """What the model's own ``generation_config`` asks for."""
        idle = ("pad_token_id", "is_multilingual", "cache_implementation")
        values = read_generation_config(self.generation_config)
        return {name: value for name, value in values.items() if name not in idle}

    # torch.compile would break it into many graphs, and round otherwise.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        lengths: Tensor | None = None,
        language: Sequence[str | None] | str | None = None,
        canvas: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutput | tuple[Tensor, ...]:
        """One parallel pass of the denoiser, with gradients if it has them; with labels, its loss.

        ``diffusion_asr.models.tuned.make_trainable(model.recognizer.parts)`` gives it gradients.

        Args:
            input_values: (B, samples) at 16 kHz, at most 30 s.
            attention_mask: (B, samples), 0 on padding.
            labels: (B, tokens) ids of the texts; null (0) and -100 are padding.
            lengths: (B,) samples of each clip, in place of ``attention_mask``.
            language: One for all clips or one for each, by code, name or tag; None detects it.
            canvas: (B, slots) token ids; None is all null.
            return_dict: False returns a tuple.

        Returns:
            ``logits`` (B, slots, pieces) on the inputs' device, id 0 is null; with labels, ``loss`` as well:
            uniform-noise diffusion's, the mean of two denoising steps (``decoding.objective``).

        Raises:
            AudioError: Wrong shape, too long or not finite.
            LanguageError: Unknown language.
            ModelError: A model without a canvas denoiser.
        """
        device, parts = input_values.device, self.recognizer.parts
        if lengths is None and attention_mask is not None:
            lengths = attention_mask.to(_CPU).sum(-1)
        lengths, canvas = (None if x is None else x.to(_CPU) for x in (lengths, canvas))
        denoiser = find_denoiser(parts)
        memory = self.recognizer.encode(input_values.to(_CPU), lengths)
        languages = self.recognizer.choose_languages(memory, language)
        loss = None
        with torch.autocast("cpu", enabled=False):  # core chooses its own precision
            state = denoiser.prepare(memory, languages)
            hidden = denoiser.hidden(denoiser.null_canvas(state) if canvas is None else canvas, state)
            logits = denoiser.logits(hidden)
            if labels is not None:
                targets = [row[row > NULL] for row in labels.to(_CPU)]
                first, second = compute_losses(denoiser, memory, languages, targets)
                loss = ((first + second) / 2).to(device)
        out = CausalLMOutput(loss=loss, logits=logits.to(device))
        return out if return_dict is not False else out.to_tuple()

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process as the recogniser does: by the name of the model, which is loaded again."""
        if self._is_trained():
            raise ModelError(
                "a trained model goes to another process by its folder: save_pretrained it first"
            )
        return _make_again, (type(self), self.config, self.recognizer, self.generation_config, self.training)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DiffusionASRForSpeech:
        """Stay on the CPU and in core's precision, whatever ``to``, ``cuda`` or ``half`` ask for.

        Float32 alone is granted: it is what training needs.
        """
        wanted = fn(torch.zeros(1))
        idle = [str(wanted.device)] if wanted.device.type != "cpu" else []
        idle += [str(wanted.dtype)] if wanted.dtype != torch.float32 else []
        if not idle:
            return super()._apply(fn, recurse)  # type: ignore[no-any-return]
        warn_idle(idle, "this model computes on the CPU, in the precision that suits it")
        return self

    def _is_trained(self) -> bool:
        """Whether a weight of the denoiser is another than when the model was loaded.

        torch's own count of writes misses fused optimizers, which are ``Trainer``'s default.
        """
        loaded = zip(_parameters(self.denoiser), self._loaded, strict=True)
        return any(_is_changed(weight, dtype, bits) for weight, (dtype, bits) in loaded)


def _parameters(module: nn.Module | None) -> list[Tensor]:
    return [] if module is None else [parameter.detach() for parameter in module.parameters()]


def _is_changed(weight: Tensor, dtype: torch.dtype, bits: int) -> bool:
    """Whether it is not what had this precision and this sum of bits; training needs a wider precision."""
    narrow = weight.to(dtype)
    return _sum_bits(narrow) != bits or not torch.equal(narrow.to(weight.dtype), weight)


def _sum_bits(weight: Tensor) -> int:
    """The sum of its bytes, eight at a time: a checksum that costs next to nothing."""
    data = weight.contiguous().flatten().view(torch.uint8)
    data = data.clone() if data.storage_offset() % 8 else data
    whole = len(data) // 8 * 8
    return int(data[:whole].view(torch.int64).sum()) + int(data[whole:].sum())


def _make_again(
    kind: type[DiffusionASRForSpeech],
    config: DiffusionASRConfig,
    recognizer: Recognizer,
    generation_config: GenerationConfig,
    training: bool,
) -> DiffusionASRForSpeech:
    model = kind(config, recognizer)
    model.generation_config = generation_config
    return model.train(training)  # type: ignore[no-any-return]


def _cut_padding(values: Tensor, attention_mask: Tensor | None) -> list[Any]:
    """(samples,) float32 of each clip, on the CPU."""
    values = values.detach().to(_CPU)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise PipelineInputError(f"inputs of shape {tuple(values.shape)}: give (batch, samples) at 16 kHz")
    if attention_mask is None:
        lengths = [values.shape[1]] * len(values)
    elif attention_mask.numel() != values.numel():
        raise PipelineInputError(
            f"attention_mask {tuple(attention_mask.shape)} does not fit inputs {tuple(values.shape)}"
        )
    else:
        lengths = attention_mask.to(_CPU).reshape(values.shape).sum(-1).long().tolist()
    with translate_errors(PipelineInputError):
        return [convert_to_mono(clip[:length]) for clip, length in zip(values, lengths, strict=True)]
