"""What libsndfile reads whole: wav, aiff, au, caf, w64, rf64 and their kin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import soundfile as sf

from diffusion_asr.audio.layout import UNKNOWN_SIZE, is_mp3
from diffusion_asr.audio.notes import warn
from diffusion_asr.audio.samples import PIECE, Piece
from diffusion_asr.audio.stream import Stream
from diffusion_asr.errors import AudioError

# Coded in packets: libsndfile reads the first of several joined files, and closes gaps.
_PACKETS = ("OGG", "MP3", "MPEG", "FLAC")

# libsndfile's log is the only place where it tells that a file is shorter than its header says.
_DECLARED = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_SHORT = re.compile(r"ended unexpectedly|not match value from 'ds64'")
_HIDDEN_SOUND = re.compile(r"Unknown chunk marker|Have 0 marker|ended unexpectedly")


class NotPcmError(Exception):
    """Not libsndfile's matter; the message is its reason, or the coding in packets that it knows."""


@contextmanager
def open_pcm(file: BinaryIO, name: str) -> Iterator[Stream]:
    """Open a file that can be sought; its pieces come as they are asked for.

    Raises:
        NotPcmError: Another decoder should try.
        AudioError: Damaged from the start.

    Warns:
        AudioWarning: At the end, if the file breaks off.
    """
    head = file.read(4)
    file.seek(0)
    if is_mp3(head) or head in (b"OggS", b"fLaC"):
        raise NotPcmError("MP3" if is_mp3(head) else "packets")
    try:
        sound = sf.SoundFile(file)
    except (sf.LibsndfileError, TypeError) as error:  # TypeError: a .raw file has no header
        raise NotPcmError(getattr(error, "error_string", "headerless raw samples")) from error
    with sound:
        if sound.format in _PACKETS:
            raise NotPcmError(sound.format)
        log = sound.extra_info
        if not sound.frames and _HIDDEN_SOUND.search(log):
            raise NotPcmError("its header says that there are no samples")
        coding = f"{sound.format}/{sound.subtype}"
        rate, frames = sound.samplerate, sound.frames
        yield Stream(rate, sound.channels, coding, frames, _decode(sound, name), frames / max(1, rate))


def _is_cut_short(log: str) -> bool:
    sizes = [(int(declared), int(found)) for declared, found in _DECLARED.findall(log)]
    lies = any(found + 8 < declared < UNKNOWN_SIZE for declared, found in sizes)
    return lies or _CUT_SHORT.search(log) is not None


def _decode(sound: Any, name: str) -> Iterator[Piece]:
    """Pieces up to the end or to the place where the decoder gives up."""
    sound.seekable = lambda: False  # soundfile seeks after each read of a seekable file
    frames, cut_short = 0, _is_cut_short(sound.extra_info)
    while True:
        samples = np.empty((PIECE, sound.channels), np.float32)
        try:
            count = len(sound.read(out=samples))
        except sf.LibsndfileError as error:
            count = max(sound.tell() - frames, 0)  # what was decoded before the damage
            cut_short = True
            if frames + count == 0:
                raise AudioError(f"{name}: is damaged from the start ({error}): copy it again") from error
        if count:
            yield Piece(samples[:count], sound.samplerate)
        frames += count
        if count < PIECE:
            break
    if cut_short or frames < sound.frames:
        warn(f"{name}: breaks off after {frames / sound.samplerate:.1f} s; what comes before is used")
