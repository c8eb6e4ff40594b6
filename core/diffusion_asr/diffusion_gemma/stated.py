"""What a DiffusionGemma's files may state, with bounds: checked before anything of that size is made."""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field

from diffusion_asr.errors import ModelError
from diffusion_asr.json_files import Schema
from diffusion_asr.models.schema import CalibrationValues, Layers, Pieces, Title, Width

Token = Annotated[int, Field(ge=0, lt=1 << 31)]
Tokens = Annotated[list[Token], Field(max_length=4096)]
Count = Annotated[int, Field(ge=1, le=1 << 16)]
_MOST_LAYERS = 512
_LARGEST = 10**10  # numbers in a backbone's configuration are sizes, ids and bases of rotations


def _is_instruction(text: str) -> str:
    for _, name, form, conversion in Formatter().parse(text):
        if name not in (None, "language") or form or conversion:
            raise ValueError("only {language} can be filled in; write {{ for a brace")
    return text


Instruction = Annotated[str, Field(max_length=10_000), AfterValidator(_is_instruction)]
Place = Annotated[str, Field(min_length=1, max_length=4096)]


class SettingsValues(Schema):
    """See ``loading.Settings``."""

    backbone: Place
    encoder: Place
    subsample_factor: int = Field(ge=1, le=64)
    lora_alpha: float | None = Field(ge=-1e6, le=1e6)
    audio_token: Token
    begin_token: Token
    end_token: Token
    before: Instruction
    after: Instruction
    blank: Token
    padded: bool


class _BackboneSizes(Schema):
    vocabulary: Pieces
    d_model: Width
    layers: Layers
    heads: Count
    key_heads: Count
    head_size: int = Field(ge=2, le=1024, multiple_of=2)
    feed_forward: Count
    experts: int = Field(ge=0, le=1024)
    window: Count
    canvas: Count
    pad: Token
    bos: Token
    eos: Token


class _ProjectorSizes(Schema):
    convolutions: list[Annotated[list[Count], Field(min_length=4, max_length=4)]] = Field(max_length=16)
    linears: list[Count] = Field(max_length=16)
    normed: bool


class _PromptTokens(Schema):
    audio: Token
    before: dict[str, Tokens]
    after: dict[str, Tokens]


class _Denoiser(Schema):
    kind: Literal["diffusion-gemma"]
    languages: list[Title] = Field(min_length=1, max_length=200)
    pieces: list[Annotated[list[Token], Field(min_length=2, max_length=2)]] = Field(max_length=1_000_000)
    slot_frames: Count
    backbone: _BackboneSizes
    projector: _ProjectorSizes
    prompt: _PromptTokens


class _Base(Schema):
    name: Title
    sha256: dict[str, str]


class SmallModel(Schema):
    """What ``folder.save_model`` writes, without what is signed."""

    name: Title
    version: Title
    base: _Base
    denoiser: _Denoiser
    calibration: CalibrationValues


class StoredTensor(Schema):
    """One entry of a safetensors header."""

    dtype: str = Field(max_length=20)
    shape: list[Annotated[int, Field(ge=0, lt=1 << 48)]] = Field(max_length=8)
    data_offsets: Annotated[list[Annotated[int, Field(ge=0, lt=1 << 60)]], Field(min_length=2, max_length=2)]


class Header(Schema):
    """A safetensors header: entries by name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, StoredTensor]


def check_backbone(config: Any, where: object) -> dict[str, Any]:
    """The ``text_config`` of a backbone's ``config.json``, if its numbers can be those of one.

    Raises:
        ModelError: It is no backbone's, or its numbers cannot be.
    """
    text = config.get("text_config") if isinstance(config, dict) else None
    if not isinstance(text, dict) or not text:
        raise ModelError(f"{where}: its config.json is no DiffusionGemma's: give the folder of a backbone")
    level: list[Any] = [config]
    while level:
        inside = level.pop()
        for name, value in inside.items() if isinstance(inside, dict) else enumerate(inside):
            if isinstance(value, dict | list):
                level.append(value)
            most = _MOST_LAYERS if name == "num_hidden_layers" else _LARGEST
            if isinstance(value, int | float) and not abs(value) <= most:
                raise ModelError(f"{where}: {name} is {value:.6g}, which is no backbone's")
    return text
