"""``DiffusionASR``: SpeechBrain's inference interface."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from speechbrain.inference.interfaces import Pretrained
from torch import Tensor

from diffusion_asr.audio.files import read_blocks
from diffusion_asr.audio.windows import pack_windows
from diffusion_asr.errors import AudioError
from diffusion_asr.models.folder import is_embedded
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_speechbrain.batches import in_core_precision
from diffusion_asr_speechbrain.module import Languages
from diffusion_asr_speechbrain.toolkit import RecognitionError

CANVAS_BASE = Path(__file__).parent / "canvas-base"
HPARAMS = "hyperparams.yaml"


class DiffusionASR(Pretrained):  # type: ignore[misc]
    """Ready-to-use recogniser with the methods of ``EncoderDecoderASR``, and ``WhisperASR``'s for languages.

    Attributes:
        tokenizer: The model's, as ``EncoderDecoderASR.tokenizer``.
        mods: ``model`` (also as ``whisper``), and ``encoder`` and ``decoder`` with SpeechBrain's signatures.

    Example:
        >>> asr = DiffusionASR.from_hparams(source=CANVAS_BASE)
        >>> asr.transcribe_file("talk.wav", language="de")
    """

    MODULES_NEEDED = ["model"]  # noqa: RUF012 - SpeechBrain's own form

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tokenizer = self.mods.model.tokenizer

    @classmethod
    def from_hparams(cls, source: str | os.PathLike[str], hparams_file: str = HPARAMS, **kwargs: Any) -> Any:
        """See ``Pretrained.from_hparams``; ``source`` may also be an embedded model's name or a model folder.

        Such a folder (``python -m diffusion_asr_speechbrain export`` writes one) has no YAML file, and no
        code in it is run: it is the ``checkpoint`` of this package's own YAML.

        Raises:
            RecognitionError: A model folder that is corrupt.
        """
        folder = Path(source)
        embedded = is_embedded(str(source)) and not folder.is_dir()
        if embedded or ((folder / "config.json").is_file() and not (folder / hparams_file).exists()):
            given = kwargs.pop("overrides", None) or {}
            if not isinstance(given, Mapping):
                raise RecognitionError(f"{source}: give overrides as a dictionary, not as text")
            checkpoint = str(source) if embedded else str(folder.absolute())
            kwargs["overrides"] = {**given, "checkpoint": checkpoint}
            source, hparams_file = CANVAS_BASE, HPARAMS
        return super().from_hparams(str(source), hparams_file, **kwargs)

    @in_core_precision
    def transcribe_file(
        self,
        path: str | os.PathLike[str],
        language: str | None = None,
        *,
        track: int | None = None,
        **changes: Any,
    ) -> str:
        """Text of a recording of any length, rate and channel number.

        Args:
            path: Of the recording.
            language: A code, name or tag; "auto" detects it for each window; None is the model's.
            track: Of several audio tracks this one, counted from 1; None is the file's default.
            changes: Fields of ``DecodingOptions`` by name, on top of the model's: ``steps=4``.

        Raises:
            RecognitionError: Unreadable audio, an unknown language, an option that makes no sense.
        """
        model = self.mods.model
        options = model.options(**changes)
        with translate_errors(RecognitionError):
            found = model.recognizer.transcribe(path, language or model.language, options, track=track)
        return str(found.text)

    def encode_batch(self, wavs: Tensor, wav_lens: Tensor | None = None) -> Tensor:
        """States (B, T, D), 50 a second, zero behind a clip's end, on the device of ``wavs``.

        Args:
            wavs: (B, samples) at 16 kHz, at most 30 s; integers are scaled to [-1, 1].
            wav_lens: (B,) relative to the longest; None takes the zeros at a clip's end as padding.

        Raises:
            RecognitionError: Longer than 30 s, not finite, or of a wrong shape.
        """
        states: Tensor = self.mods.model.encode(wavs, wav_lens)
        return states

    def transcribe_batch(
        self,
        wavs: Tensor,
        wav_lens: Tensor | None = None,
        language: Languages = None,
        detect_speech: bool | None = None,
        **changes: Any,
    ) -> tuple[list[str], list[list[int]]]:
        """Texts and token ids: the same text as ``transcribe_file`` of the same clip.

        Args:
            wavs: See ``encode_batch``; of any length where speech is detected.
            wav_lens: See ``encode_batch``.
            language: One for all clips or one for each, as a code, name or tag; "auto" detects it; None is
                the model's.
            detect_speech: Find the speech first, as ``transcribe_file`` does; False decodes clips whole, None
                is the model's (to find it).
            changes: As for ``transcribe_file``.

        Raises:
            RecognitionError: See ``encode_batch`` and ``transcribe_file``.
        """
        if detect_speech is not None:
            changes["detect_speech"] = detect_speech
        heard = self.mods.model.transcribe(wavs, wav_lens, language, **changes)
        return [h.text for h in heard], [h.tokens for h in heard]

    @in_core_precision
    def detect_language_file(self, path: str | os.PathLike[str]) -> tuple[Tensor, list[dict[str, float]]]:
        """Which language is spoken in the longest window of speech of a recording.

        Returns:
            As ``detect_language_batch``, for one clip.

        Raises:
            RecognitionError: Unreadable audio, or nobody speaks.
        """
        with translate_errors(RecognitionError):
            windows = pack_windows(read_blocks(path), self.mods.model.recognizer.detector)
            longest = max((w.samples for w in windows), key=len, default=None)
            if longest is None:
                raise AudioError(f"{path}: no speech found, so no language can be told")
        return self.detect_language_batch(torch.from_numpy(longest)[None])

    @in_core_precision
    def detect_language_batch(
        self, wavs: Tensor, wav_lens: Tensor | None = None
    ) -> tuple[Tensor, list[dict[str, float]]]:
        """Which language is spoken in each clip of at most 30 s; see ``encode_batch``.

        Returns:
            The likeliest languages (B,), as places in the dictionaries of the other value, which have a
            probability for each of the model's languages: ``max(probs[0], key=probs[0].get)``.

        Raises:
            RecognitionError: See ``encode_batch``; or a model that cannot tell languages.
        """
        model = self.mods.model
        probabilities = model.recognizer.detect_language(model.listen(wavs, wav_lens))
        if not all(probabilities):
            raise RecognitionError(f"{model.recognizer.parts.name} cannot tell which language is spoken")
        likeliest = [max(range(len(p)), key=list(p.values()).__getitem__) for p in probabilities]
        return torch.tensor(likeliest, device=wavs.device), probabilities

    def forward(self, wavs: Tensor, wav_lens: Tensor | None = None) -> tuple[list[str], list[list[int]]]:
        """``transcribe_batch``."""
        with torch.no_grad():
            return self.transcribe_batch(wavs, wav_lens)
