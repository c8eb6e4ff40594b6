"""What is to be transcribed: paths, arrays, manifest entries and NeMo's own batches, all as ``Clip``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffusion_asr.audio import files as audio
from diffusion_asr.errors import AudioError

Channels = int | str | Iterable[int] | None
_ROUNDING = 0.05  # seconds by which a manifest's duration may miss the file's


@dataclass  # NeMo rebuilds it field by field when it moves a batch to a device
class Clip:
    """A recording or a part of one.

    Attributes:
        source: A path, or samples at 16 kHz: (samples,) or (channels, samples).
        language: As its manifest entry says, or None.
        offset: Seconds at which it begins in its file.
        duration: Its length in seconds; None takes all that follows.
    """

    source: Any
    language: str | None = None
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


def entry_language(entry: Mapping[str, Any], lang_field: str) -> str | None:
    """The language of a manifest entry: ``source_lang``, else ``lang_field``; None if it names none."""
    return entry.get("source_lang") or entry.get(lang_field) or None


def read_entries(manifest: str | Path, folder: Path | None = None) -> list[dict[str, Any]]:
    """A NeMo manifest's lines; relative paths are relative to ``folder``, by default the manifest's.

    Raises:
        AudioError: It cannot be read, or an entry has no ``audio_filepath``.
    """
    manifest = Path(manifest)
    try:
        lines = manifest.read_text(encoding="utf8").splitlines()
        entries = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise AudioError(
            f"{manifest}: not a readable manifest ({error}); give one JSON object a line"
        ) from error
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not isinstance(entry.get("audio_filepath"), str):
            raise AudioError(f"{manifest}: entry {number} has no audio_filepath")
        entry["audio_filepath"] = str(
            (folder or manifest.parent) / Path(entry["audio_filepath"]).expanduser()
        )
    return entries


def entry_clip(entry: Mapping[str, Any], lang_field: str = "lang") -> Clip:
    """The clip of a manifest entry."""
    duration = entry.get("duration")
    return Clip(
        entry["audio_filepath"],
        entry_language(entry, lang_field),
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
    if isinstance(clip.source, str) and channels in (None, "average"):
        samples = audio.read_audio(clip.source)
    elif isinstance(clip.source, str):
        audio.probe_file(clip.source)  # refuses with core's message what is no sound
        sound, rate = sf.read(clip.source, dtype="float32", always_2d=True)
        samples = audio.convert_to_mono(_selected(sound.T, channels), rate)
    else:
        samples = audio.convert_to_mono(_selected(_channels_first(clip.source), channels))
    first = round(clip.offset * audio.SAMPLE_RATE)
    if first and first >= len(samples):
        seconds = len(samples) / audio.SAMPLE_RATE
        raise AudioError(f"{clip.source}: offset {clip.offset:g} s lies beyond its end at {seconds:.2f} s")
    last = len(samples) if clip.duration is None else first + round(clip.duration * audio.SAMPLE_RATE)
    return samples[first:last]


def _channels_first(sound: Any) -> Any:
    """(channels, samples), whichever of the two layouts it came in; mono stays as it is."""
    return sound.T if sound.ndim == 2 and sound.shape[0] > sound.shape[1] else sound


def _selected(sound: Any, channels: Channels) -> Any:
    """Some channels of (channels, samples); mono is taken as it is."""
    if channels in (None, "average") or sound.ndim == 1:
        return sound
    if isinstance(channels, str) or channels is None:
        raise AudioError(f"channel_selector must be a number, a list of them or 'average', not {channels!r}")
    wanted = [channels] if isinstance(channels, int) else list(channels)
    if not wanted or not all(0 <= n < len(sound) for n in wanted):
        raise AudioError(f"channel_selector {wanted}: the recording has channels 0 to {len(sound) - 1}")
    return sound[wanted]
