"""diffusion-asr as a NeMo model: ``transcribe``, ``.nemo`` files, and fine-tuning with Lightning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nemo.collections.asr.metrics.wer import word_error_rate_detail
from nemo.collections.asr.models.asr_model import ASRModel
from nemo.collections.asr.parts.mixins import ASRTranscriptionMixin, TranscribeConfig
from nemo.utils import logging, model_utils
from nemo.utils.app_state import AppState
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.decoding.objective import compute_losses
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import ModelError
from diffusion_asr.models.folder import find_model
from diffusion_asr.models.tuned import Source, copy_model, find_denoiser, make_trainable, write_tuned
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr.transcript import Transcript
from diffusion_asr_nemo.archive import FOLDER, FolderConnector, source_of
from diffusion_asr_nemo.clips import Clip, clips_of, entry_clip, loader, read_entries, samples_of, whole_file
from diffusion_asr_nemo.decoding import decoding_options, decoding_section
from diffusion_asr_nemo.hypotheses import to_nemo
from diffusion_asr_nemo.toolkit import RecognitionError
from diffusion_asr_nemo.training_data import Utterance, training_loader


@dataclass
class DiffusionTranscribeConfig(TranscribeConfig):  # type: ignore[misc]
    """NeMo's options of ``transcribe``, and ours.

    Attributes:
        source_lang: Language of clips whose manifest entry names none; None takes the model's ``language``.
        prompt: NeMo's prompt turns; a slot ``source_lang`` is read from them.
        steps: Passes at most; None takes the model's ``decoding.steps``.
        lang_field: Key of the language in a manifest.
    """

    source_lang: str | None = None
    prompt: Any = None
    steps: int | None = None
    text_field: str = "text"
    lang_field: str = "lang"


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


class DiffusionASRModel(ASRModel, ASRTranscriptionMixin):  # type: ignore[misc]
    """A diffusion-asr recogniser that NeMo's scripts can load, run and fine-tune.

    It computes on the CPU in core's precision: ``to`` leaves it there, so that its words are core's.

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
            self._source = _restored_source(folder) or Source.of(folder)
            self._vocabulary = self.recognizer.parts.vocabulary
            self._vocabulary.read_merges()  # NeMo deletes what it unpacked before a text is spelled
        self._tuned = False
        super().__init__(cfg=cfg, trainer=trainer)
        self._save_restore_connector = FolderConnector()
        parts = self.recognizer.parts  # not named encoder or decoder: NeMo would freeze and unfreeze those
        self.listener, self.canvas, self.language = parts.encoder, parts.denoiser, parts.language

    @property
    def decoding(self) -> DecodingOptions:
        """How clips are decoded: the section ``decoding`` of ``cfg``, which the ``.nemo`` file keeps.

        Raises:
            RecognitionError: Somebody has written into it what makes no sense.
        """
        return decoding_options(self.cfg.decoding)

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

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Stay on the CPU and in core's precision."""
        device = torch._C._nn._parse_to(*args, **kwargs)[0]
        if device is not None and device.type != "cpu":
            logging.warning(f"diffusion-asr computes on the CPU; it stays there instead of {device}")
        return self

    # -- transcribing

    @torch.inference_mode()
    def transcribe(self, audio: Any, *args: Any, override_config: Any = None, **options: Any) -> Any:
        """See ``TranscriptionMixin.transcribe``; ``options`` may hold those of ``DiffusionTranscribeConfig``.

        Recordings may be of any length, rate and channel number; arrays must be at 16 kHz. Speech is found
        first, so that silence gives an empty text.

        Returns:
            One ``Hypothesis`` for each clip, with text, language (``langs``) and ``word_confidence``; with
            ``timestamps`` or ``return_hypotheses`` also the times of words and segments, in seconds.

        Raises:
            RecognitionError: Unreadable audio, an unknown language or option value.
        """
        if override_config is None:
            names = ("use_lhotse", "batch_size", "return_hypotheses", "num_workers", "channel_selector")
            given = dict(zip((*names, "augmentor", "verbose", "timestamps"), args, strict=False))
            override_config = DiffusionTranscribeConfig(**{"num_workers": 0, **given, **options})
        if getattr(override_config, "augmentor", None):
            raise NotImplementedError("diffusion-asr takes no augmentor: augment the recordings beforehand")
        with translate_errors(RecognitionError):
            self.recognizer.check_language(_asked_language(override_config))
            self._asked_decoding(override_config)  # an error before hours of work, not after them
            return super().transcribe(audio, override_config=override_config)

    @classmethod
    def get_transcribe_config(cls) -> DiffusionTranscribeConfig:
        """The options of ``transcribe`` with their defaults."""
        return DiffusionTranscribeConfig()

    def _transcribe_input_manifest_processing(
        self, audio_files: Any, temp_dir: str, trcfg: Any
    ) -> dict[str, Any]:
        """NeMo copies paths as they were given: relative to the manifest, or to where the caller is."""
        given = trcfg._internal.manifest_filepath
        folder = Path(given).parent if given else Path.cwd()
        config: dict[str, Any] = super()._transcribe_input_manifest_processing(audio_files, temp_dir, trcfg)
        return {**config, "folder": folder.absolute()}

    def _setup_transcribe_dataloader(self, config: dict[str, Any]) -> Any:
        entries = read_entries(Path(config["temp_dir"]) / "manifest.json", config["folder"])
        clips = [entry_clip(e, config.get("lang_field") or "lang") for e in entries]
        for clip in clips:  # before hours of work, not after them
            self.recognizer.check_language(clip.language)
        return loader(clips, config["batch_size"])

    def _setup_transcribe_tensor_dataloader(self, config: dict[str, Any], trcfg: Any) -> Any:
        """NeMo's would pad clips under 1 s on both sides, which moves the times of their words."""
        return loader([Clip(samples) for samples in config["audio_tensors"]], config["batch_size"])

    def _transcribe_forward(self, batch: Any, trcfg: Any) -> list[Transcript]:
        return [self._recognise(clip, trcfg) for clip in clips_of(batch)]

    def _transcribe_output_processing(self, outputs: Any, trcfg: Any) -> list[Any]:
        timed = bool(trcfg.timestamps or trcfg.return_hypotheses)
        return [to_nemo(transcript, self._spelled(transcript), timed) for transcript in outputs]

    def _spelled(self, transcript: Transcript) -> list[int]:
        """Ids of the pieces that spell a transcript.

        Not those of the canvas: core hands canvases out with all their passes, whose alignments take half as
        long again as the recognition.
        """
        spell = self._vocabulary.encode
        return [piece for s in transcript.segments for piece in spell(s.text, s.language or "en")]

    def _recognise(self, clip: Clip, trcfg: Any) -> Transcript:
        channels = getattr(trcfg, "channel_selector", None)
        source = clip.source if whole_file(clip, channels) else samples_of(clip, channels)
        language = clip.language or _asked_language(trcfg) or self.cfg.get("language")
        return self.recognizer.transcribe(source, language, self._asked_decoding(trcfg))

    def _asked_decoding(self, trcfg: Any) -> DecodingOptions:
        """The model's, with the steps that a call asks for."""
        steps = getattr(trcfg, "steps", None)
        with translate_errors(RecognitionError, ValueError):
            return self.decoding if steps is None else self.decoding.changed(steps=steps)

    # -- fine-tuning

    def setup_training_data(self, train_data_config: Any) -> None:
        """Read a manifest; keys ``manifest_filepath, batch_size, shuffle, num_workers, max_duration``.

        Entries need ``text`` and, unless the model has a ``language``, ``lang``. Makes the denoiser float32
        and trainable; the encoder stays as it is.

        Raises:
            RecognitionError: A model without a canvas denoiser; an unreadable manifest, or one without an
                entry to train on.
        """
        self._update_dataset_config(dataset_name="train", config=train_data_config)
        self._make_trainable()
        self._train_dl = self._utterances(train_data_config, shuffle=True)

    def setup_validation_data(self, val_data_config: Any) -> None:
        """As ``setup_training_data``, in the manifest's order."""
        self._update_dataset_config(dataset_name="validation", config=val_data_config)
        self._validation_dl = self._utterances(val_data_config, shuffle=False)

    def _utterances(self, config: Any, shuffle: bool) -> Any:
        with translate_errors(RecognitionError):
            return training_loader(config, self._vocabulary, self.cfg.get("language"), shuffle)

    def _make_trainable(self) -> None:
        with translate_errors(RecognitionError):
            make_trainable(self.recognizer.parts)
        self._tuned = True

    def _listen(self, batch: Sequence[Utterance]) -> AcousticMemory:
        """What the frozen encoder hears, as tensors that a gradient may pass by."""
        lengths = torch.tensor([len(u.samples) for u in batch])
        heard = self.recognizer.encode(pad_sequence([u.samples for u in batch], batch_first=True), lengths)
        return AcousticMemory(heard.states.clone(), heard.mask.clone(), heard.frame_rate)

    def _losses(self, batch: Sequence[Utterance], memory: AcousticMemory) -> tuple[Tensor, Tensor]:
        denoiser, languages = find_denoiser(self.recognizer.parts), [u.language for u in batch]
        return compute_losses(denoiser, memory, languages, [u.tokens for u in batch])

    def training_step(self, batch: Sequence[Utterance], batch_idx: int) -> dict[str, Tensor]:
        """Diffusion CTC loss of both unrolled denoising steps."""
        with translate_errors(RecognitionError):
            first, second = self._losses(batch, self._listen(batch))
        loss = first + second
        logs = {"train_loss": loss.detach(), "loss_step1": first.detach(), "loss_step2": second.detach()}
        self.log_dict(logs, batch_size=len(batch), prog_bar=True)
        return {"loss": loss}

    def validation_step(self, batch: Sequence[Utterance], batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Loss (with the same noise each time) and word errors of the text as written."""
        with translate_errors(RecognitionError), torch.random.fork_rng(devices=[]):
            torch.manual_seed(batch_idx)
            memory = self._listen(batch)
            first, second = self._losses(batch, memory)
            heard = self.recognizer.decode(memory, [u.language for u in batch], self.decoding)
        rate, words, *_ = word_error_rate_detail([h.text for h in heard], [u.text for u in batch])
        num, denom = torch.tensor(rate * words), torch.tensor(float(words))
        outcome = {"val_loss": first + second, "val_wer_num": num, "val_wer_denom": denom}
        several = isinstance(self._validation_dl, list | tuple) and len(self._validation_dl) > 1
        outputs = self.validation_step_outputs
        (outputs[dataloader_idx] if several else outputs).append(outcome)
        return outcome


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


def _asked_language(trcfg: Any) -> str | None:
    """The language that a call asks for: ``source_lang``, or a slot of that name in ``prompt``."""
    if getattr(trcfg, "source_lang", None):
        return str(trcfg.source_lang)
    prompt = getattr(trcfg, "prompt", None) or []
    for turn in [prompt] if isinstance(prompt, dict) else prompt:
        slots = turn.get("slots", turn)
        if slots.get("source_lang"):
            return str(slots["source_lang"])
    return None
