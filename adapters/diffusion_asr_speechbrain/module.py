"""A recogniser as the ``whisper`` of SpeechBrain's Whisper recipes.

The recipes call ``whisper(wavs, bos_tokens)``, then ``nll_loss(log_probs, tokens_eos, length)``, and for
validation and test ``search(enc_states, wav_lens)``. The three share one recogniser by ``!ref``.

The recogniser stays on the CPU and in core's precision, wherever SpeechBrain moves modules and tensors and
whatever autocast it opens: its words are core's. What it returns is on the device of what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.objective import unroll_steps
from diffusion_asr.decoding.options import DecodingOptions
from diffusion_asr.errors import LanguageError
from diffusion_asr.models.tuned import find_denoiser
from diffusion_asr.models.tuned import make_trainable as trainable_denoiser
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_speechbrain.batches import in_core_precision, memory_of, shares_memory, split_batch
from diffusion_asr_speechbrain.tokenizer import CanvasTokenizer
from diffusion_asr_speechbrain.toolkit import RecognitionError

Languages = Sequence[str | None] | str | None


class Heard(NamedTuple):
    """What was made of one clip."""

    text: str
    tokens: list[int]
    confidence: float  # mean of its words, 0 without words


class DiffusionModule(nn.Module):
    """A recogniser as a recipe's ``whisper``; its parameters are the denoiser's, the encoder stays frozen.

    Args:
        checkpoint: Name of an embedded model, or a model folder.
        language: A code, name or tag; None detects it for each clip (texts are then encoded as English).
        trainable: Make the denoiser float32 with gradients; else it computes as in core.
        detect_speech: Find the speech in each clip first, as ``Recognizer.transcribe`` does: silence gives
            no text, and a clip may have any length. False decodes each clip whole, at most 30 s of it, as
            ``Recognizer.decode`` does.
        decoding: Fields of ``DecodingOptions`` by name: ``steps=4``.

    Raises:
        RecognitionError: No such model, a corrupt one, one without a denoiser to train; an unknown language;
            an option that makes no sense.
    """

    def __init__(
        self,
        checkpoint: str = "canvas-base",
        language: str | None = None,
        trainable: bool = False,
        detect_speech: bool = True,
        **decoding: Any,
    ) -> None:
        super().__init__()
        with translate_errors(RecognitionError, TypeError, ValueError):
            self.decoding = DecodingOptions().changed(**decoding)
        with translate_errors(RecognitionError):
            recognizer = Recognizer.from_pretrained(checkpoint)
            self.language = recognizer.check_language(language)
            parts = recognizer.parts
            self.denoiser = trainable_denoiser(parts) if trainable else parts.denoiser
        self.recognizer, self.detect_speech = recognizer, detect_speech
        self.tokenizer = CanvasTokenizer(parts.vocabulary, self.language or "en")
        self.slots = torch.zeros(0, dtype=torch.long)
        self._last: tuple[Tensor, list[Tensor]] | None = None  # states and the clips that they are of

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> DiffusionModule:
        """What ``to``, ``cuda`` and ``half`` do with a module: nothing here, see the file's text."""
        return self

    def options(self, **changes: Any) -> DecodingOptions:
        """This module's options but for ``changes``, by name.

        Raises:
            RecognitionError: An option that does not exist, or a value that makes no sense.
        """
        with translate_errors(RecognitionError, TypeError, ValueError):
            return self.decoding.changed(**changes)

    @in_core_precision
    def listen(self, wavs: Tensor, wav_lens: Tensor | None = None) -> AcousticMemory:
        """As core hears (B, samples) at 16 kHz, in tensors that a gradient may pass by.

        ``wav_lens`` (B,) are relative to the longest. Without them a clip ends at its last sample that is
        not zero, because recipes do not pass lengths. Integers are scaled to [-1, 1].

        Raises:
            RecognitionError: Longer than 30 s, not finite, or of a wrong shape.
        """
        with translate_errors(RecognitionError):
            clips = split_batch(wavs, wav_lens)
            padded = nn.utils.rnn.pad_sequence(clips, batch_first=True)
            heard = self.recognizer.encode(padded, torch.tensor([len(clip) for clip in clips]))
        return heard.trainable()

    def encode(self, wavs: Tensor, wav_lens: Tensor | None = None) -> Tensor:
        """The states of ``listen`` (B, T, D), zero behind a clip's end.

        Raises:
            RecognitionError: See ``listen``.
        """
        return self._handed_out(self.listen(wavs, wav_lens), wavs, wav_lens)

    def _handed_out(self, memory: AcousticMemory, wavs: Tensor, wav_lens: Tensor | None) -> Tensor:
        states = memory.states.to(wavs.device)
        self._last = states, split_batch(wavs, wav_lens)
        return states

    @in_core_precision
    def forward(self, wavs: Tensor, bos_tokens: Tensor) -> tuple[Tensor, Tensor, None]:
        """Encoder states, and log-probabilities (B, 2 L, V) of two denoising steps, one after the other.

        The canvases are random, as in training; ``bos_tokens`` are not looked at.

        Raises:
            RecognitionError: See ``listen``; or a model without a canvas denoiser.
        """
        memory = self.listen(wavs)
        languages = self.recognizer.choose_languages(memory, self.language)
        with translate_errors(RecognitionError):
            denoiser = find_denoiser(self.recognizer.parts)
        first, second, self.slots = unroll_steps(denoiser, memory, languages)
        log_probs = torch.cat([first, second], dim=1).to(wavs.device)
        return self._handed_out(memory, wavs, None), log_probs, None

    def transcribe(
        self, wavs: Tensor, wav_lens: Tensor | None = None, language: Languages = None, **changes: Any
    ) -> list[Heard]:
        """Core's words of each clip of (B, samples) at 16 kHz; see ``listen``.

        Args:
            wavs: Of any length where speech is detected, else of at most 30 s.
            wav_lens: (B,) relative to the longest.
            language: One for all clips or one for each; "auto" detects it; None is the module's.
            changes: Fields of ``DecodingOptions`` by name, on top of the module's; or ``detect_speech``.

        Raises:
            RecognitionError: See ``listen`` and ``options``; an unknown language.
        """
        if not changes.pop("detect_speech", self.detect_speech):
            return self.decode(self.listen(wavs, wav_lens), language, **changes)
        with translate_errors(RecognitionError):
            clips = split_batch(wavs, wav_lens)
        return self._transcribed(clips, language, self.options(**changes))

    @in_core_precision
    def _transcribed(
        self, clips: Sequence[Tensor], language: Languages, options: DecodingOptions
    ) -> list[Heard]:
        found = []
        with translate_errors(RecognitionError), torch.no_grad():
            for clip, code in zip(clips, self._languages(language, len(clips)), strict=True):
                transcript = self.recognizer.transcribe(clip, code, options)
                sure = [w.confidence for w in transcript.words if w.confidence is not None]
                spell = self.recognizer.parts.vocabulary.encode
                tokens = [i for s in transcript.segments for i in spell(s.text, s.language or "en")]
                found.append(Heard(transcript.text, tokens, sum(sure) / len(sure) if sure else 0.0))
        return found

    def _languages(self, language: Languages, clips: int) -> list[str | None]:
        given = [language] * clips if language is None or isinstance(language, str) else list(language)
        if len(given) != clips:
            raise LanguageError(f"{len(given)} languages for {clips} clips; give one, or one for each")
        return [self.recognizer.check_language(code) if code else self.language for code in given]

    @in_core_precision
    def decode(self, memory: AcousticMemory, language: Languages = None, **changes: Any) -> list[Heard]:
        """What ``listen`` heard, decoded whole.

        Language and options are this module's unless others are given.

        Raises:
            RecognitionError: An unknown language, an option that makes no sense.
        """
        options = self.options(**changes)
        with translate_errors(RecognitionError), torch.no_grad():
            languages = self._languages(language, len(memory))
            heard = self.recognizer.decode(memory, languages, options)
        return [Heard(h.text, read_tokens(h.decoded.canvas), h.confidence) for h in heard]

    def search(self, states: Tensor, **changes: Any) -> list[Heard]:
        """The words of the clips of which ``states`` are.

        Of the last clips that were heard, as in recipes, they are ``transcribe``'s; other states hold no
        sound in which speech could be found, and are decoded whole.

        Args:
            states: (B, T, D) of ``encode``; a clip ends where its states become zero.
            changes: See ``transcribe``.

        Raises:
            RecognitionError: See ``transcribe``.
        """
        detect_speech = changes.pop("detect_speech", self.detect_speech)
        if detect_speech and self._last is not None and shares_memory(states, self._last[0]):
            return self._transcribed(self._last[1], None, self.options(**changes))
        return self.decode(memory_of(states), **changes)
