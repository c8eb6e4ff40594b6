"""What a canvas model's ``config.json`` may say, with bounds: checked before any network is built.

The bounds leave room for several times the largest Whisper; what lies beyond is damage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from diffusion_asr.acoustics.encoder import EncoderConfig
from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.decoding.denoiser import DenoiserConfig
from diffusion_asr.decoding.letters.model import LetterConfig
from diffusion_asr.decoding.letters.search import SearchRule
from diffusion_asr.json_files import Schema, check

_ENCODER, _DENOISER, _CALIBRATION = EncoderConfig(), DenoiserConfig(vocabulary=2), Calibration()
_WINDOW = 1500  # encoder frames of 30 s, the longest window that a recogniser cuts
SIGNED = ("format", "sha256", "config_sha256")  # what ``folder.save_folder`` adds

Width = Annotated[int, Field(ge=4, le=8192, multiple_of=2)]
Layers = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=256)]
Pieces = Annotated[int, Field(ge=2, le=1_000_000)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")]


def _is_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return text


def _is_unique(languages: list[str]) -> list[str]:
    if len(set(languages)) < len(languages):
        raise ValueError("names a language twice")
    return languages


Title = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_is_printable)]
Languages = Annotated[list[Language], Field(min_length=1, max_length=200), AfterValidator(_is_unique)]


class _Sizes(Schema):
    d_model: Width = _DENOISER.d_model
    layers: Layers = _DENOISER.layers
    heads: Heads = _DENOISER.heads

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.d_model % self.heads:
            raise ValueError(f"a width (d_model) of {self.d_model} has no {self.heads} equal heads")
        return self


class EncoderSizes(_Sizes):
    """See ``EncoderConfig``."""

    n_mels: int = Field(_ENCODER.n_mels, ge=8, le=512)
    max_frames: int = Field(_ENCODER.max_frames, ge=_WINDOW, le=4 * _WINDOW)
    tail: float = Field(_ENCODER.tail, ge=0, le=30)
    tap: int = Field(_ENCODER.tap, ge=0, le=127)

    def config(self) -> EncoderConfig:
        """The same for the network."""
        return EncoderConfig(**self.model_dump())


class DenoiserSizes(_Sizes):
    """See ``DenoiserConfig``."""

    kind: Literal["canvas"] = "canvas"
    vocabulary: Pieces
    languages: Languages
    slot_frames: int = Field(_DENOISER.slot_frames, ge=1, le=50)
    memory_pool: int = Field(_DENOISER.memory_pool, ge=1, le=50)
    max_slots: int = Field(_DENOISER.max_slots, ge=30, le=4 * _WINDOW)
    time_buckets: int = Field(_DENOISER.time_buckets, ge=4, le=4096, multiple_of=2)

    def config(self) -> DenoiserConfig:
        """The same for the network."""
        sizes = self.model_dump(exclude={"kind"})
        return DenoiserConfig(**sizes | {"languages": tuple(self.languages)})

    @model_validator(mode="after")
    def _slots_hold_a_window(self) -> Self:
        if (needed := -(-_WINDOW // self.slot_frames)) > self.max_slots:
            raise ValueError(f"30 s are {needed} slots of {self.slot_frames} frames, max_slots is fewer")
        return self


class RefinerSizes(_Sizes):
    """See ``decoding.causal.model.RefinerConfig``."""

    vocabulary: Pieces
    languages: Languages
    front: Literal[0] = 0  # models before version 4 may state it; others than 0 this release no longer does


class LetterSizes(_Sizes):
    """See ``decoding.letters``: the canvas, its alphabet without null, and the search.

    Attributes:
        context: Letters that the language model looks back.
        weight: Of the language model.
        bonus: Nats for each letter.
    """

    layers: Layers = 2
    languages: Languages
    alphabet: list[Annotated[str, Field(min_length=1, max_length=1)]] = Field(min_length=2, max_length=255)
    context: int = Field(ge=1, le=32)
    weight: float = Field(ge=0, le=100)
    bonus: float = Field(ge=-100, le=100)

    def config(self) -> LetterConfig:
        """The same for the network."""
        sizes = self.model_dump(include={"d_model", "layers", "heads"})
        return LetterConfig(len(self.alphabet) + 1, tuple(self.languages), **sizes)

    def rule(self) -> SearchRule:
        """The same for the search."""
        return SearchRule(self.weight, self.bonus, context=self.context)

    @model_validator(mode="after")
    def _letters_are_distinct(self) -> Self:
        if len(set(self.alphabet)) < len(self.alphabet):
            raise ValueError("the alphabet holds a letter twice")
        if " " not in self.alphabet:
            raise ValueError("the alphabet holds no space")
        return self


class CalibrationValues(Schema):
    """See ``Calibration``."""

    a: float = Field(_CALIBRATION.a, ge=-100, le=100)
    b: float = Field(_CALIBRATION.b, ge=-100, le=100)
    lag: float = Field(_CALIBRATION.lag, ge=-30, le=30)

    def config(self) -> Calibration:
        """The same for words."""
        return Calibration(**self.model_dump())


class CanvasModel(Schema):
    """All of it, without what ``folder`` signs."""

    name: Title
    version: Title
    encoder: EncoderSizes
    denoiser: DenoiserSizes
    refiner: RefinerSizes | None = None
    calibration: CalibrationValues
    letters: LetterSizes | None = None
    swept: list[Language] | None = None  # languages in which sweeps keep up with verification

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.refiner is None and "refiner" in self.model_fields_set:
            raise ValueError("refiner: null says nothing; leave it out if there is none")
        for name, part in (("denoiser", self.denoiser), ("refiner", self.refiner)):
            if part is not None and part.d_model != self.encoder.d_model:
                raise ValueError(f"the {name} is {part.d_model} wide, the encoder {self.encoder.d_model}")
        if self.refiner is not None and self.refiner.languages != self.denoiser.languages:
            raise ValueError("denoiser and refiner have other languages")
        if self.letters is not None:
            self._check_letters(self.letters)
        if unknown := set(self.swept or ()) - set(self.denoiser.languages):
            raise ValueError(f"swept: {', '.join(sorted(unknown))} is none of the denoiser's languages")
        return self

    def _check_letters(self, letters: LetterSizes) -> None:
        if self.refiner is None:
            raise ValueError("letters stand beside a refiner, which this model lacks")
        if letters.d_model != self.encoder.d_model:
            raise ValueError(f"the letters are {letters.d_model} wide, the encoder {self.encoder.d_model}")
        if not 0 < self.encoder.tap < self.encoder.layers:
            raise ValueError(f"letters need an encoder.tap below its last layer, not {self.encoder.tap}")
        if unknown := set(letters.languages) - set(self.denoiser.languages):
            raise ValueError(f"letters: {', '.join(sorted(unknown))} is none of the denoiser's languages")


def check_canvas_model(config: Mapping[str, Any], where: object) -> CanvasModel:
    """A ``config.json`` that ``folder.load_config`` has read.

    Raises:
        ModelError: With what is missing, unknown, of a wrong type or out of bounds.
    """
    return check(CanvasModel, {k: v for k, v in config.items() if k not in SIGNED}, where)
