"""diffusion-asr as a NeMo model: ``transcribe``, ``.nemo`` files, and fine-tuning with Lightning."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from nemo.collections.asr.models.asr_model import ASRModel
from nemo.utils import logging, model_utils
from nemo.utils.app_state import AppState
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffusion_asr.acoustics.encoder import AcousticMemory, WhisperEncoder
from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.errors import ModelError
from diffusion_asr.models.folder import find_model
from diffusion_asr.models.tuned import Source, copy_model, find_denoiser, write_tuned
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_nemo.archive import FOLDER, FolderConnector, source_of
from diffusion_asr_nemo.decoding import (
    as_section,
    decoding_options,
    decoding_section,
    foreign_fields,
)
from diffusion_asr_nemo.features import CanvasPreprocessor, preprocessor_section
from diffusion_asr_nemo.tokenizer import CanvasTokenizer
from diffusion_asr_nemo.toolkit import RecognitionError, in_core_precision
from diffusion_asr_nemo.training import DiffusionTraining
from diffusion_asr_nemo.transcribing import DiffusionTranscription


def model_config(
    checkpoint: str | os.PathLike[str] = "canvas-base", language: str | None = None, **decoding: Any
) -> DictConfig:
    """A model's configuration.

    Args:
        checkpoint: As ``Recognizer.from_pretrained`` takes it.
        language: Of clips for which nobody says another; None detects it.
        decoding: Fields of ``DecodingOptions`` by name.

    Raises:
        RecognitionError: An option that does not exist, or a value that makes no sense.
    """
    return OmegaConf.create(
        {
            "checkpoint": str(checkpoint),
            "sample_rate": SAMPLE_RATE,
            "language": language,
            "decoding": decoding_section(decoding_options(decoding)),
        }
    )


class DiffusionASRModel(DiffusionTranscription, DiffusionTraining, ASRModel):  # type: ignore[misc]
    """A diffusion-asr recogniser that NeMo's scripts can load, run and fine-tune.

    It computes on the CPU in core's precision, whatever device, precision or autocast it is given: its words
    are core's.

    Example:
        >>> model = DiffusionASRModel.from_checkpoint("canvas-base")
        >>> model.transcribe(["talk.wav"], source_lang="de", timestamps=True)[0].timestamp["word"]
        >>> model.save_to("canvas-base.nemo")
    """

    def __init__(self, cfg: DictConfig, trainer: Any = None) -> None:
        """Load the model folder in the ``.nemo`` file being restored, else ``cfg.checkpoint``.

        Raises:
            RecognitionError: No such model, a corrupt one, or an option that makes no sense.
        """
        cfg = model_utils.convert_model_config_to_dict_config(cfg)
        with open_dict(cfg):  # checked before any work, and with today's names when it is saved
            cfg.decoding = decoding_section(decoding_options(cfg.get("decoding")))
        folder = _restored_folder()
        with translate_errors(RecognitionError):
            folder = folder or find_model(cfg.get("checkpoint") or "canvas-base")
            # NeMo's constructor sets up data sets, which need the vocabulary: the recogniser comes first.
            self.recognizer = Recognizer.from_pretrained(folder)
            code = self.recognizer.check_language(cfg.get("language"))
            self._source = _restored_source(folder) or Source.of(folder)
            # NeMo deletes what it unpacked before a text is spelled.
            self.recognizer.parts.vocabulary.read_merges()
        self._tuned = False
        self.tokenizer = CanvasTokenizer(self.recognizer.parts.vocabulary, code)
        super().__init__(cfg=cfg, trainer=trainer)
        self._save_restore_connector = FolderConnector()
        parts = self.recognizer.parts  # not named encoder or decoder: NeMo would freeze and unfreeze those
        self.listener, self.canvas, self.language = parts.encoder, parts.denoiser, parts.language
        if isinstance(parts.encoder, WhisperEncoder):
            self.preprocessor = CanvasPreprocessor(parts.encoder.log_mel)
            with open_dict(self.cfg):
                self.cfg.preprocessor = preprocessor_section(parts.encoder.config.n_mels)

    # -- loading and saving

    @classmethod
    def from_checkpoint(cls, checkpoint: str | os.PathLike[str] = "canvas-base", **options: Any) -> Any:
        """A model from an embedded model's name or a model folder.

        Args:
            checkpoint: As ``Recognizer.from_pretrained`` takes it.
            options: ``language`` and fields of ``DecodingOptions``, kept in the ``.nemo`` file.

        Raises:
            RecognitionError: No such model, a corrupt one, or an option that makes no sense.
        """
        return cls(model_config(checkpoint, **options))

    @classmethod
    def from_config_dict(cls, config: DictConfig, trainer: Any = None) -> Any:
        """Build this class: NeMo's own version imports the class that a file names, from its allow-list."""
        try:
            return cls(cfg=config, trainer=trainer)
        except Exception:
            cls._set_model_restore_state(
                is_being_restored=False
            )  # or the next model would look for this file
            raise

    @classmethod
    def restore_from(cls, restore_path: str, *args: Any, **kwargs: Any) -> Any:
        """See ``ModelPT.restore_from``; reads a model folder instead of a pickled state dict."""
        if not kwargs.get("save_restore_connector"):
            kwargs["save_restore_connector"] = FolderConnector()
        return super().restore_from(restore_path, *args, **kwargs)

    @classmethod
    def list_available_models(cls) -> list[Any]:
        """None are on NVIDIA's servers."""
        return []

    def save_folder(self, folder: Path, refiner: bool = True) -> None:
        """Write a model folder that ``Recognizer.from_pretrained`` loads; trained weights are float32.

        Args:
            folder: The folder to make.
            refiner: False leaves the text to the denoiser alone; see ``diffusion_asr.models.tuned``.

        Raises:
            RecognitionError: What this model was loaded from is gone, or ``folder`` exists.
        """
        with translate_errors(RecognitionError):
            if self._tuned or not refiner:
                weights = find_denoiser(self.recognizer.parts).state_dict()
                write_tuned(self._source, folder, weights, refiner)
            else:
                copy_model(self._source, folder)

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """Take a Lightning checkpoint's weights, in float32."""
        self._make_trainable()
        return super().load_state_dict(state_dict, *args, **kwargs)

    # -- what NeMo's scripts ask a model for

    def change_decoding_strategy(
        self, decoding_cfg: Any = None, decoder_type: str | None = None, verbose: bool = True
    ) -> None:
        """Take what a section ``decoding`` states; the rest stays as it is.

        Args:
            decoding_cfg: Fields of ``DecodingOptions``. Those of NeMo's own decoders, whose sections its
                scripts hand over, change nothing.
            decoder_type: Not looked at: there is one.
            verbose: Say so in the log.

        Raises:
            RecognitionError: An option that is neither's, or a value that makes no sense.
        """
        section = as_section(decoding_cfg)
        options = decoding_options(section, self.decoding.options)
        with open_dict(self.cfg):
            self.cfg.decoding = decoding_section(options)
        if verbose and (foreign := foreign_fields(section)):
            logging.info(f"diffusion-asr decodes with {options}; {', '.join(foreign)} mean nothing to it")

    def change_vocabulary(self, *args: Any, **kwargs: Any) -> None:
        """Refused.

        Raises:
            RecognitionError: Always.
        """
        raise RecognitionError(
            "the vocabulary is part of the model and cannot be changed: set model.tokenizer.update_tokenizer "
            "and model.char_labels.update_labels to false"
        )

    def change_attention_model(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: recordings of any length are cut where nobody speaks."""

    @in_core_precision
    def forward(
        self,
        input_signal: Tensor | None = None,
        input_signal_length: Tensor | None = None,
        processed_signal: Tensor | None = None,
        processed_signal_length: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One denoising step from the empty canvas: the draft, as a CTC model of NeMo gives its output.

        Args:
            input_signal: (B, samples) at 16 kHz, at most 30 s.
            input_signal_length: (B,) samples of each clip; None if none is padded.
            processed_signal: Or what ``preprocessor`` made of it, (B, n_mels, frames).
            processed_signal_length: (B,) frames of each clip.

        Returns:
            ``(log_probs (B, slots, V), slots (B,), greedy (B, slots))``; the blank is 0. The language is the
            model's, or detected.

        Raises:
            RecognitionError: See ``Recognizer.encode``; a model without a canvas denoiser; both inputs or
                none.
        """
        if (input_signal is None) == (processed_signal is None):
            raise RecognitionError("forward takes either input_signal or processed_signal")
        with translate_errors(RecognitionError):
            if input_signal is not None:
                lengths = None if input_signal_length is None else input_signal_length.cpu().long()
                memory = self.recognizer.encode(input_signal.cpu().float(), lengths).trainable()
            else:
                memory = self._encode_features(processed_signal, processed_signal_length)
            denoiser = find_denoiser(self.recognizer.parts)
            languages = self.recognizer.choose_languages(memory, self.cfg.get("language"))
            state = denoiser.prepare(memory, languages)
            logits = denoiser.logits(denoiser.hidden(denoiser.null_canvas(state), state))
        given: Any = processed_signal if input_signal is None else input_signal
        log_probs = logits.float().log_softmax(-1).to(given.device)
        return log_probs, state.slots.mask.sum(1).to(given.device), log_probs.argmax(-1)

    def _encode_features(self, features: Any, frames: Tensor | None) -> AcousticMemory:
        encoder = self.recognizer.parts.encoder
        if not isinstance(encoder, WhisperEncoder):
            raise ModelError(f"{self.recognizer.parts.name} takes no features: give input_signal")
        counts = [features.shape[2]] * len(features) if frames is None else frames.tolist()
        with torch.no_grad():
            states = [encoder(clip[None, :, :n])[0] for clip, n in zip(features.cpu(), counts, strict=True)]
        mask = torch.arange(max(map(len, states))) < torch.tensor([len(s) for s in states])[:, None]
        return AcousticMemory(pad_sequence(states, batch_first=True), mask, encoder.frame_rate)

    # -- where it computes

    @property
    def device(self) -> torch.device:
        """The CPU, wherever Lightning thinks that it has moved the model."""
        return torch.device("cpu")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        """What ``to`` and ``half`` do with a module: nothing, it stays where core computes."""
        return self

    def cuda(self, device: Any = None) -> Any:
        """Likewise; Lightning would look for the accelerator first."""
        return self


def _restored_folder() -> Path | None:
    """The model folder of the ``.nemo`` file that NeMo is restoring, or None if it restores none.

    Raises:
        RecognitionError: The file holds no model folder.
    """
    state = AppState()
    if not state.is_model_being_restored or not state.nemo_file_folder:
        return None
    folder = Path(state.nemo_file_folder) / FOLDER
    if not folder.is_dir():
        with translate_errors(RecognitionError):
            raise ModelError(
                f"{state.model_restore_path} is no diffusion-asr model: it holds no folder {FOLDER!r}"
            )
    return folder


def _restored_source(unpacked: Path) -> Source | None:
    """Where the files of a model being restored stay: its ``.nemo`` file, or a folder someone unpacked."""
    if _restored_folder() is None:
        return None
    path = Path(AppState().model_restore_path)
    return Source.of(path / FOLDER) if path.is_dir() else source_of(path, unpacked)
