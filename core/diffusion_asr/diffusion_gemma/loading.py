"""Put the published system together: adapter, backbone, acoustic encoder and tokenizer.

An adapter's folder holds the projector and LoRA as safetensors (``layout``), ``config.json`` and, if it
comes from PEFT, ``adapter_config.json``. Settings that its publisher does not state are in ``Settings``, with
what is known about them, and can be given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_asr import languages
from diffusion_asr.acoustics.encoder import EncoderConfig, WhisperEncoder
from diffusion_asr.diffusion_gemma import layout, lora, resources
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.hub import Hub
from diffusion_asr.diffusion_gemma.projector import AudioProjector
from diffusion_asr.diffusion_gemma.prompt import ANY, Prompt
from diffusion_asr.diffusion_gemma.stated import SettingsValues, check_backbone
from diffusion_asr.diffusion_gemma.toolkit import DiffusionGemmaForBlockDiffusion
from diffusion_asr.diffusion_gemma.vocabulary import GemmaVocabulary
from diffusion_asr.errors import ModelError
from diffusion_asr.json_files import check, read_json
from diffusion_asr.models.schema import EncoderSizes
from diffusion_asr.models.stored import check_shapes

_WEIGHTS = ("*.json", "*.safetensors")
_MOST_JSON = 1 << 26  # bytes: an index of all tensors is among the files


@dataclass(frozen=True, slots=True)
class Settings:
    """What an adapter was trained with; ``config.json`` may state each by name.

    Attributes:
        backbone: Its backbone.
        encoder: Its acoustic encoder.
        subsample_factor: Encoder frames to one audio embedding.
        lora_alpha: LoRA's scale times its rank; not published for the reference system.
        audio_token, begin_token, end_token: Ids around and in the audio slots.
        before, after: The instruction around the audio; ``{language}`` is the language's English name.
            The reference system's wording is not public: these are Gemma's turn marks and a plain request.
        blank: CTC's blank.
        padded: Hear clips padded to 30 s, as the reference system does.
    """

    backbone: str = "google/diffusiongemma-26B-A4B-it"
    encoder: str = "openai/whisper-small"
    subsample_factor: int = 8
    lora_alpha: float | None = None
    audio_token: int = 258881
    begin_token: int = 256000
    end_token: int = 258883
    before: str = "<bos><|turn>user\n"
    after: str = "Transcribe the speech in {language}.<turn|>\n<|turn>model\n"
    blank: int = 0
    padded: bool = True

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """From ``config.json`` and ``adapter_config.json``, where they are there.

        Raises:
            ModelError: Files that are no JSON objects.
        """
        stated = {**_json(folder / "adapter_config.json"), **_json(folder / "config.json")}
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in stated.items() if name in known and value is not None})


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    data = read_json(path, _MOST_JSON)
    if not isinstance(data, dict):
        raise ModelError(f"{path}: not a JSON object")
    return data


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """Where to find the parts, and where and how to compute.

    Attributes:
        backbone, encoder: A folder or a hub's name (``@revision`` pins it); None takes the adapter's.
        hub: How to reach the hub.
        device: "cpu", "cuda", "auto" (several devices); None takes a GPU if there is one.
        dtype: Of the backbone; None is bf16 on a GPU, what it is stored in elsewhere.
        quantise: "8bit" or "4bit" (bitsandbytes, CUDA; experts that are no linear layers stay as they are),
            or a quantisation config of transformers.
        settings: Changes to what the adapter states.
    """

    backbone: str | None = None
    encoder: str | None = None
    hub: Hub = field(default_factory=Hub)
    device: str | None = None
    dtype: torch.dtype | None = None
    quantise: Any = None
    settings: Mapping[str, Any] | None = None

    @property
    def place(self) -> str:
        """The device."""
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Loaded:
    """The parts of a token-canvas system."""

    denoiser: DiffusionGemmaDenoiser
    encoder: WhisperEncoder
    vocabulary: GemmaVocabulary
    settings: Settings
    name: str


@dataclass(frozen=True)
class Base:
    """What an adapter adapts."""

    backbone: Any
    encoder: WhisperEncoder
    vocabulary: GemmaVocabulary
    prompt: Prompt
    settings: Settings


def load_base(
    settings: Settings, options: LoadOptions, heard: int | None = None, width: int | None = None
) -> Base:
    """Backbone, encoder and tokenizer. All that headers can tell is checked before weights are read.

    Args:
        settings: Which ones, and the prompt.
        options: Where from, where to, how.
        heard: Width of acoustic states that a projector expects.
        width: Width of embeddings that it writes.

    Raises:
        ModelError: A part that is missing, does not fit or has no room; the message says what to do.
    """
    encoder_folder = options.hub.folder(options.encoder or settings.encoder, _WEIGHTS)
    encoder_config = _encoder_config(encoder_folder, heard)
    home = _checked_backbone(options.backbone or settings.backbone, options, width)
    vocabulary = GemmaVocabulary(home / "tokenizer.json")
    prompt = _prompt(settings, vocabulary)
    return Base(
        _backbone(home, options), load_encoder(encoder_folder, encoder_config), vocabulary, prompt, settings
    )


def load_adapter(name: str, options: LoadOptions) -> Loaded:
    """Load an adapter with what it adapts.

    Raises:
        ModelError: As ``load_base``; or an adapter that is damaged, unknown or does not fit.
    """
    folder = options.hub.folder(name, _WEIGHTS)
    settings = _settings(folder, options)
    found = layout.read_headers(folder)
    adapter = layout.recognise_layout(found, settings.subsample_factor)
    if adapter.rank and settings.lora_alpha is None:
        raise ModelError(
            f"{folder} does not state lora_alpha, which scales its LoRA (rank {adapter.rank}): give it with "
            "LoadOptions(settings={'lora_alpha': …})"
        )
    shape = adapter.projector
    base = load_base(settings, options, shape.convolutions[0][0], shape.linears[-1])
    projector = AudioProjector(shape)
    stored = layout.read_tensors(found, adapter.parts.values())
    projector.load_state_dict({own: stored[theirs] for own, theirs in adapter.parts.items()})
    if adapter.rank:
        lora.add_adapters(base.backbone, adapter.rank, float(settings.lora_alpha or 0))
        lora.fill_adapters(base.backbone, layout.read_tensors(found, adapter.lora))
    projector.to(base.backbone.lm_head.weight.device)
    model = DiffusionGemmaDenoiser(base.backbone, projector, base.prompt, "token").eval()
    title = Path(name).name if Path(name).is_dir() else name
    return Loaded(model.requires_grad_(False), base.encoder, base.vocabulary, settings, title)


def _settings(folder: Path, options: LoadOptions) -> Settings:
    try:
        settings = replace(Settings.read(folder), **dict(options.settings or {}))
    except TypeError as error:
        known = ", ".join(each.name for each in fields(Settings))
        raise ModelError(f"settings: {error}; there are {known}") from error
    check(SettingsValues, asdict(settings), f"the settings of {folder}")
    return settings


def _prompt(settings: Settings, vocabulary: GemmaVocabulary) -> Prompt:
    """Instruction tokens for every language, and for none."""
    names = {ANY: "the language that is spoken", **languages.NAMES}

    def ids(text: str) -> dict[str, tuple[int, ...]]:
        return {c: tuple(vocabulary.literal(text.format(language=name))) for c, name in names.items()}

    before = {code: (*text, settings.begin_token) for code, text in ids(settings.before).items()}
    after = {code: (settings.end_token, *text) for code, text in ids(settings.after).items()}
    return Prompt(settings.audio_token, before, after)


def _checked_backbone(name: str, options: LoadOptions, width: int | None) -> Path:
    """The backbone's folder, once its size and width are known to suit: small files first, then weights."""
    small = options.hub.folder(name, ("*.json",))
    stated = _json(small / "config.json")
    text = check_backbone(stated, small)
    if width is not None and text.get("hidden_size") != width:
        raise ModelError(
            f"the adapter writes {width} values, the backbone {name} reads {text.get('hidden_size')}: "
            "give the backbone that the adapter was trained on"
        )
    about = _json(small / "model.safetensors.index.json").get("metadata")
    index = about.get("total_size") if isinstance(about, dict) else None
    if isinstance(index, int | float) and options.quantise is None:
        resources.check_room(int(index * resources.SPARE), options.place, name)
    home = options.hub.folder(name, _WEIGHTS)
    stored = layout.read_headers(home).values()
    if "quantization_config" not in stated:
        _check_kinds(stored, home)
    dtype = options.dtype or (torch.bfloat16 if options.place != "cpu" else _stored_dtype(stored))
    quantise = options.quantise if isinstance(options.quantise, str) else None
    resources.check_room(resources.measure_need(stored, dtype, quantise), options.place, name)
    return home


def _check_kinds(stored: Iterable[layout.Entry], home: Path) -> None:
    """Raise ``ModelError`` if weights are whole numbers, which transformers would take for floating-point."""
    wrong = [entry for entry in stored if entry.name.endswith("weight") and "F" not in entry.kind]
    if wrong:
        raise ModelError(f"{home}: weights that are no floating-point numbers: {wrong[0]}: fetch it again")


def _stored_dtype(entries: Any) -> torch.dtype:
    kinds = {entry.kind for entry in entries}
    return torch.bfloat16 if "BF16" in kinds else torch.float16 if "F16" in kinds else torch.float32


def _backbone(home: Path, options: LoadOptions) -> Any:
    """By transformers' own loader, from a folder, without code and without pickles."""
    dtype = options.dtype or (torch.bfloat16 if options.place != "cpu" else "auto")
    arguments: dict[str, Any] = {"dtype": dtype, "local_files_only": True, "use_safetensors": True}
    if options.place != "cpu":
        arguments["device_map"] = options.place
    if options.quantise is not None:
        arguments["quantization_config"] = _quantisation(options.quantise)
    arguments["output_loading_info"] = True
    try:
        backbone, told = DiffusionGemmaForBlockDiffusion.from_pretrained(home, **arguments)
    except Exception as error:  # whatever transformers raises for files that are not as it expects
        raise ModelError(f"{home}: the backbone cannot be loaded ({error!r})") from error
    if missing := sorted(told["missing_keys"]):  # which transformers fills with random numbers
        raise ModelError(f"{home} lacks {len(missing)} of the backbone's weights: {', '.join(missing[:3])}")
    if broken := [name for name, weight in backbone.named_parameters() if not _is_finite(weight)]:
        raise ModelError(f"{home}: {', '.join(broken[:3])}: NaN or infinite, which no trained weight is")
    return backbone.eval()


def _is_finite(weight: Tensor) -> bool:
    """By its sum, which takes no memory; narrow kinds are quantised ones."""
    known = weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
    return not known or bool(weight.detach().sum(dtype=torch.float32).isfinite())


def _quantisation(wanted: Any) -> Any:
    if wanted not in ("8bit", "4bit"):
        return wanted
    from transformers import BitsAndBytesConfig

    skip = {"llm_int8_skip_modules": ["lm_head", "vision_tower", "embed_vision"]}
    if wanted == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, **skip)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16, **skip
    )


_WHISPER = {  # our names, transformers'
    "n_mels": "num_mel_bins",
    "d_model": "d_model",
    "layers": "encoder_layers",
    "heads": "encoder_attention_heads",
    "max_frames": "max_source_positions",
}


def _encoder_config(folder: Path, width: int | None) -> EncoderConfig:
    """Sizes of a Whisper encoder that feeds a projector of this width."""
    stated = _json(folder / "config.json")
    if missing := [name for name in _WHISPER.values() if name not in stated]:
        raise ModelError(f"{folder}: its config.json is no Whisper's (it lacks {', '.join(missing)})")
    sizes = {own: stated[theirs] for own, theirs in _WHISPER.items()}
    config = check(EncoderSizes, sizes, folder / "config.json").config()
    if width is not None and config.d_model != width:
        raise ModelError(
            f"the projector reads acoustic states of width {width}, {folder.name} gives {config.d_model}: "
            "give the encoder that the adapter was trained on"
        )
    return config


def load_encoder(folder: Path, config: EncoderConfig) -> WhisperEncoder:
    """A Whisper's encoder from transformers' layout.

    Raises:
        ModelError: Weights that do not fit.
    """
    found = layout.read_headers(folder)
    names = {n.split("encoder.", 1)[1]: n for n in found if n.startswith(("model.encoder.", "encoder."))}
    with torch.device("meta"):
        encoder = WhisperEncoder(config)
    expected = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    check_shapes({own: found[theirs].shape for own, theirs in names.items()}, expected, (), folder)
    stored = layout.read_tensors(found, names.values())
    tensors: dict[str, Tensor] = {own: stored[theirs].float() for own, theirs in names.items()}
    encoder.load_state_dict(tensors, assign=True)
    return encoder.eval().requires_grad_(False)


def save_adapter(folder: Path, model: DiffusionGemmaDenoiser, settings: Settings) -> None:
    """Write projector, LoRA and settings in the published layout; the settings last."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    projector = {name: value.detach().cpu() for name, value in model.projector.state_dict().items()}
    save_file(projector, folder / "projector.safetensors", metadata={"format": "pt"})
    adapters = {name: value.cpu().contiguous() for name, value in lora.pack_adapters(model.backbone).items()}
    if adapters:
        save_file(adapters, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    stated = asdict(settings)
    temporary = folder / "config.tmp"
    temporary.write_text(json.dumps(stated, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    temporary.replace(folder / "config.json")
