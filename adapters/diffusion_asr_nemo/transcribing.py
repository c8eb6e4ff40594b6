"""NeMo's ``transcribe`` with core's words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from nemo.collections.asr.parts.mixins import ASRTranscriptionMixin, TranscribeConfig
from nemo.utils import logging

from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr.transcript import Transcript
from diffusion_asr_nemo.clips import Clip, clips_of, entry_clip, loader, samples_of, whole_file
from diffusion_asr_nemo.decoding import CanvasDecoding
from diffusion_asr_nemo.hypotheses import to_nemo, without_marks
from diffusion_asr_nemo.manifests import read_entries
from diffusion_asr_nemo.prompts import SLOTS, Prompt, read_turns
from diffusion_asr_nemo.toolkit import RecognitionError, in_core_precision

_POSITIONAL = (
    "use_lhotse", "batch_size", "return_hypotheses", "num_workers", "channel_selector", "augmentor",
    "verbose", "timestamps",
)  # fmt: skip
_TURN = ("role", "slots", "turns")  # Canary's explicit ways of giving a prompt


@dataclass
class DiffusionTranscribeConfig(TranscribeConfig):  # type: ignore[misc]
    """NeMo's options of ``transcribe``, and ours.

    Attributes:
        source_lang: Language of clips whose manifest entry names none; None takes the model's ``language``.
        prompt: NeMo's prompt turns, see ``prompts``.
        steps: Passes at most; None takes the model's ``decoding.steps``.
        lang_field: Key of the language in a manifest.
    """

    source_lang: str | None = None
    prompt: Any = None
    steps: int | None = None
    text_field: str = "text"
    lang_field: str = "lang"


class DiffusionTranscription(ASRTranscriptionMixin):  # type: ignore[misc]
    """The mixin; the model brings ``recognizer``, ``cfg`` and ``tokenizer``."""

    recognizer: Recognizer
    cfg: Any
    tokenizer: Any

    @property
    def decoding(self) -> CanvasDecoding:
        """How clips are decoded (``options``): the section ``decoding`` of ``cfg``, which the file keeps.

        Raises:
            RecognitionError: Somebody has written into it what makes no sense.
        """
        return CanvasDecoding(self.cfg.decoding, self.tokenizer)

    @torch.inference_mode()
    def transcribe(self, audio: Any, *args: Any, override_config: Any = None, **options: Any) -> Any:
        """See ``TranscriptionMixin.transcribe``.

        ``options`` may hold those of ``DiffusionTranscribeConfig``, and Canary's: ``target_lang``, ``pnc`` …

        Recordings may be of any length, rate and channel number; arrays must be at 16 kHz. Speech is found
        first, so that silence gives an empty text.

        Returns:
            One ``Hypothesis`` for each clip, with text, language (``langs``) and ``word_confidence``; with
            ``timestamps`` or ``return_hypotheses`` also the times of words, segments and characters, in
            seconds. An empty list for no clips.

        Raises:
            RecognitionError: Unreadable audio, an unknown language, option or option's value, or a prompt
                for a translation.
        """
        with translate_errors(RecognitionError):
            if override_config is None:
                given = dict(zip(_POSITIONAL, args, strict=False))
                override_config = _config({**given, **options})
            if getattr(override_config, "augmentor", None):
                raise NotImplementedError(
                    "diffusion-asr takes no augmentor: augment the recordings beforehand"
                )
            asked = _asked(override_config)  # errors before hours of work, not after them
            self.recognizer.check_language(asked.language)
            self._asked_decoding(override_config)
            if asked.ignored:
                logging.warning(
                    f"diffusion-asr writes the same text whatever {', '.join(asked.ignored)} says"
                )
            audio = _named(audio)
            if isinstance(audio, list) and not audio:
                return []
            found = super().transcribe(audio, override_config=override_config)
        return [] if found is None else found  # None: an empty manifest

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
            self.recognizer.check_language(clip.prompt.language)
        return loader(clips, config["batch_size"])

    def _setup_transcribe_tensor_dataloader(self, config: dict[str, Any], trcfg: Any) -> Any:
        """NeMo's would pad clips under 1 s on both sides, which moves the times of their words."""
        return loader([Clip(samples) for samples in config["audio_tensors"]], config["batch_size"])

    def _transcribe_forward(self, batch: Any, trcfg: Any) -> list[tuple[Transcript, Prompt]]:
        return [self._recognise(clip, trcfg) for clip in clips_of(batch)]

    def _transcribe_output_processing(self, outputs: Any, trcfg: Any) -> list[Any]:
        timed = bool(trcfg.timestamps or trcfg.return_hypotheses)
        return [
            to_nemo(transcript, self._spelled(transcript), timed or bool(prompt.timestamps))
            for transcript, prompt in outputs
        ]

    def _spelled(self, transcript: Transcript) -> list[int]:
        """Ids of the pieces that spell a transcript.

        Not those of the canvas: core hands canvases out with all their passes, whose alignments take half as
        long again as the recognition.
        """
        spell = self.recognizer.parts.vocabulary.encode
        return [piece for s in transcript.segments for piece in spell(s.text, s.language or "en")]

    @in_core_precision
    def _recognise(self, clip: Clip, trcfg: Any) -> tuple[Transcript, Prompt]:
        channels = getattr(trcfg, "channel_selector", None)
        source = clip.source if whole_file(clip, channels) else samples_of(clip, channels)
        prompt = clip.prompt.over(_asked(trcfg))
        language = prompt.language or self.cfg.get("language")
        found = self.recognizer.transcribe(source, language, self._asked_decoding(trcfg))
        return (without_marks(found) if prompt.marks is False else found), prompt

    def _asked_decoding(self, trcfg: Any) -> DecodingOptions:
        """The model's, with the steps that a call asks for."""
        steps = getattr(trcfg, "steps", None)
        with translate_errors(RecognitionError, ValueError):
            options: DecodingOptions = self.decoding.options
            return options if steps is None else options.changed(steps=steps)


def _config(options: Mapping[str, Any]) -> DiffusionTranscribeConfig:
    """The options of a call; Canary's slots become one more turn of the prompt.

    Raises:
        RecognitionError: An unknown option.
    """
    known = {field.name for field in fields(DiffusionTranscribeConfig)}
    slots = {name: value for name, value in options.items() if name not in known and name not in _TURN}
    if unknown := sorted(set(slots) - SLOTS):
        names = ", ".join(sorted((known | SLOTS) - {"_internal"}))
        raise RecognitionError(f"unknown options of transcribe: {', '.join(unknown)}; there are {names}")
    config = DiffusionTranscribeConfig(
        **{"num_workers": 0, **{name: value for name, value in options.items() if name in known}}
    )
    explicit = {name: options[name] for name in _TURN if name in options}
    own = {"slots": {**slots, "source_lang": config.source_lang}} if slots else {}
    given = config.prompt if isinstance(config.prompt, list) else [config.prompt] if config.prompt else []
    config.prompt = [turn for turn in (own, *_turns(explicit), *given) if turn]
    if config.timestamps is not None:
        config.timestamps = _yes(config.timestamps)
    return config


def _turns(explicit: Mapping[str, Any]) -> list[Any]:
    return list(explicit["turns"]) if "turns" in explicit else [explicit] if explicit else []


def _yes(timestamps: Any) -> bool:
    """NeMo's True and False, and Canary's "yes" and "no"."""
    return bool(read_turns({"timestamps": timestamps}).timestamps)


def _asked(trcfg: Any) -> Prompt:
    """What a call asks for: ``source_lang``, and its prompt."""
    given = getattr(trcfg, "source_lang", None)
    return Prompt(language=str(given) if given else None).over(read_turns(getattr(trcfg, "prompt", None)))


def _named(audio: Any) -> Any:
    """Paths as the strings that NeMo takes."""
    if isinstance(audio, os.PathLike):
        return str(audio)
    if isinstance(audio, list | tuple):
        return [str(one) if isinstance(one, os.PathLike) else one for one in audio]
    return audio
