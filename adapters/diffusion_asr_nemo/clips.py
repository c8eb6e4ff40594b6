"""What is heard: paths, arrays, manifest entries and NeMo's own batches, all as ``Clip``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffusion_asr.audio import files as audio
from diffusion_asr.errors import AudioError
from diffusion_asr_nemo.manifests import Packed
from diffusion_asr_nemo.prompts import SLOTS, Prompt, read_prompt

Channels = int | str | Iterable[int] | None
_ROUNDING = 0.05  # seconds by which a manifest's duration may miss the file's
_NOTHING = np.zeros(0, np.float32)


@dataclass  # NeMo rebuilds it field by field when it moves a batch to a device
class Clip:
    """A recording or a part of one.

    Attributes:
        source: A path, a file in a tar archive, or samples at 16 kHz: (samples,) or (channels, samples).
        prompt: What its manifest entry asks for; empty without one.
        offset: Seconds at which it begins in its file.
        duration: Its length in seconds; None takes all that follows.
    """

    source: Any
    prompt: Prompt = field(default_factory=Prompt)
    offset: float = 0.0
    duration: float | None = None


class Clips(Dataset[Clip]):
    """A list of clips, in the shape that torch's loader wants."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips = list(clips)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[index]


def loader(clips: Sequence[Clip], batch_size: int) -> DataLoader[Clip]:
    """Batches are lists of clips: nothing is padded, so short clips keep their times."""
    return DataLoader(Clips(clips), batch_size=batch_size, collate_fn=list)


def entry_clip(entry: Mapping[str, Any], lang_field: str = "lang") -> Clip:
    """The clip of a manifest entry, with the slots of a prompt that it holds.

    Raises:
        PromptError: See ``prompts.read_prompt``.
        LanguageError: See ``prompts.read_prompt``.
    """
    duration = entry.get("duration")
    slots = {name: entry[name] for name in SLOTS & entry.keys()}
    language = slots.get("source_lang") or entry.get(lang_field) or None
    return Clip(
        entry["audio_filepath"],
        read_prompt({**slots, "source_lang": language}),
        float(entry.get("offset") or 0.0),
        None if duration is None else float(duration),
    )


def clips_of(batch: Any) -> list[Clip]:
    """A batch of ours, or one of NeMo's: ``(audio (B, samples), lengths (B,), …)``."""
    if isinstance(batch, list | tuple) and len(batch) >= 2 and isinstance(batch[0], Tensor):
        return [Clip(row[: int(n)]) for row, n in zip(batch[0], batch[1], strict=True)]
    return list(batch)


def whole_file(clip: Clip, channels: Channels = None) -> bool:
    """True if the clip is a file as it is, which can then be streamed."""
    if not isinstance(clip.source, str) or clip.offset or channels not in (None, "average"):
        return False
    return clip.duration is None or clip.duration >= audio.probe_file(clip.source).duration - _ROUNDING


def samples_of(clip: Clip, channels: Channels = None) -> np.ndarray:
    """The clip's (samples,) float32 mono at 16 kHz.

    Raises:
        AudioError: Unreadable, no such channel, or ``offset`` beyond the end.
    """
    if isinstance(clip.source, str):
        samples = _read(clip.source, channels)
    elif isinstance(clip.source, Packed):
        samples = _unpacked(clip.source, channels)
    else:
        samples = audio.convert_to_mono(_selected(_channels_first(clip.source), channels))
    first = round(clip.offset * audio.SAMPLE_RATE)
    if first and first >= len(samples):
        seconds = len(samples) / audio.SAMPLE_RATE
        raise AudioError(f"{clip.source}: offset {clip.offset:g} s lies beyond its end at {seconds:.2f} s")
    last = len(samples) if clip.duration is None else first + round(clip.duration * audio.SAMPLE_RATE)
    return samples[first:last]


def _read(source: str | bytes, channels: Channels) -> np.ndarray:
    """The mean of some channels of a file."""
    if channels in (None, "average"):
        return audio.read_audio(source)
    wanted = _numbers(channels, audio.probe_file(source).channels)
    parts = [np.concatenate(list(audio.read_blocks(source, channel=n)) or [_NOTHING]) for n in wanted]
    return np.asarray(np.mean(parts, axis=0, dtype=np.float32))


def _unpacked(packed: Packed, channels: Channels) -> np.ndarray:
    data = packed.read()
    try:
        return _read(data, channels)
    except AudioError as error:
        raise AudioError(f"{packed}: {error}") from error


def _channels_first(sound: Any) -> Any:
    """(channels, samples), whichever of the two layouts it came in; mono stays as it is."""
    return sound.T if sound.ndim == 2 and sound.shape[0] > sound.shape[1] else sound


def _selected(sound: Any, channels: Channels) -> Any:
    """Some channels of (channels, samples); mono is taken as it is."""
    if channels in (None, "average") or sound.ndim == 1:
        return sound
    return sound[_numbers(channels, len(sound))]


def _numbers(channels: Channels, count: int) -> list[int]:
    """Which of ``count`` channels ``channel_selector`` means."""
    if isinstance(channels, str) or channels is None:
        raise AudioError(f"channel_selector must be a number, a list of them or 'average', not {channels!r}")
    wanted = [channels] if isinstance(channels, int) else list(channels)
    if not wanted or not all(0 <= n < count for n in wanted):
        raise AudioError(f"channel_selector {wanted}: the recording has channels 0 to {count - 1}")
    return wanted
