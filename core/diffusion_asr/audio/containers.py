"""Containers of coded sound through FFmpeg's libraries (PyAV): one track, every second at its true time.

A container states when each packet is to be heard. A track that starts late, or has holes, is filled with
silence, so that a time here is a time of the recording; a clock that starts again (files that were joined)
goes on where it was. FFmpeg follows no reference out of a file and knows no network here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition

from diffusion_asr.audio.notes import warn
from diffusion_asr.audio.samples import CONVERT, PIECE, Piece, Samples, as_float, check_format
from diffusion_asr.audio.stream import Stream
from diffusion_asr.errors import AudioError

# No playlists, which could name other files, and nothing that takes noise for sound.
_CONTAINERS = (
    "aa,aac,ac3,aea,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dss,dts,dtshd,dv,eac3,flac,flv,gxf,iff,kux,"
    "live_flv,loas,matroska,mlp,mov,mpc,mpc8,mpeg,mpegts,mxf,nsv,nut,ogg,oma,osq,qcp,qoa,rm,shn,sox,tak,"
    "truehd,tta,ty,voc,w64,wav,webm,wtv,wv,xwma"
)
_ABSOLUTE = ("mov", "matroska")  # their clocks start with the file; others' anywhere
_TAGS = (b"ID3", b"TAG", b"APETAGEX")  # between the joined parts of an mp3: no sound, no damage
_SECONDARY = Disposition.comment | Disposition.descriptions | Disposition.visual_impaired
_JITTER = 0.1  # seconds that a container's clock may be off without a gap or a new start
_LEAD = 0.01  # seconds that a track must begin late
_LONGEST_GAP = 12 * 3600.0  # a clock that jumps further is wrong


@contextmanager
def open_container(
    file: BinaryIO, name: str, track: int | None = None, is_mp3: bool = False, is_cut: bool = False
) -> Iterator[Stream]:
    """Open one track of a file that can be sought; its pieces come as they are asked for.

    Args:
        file: Without a name that FFmpeg could guess from.
        name: For messages.
        track: Number of the audio track, from 1; None is the one that the file calls its default.
        is_mp3: Whether it is known to be one: FFmpeg would take noise for that.
        is_cut: Whether it is known to break off.

    Raises:
        AudioError: No sound that can be read, or no such track.

    Warns:
        AudioWarning: At the end: which track was chosen of several, damage, gaps, an end that is missing.
    """
    allowed = f"{_CONTAINERS},mp3" if is_mp3 else _CONTAINERS
    safe = {"format_whitelist": allowed, "protocol_whitelist": "none"}
    try:
        container = av.open(
            file, "r", container_options=safe, metadata_errors="replace", io_open=_follow_nothing
        )
    except (av.FFmpegError, ValueError) as error:
        if is_cut:
            raise AudioError(f"{name}: breaks off before the index that it needs: copy it again") from error
        raise AudioError(f"{name}: is not sound that can be read ({_reason(error)}): {_REMEDY}") from error
    with container:
        decoder = _Decoder(container, *_choose(container, name, track), name, is_cut)
        first = next(decoder.pieces, None)
        rate, channels = (first.rate, first.samples.shape[1]) if first else decoder.stated_format
        check_format(name, rate, channels)
        pieces = chain(() if first is None else (first,), decoder.pieces)
        frames = decoder.stated_frames(rate)
        yield Stream(rate, channels, decoder.format, frames, pieces, decoder.likely)


_REMEDY = f"give a sound file, or {CONVERT}"


def _follow_nothing(url: str, *_: Any) -> Any:
    raise AudioError(f"it refers to {url}, which is not followed")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return "not a format known to FFmpeg" if isinstance(error, av.InvalidDataError) else text


def _choose(container: InputContainer, name: str, track: int | None) -> tuple[AudioStream, str]:
    """The track, and what there is to say about it."""
    tracks = list(container.streams.audio)
    if not tracks:
        raise AudioError(f"{name}: it has no audio track: {_REMEDY}")
    listed = "; ".join(_describe(n, one) for n, one in enumerate(tracks, start=1))
    if track is not None:
        if not 1 <= track <= len(tracks):
            raise AudioError(f"{name}: has no audio track {track}; there is {listed}: choose one of them")
        return tracks[track - 1], ""
    spoken = [one for one in tracks if not one.disposition & _SECONDARY] or tracks
    chosen = next((one for one in spoken if one.disposition & Disposition.default), spoken[0])
    number = tracks.index(chosen) + 1
    told = f"has several audio tracks ({listed}); track {number} is used (--track N chooses)"
    return chosen, told if len(tracks) > 1 else ""


def _describe(number: int, track: AudioStream) -> str:
    told = [track.metadata.get("title", ""), track.language or ""]
    told += ["default"] if track.disposition & Disposition.default else []
    inside = ", ".join(part for part in told if part and part != "und")
    return f"{number} ({inside})" if inside else str(number)


class _Decoder:
    """One track, decoded bit by bit."""

    def __init__(
        self, container: InputContainer, track: AudioStream, note: str, name: str, is_cut: bool
    ) -> None:
        self._container, self._track, self._name, self._is_cut = container, track, name, is_cut
        self._note = note
        if track.codec_context is None:
            raise AudioError(f"{name}: FFmpeg knows no decoder for its audio track: {CONVERT}")
        track.codec_context.thread_count = 1
        self._kind = container.format.name.split(",")[0]
        zero = 0 if self._kind in _ABSOLUTE else (container.start_time or 0)
        self._zero = zero / av.time_base
        self._end = 0.0  # seconds up to which there are pieces
        self._shift = 0.0  # from the container's clock to ours, once it was wrong
        self._skipped = 0.0  # seconds that its clock leapt, too many to be silent
        self._sounding = 0.0  # seconds of decoded sound
        self._damaged: list[float] = []  # where packets could not be decoded
        self._gaps: list[tuple[float, float]] = []  # where, and how long
        self.pieces = self._decode()

    @property
    def format(self) -> str:
        """Container and coding."""
        return f"{self._kind}/{self._track.codec_context.codec.canonical_name}".upper()

    @property
    def stated_format(self) -> tuple[int, int]:
        """Hz and channels that the header states."""
        context = self._track.codec_context
        return context.sample_rate, context.channels

    @property
    def likely(self) -> float:
        """Seconds in all, estimated where the header does not state them."""
        return self._stated_end() or (self._container.duration or 0) / av.time_base

    def stated_frames(self, rate: int) -> int | None:
        """Frames that the header states, where it does not estimate them."""
        end = self._stated_end()
        return None if end is None else round(end * rate)

    def _stated_end(self) -> float | None:
        track = self._track
        if self._kind in ("mov", "flac") and track.duration and track.time_base:
            return float((track.duration + (track.start_time or 0)) * track.time_base)
        stated = [part for key, part in track.metadata.items() if key.upper().startswith("DURATION")]
        return _clock_seconds(stated[0]) if stated and self._kind == "matroska" else None

    def _decode(self) -> Iterator[Piece]:
        held: list[Piece] = []
        for piece in chain.from_iterable(self._placed(frame) for frame in self._frames()):
            if held and (piece.rate, piece.samples.shape[1]) != (held[0].rate, held[0].samples.shape[1]):
                yield _merged(held)
                held = []
            held.append(piece)
            if sum(len(one.samples) for one in held) >= PIECE:
                yield _merged(held)
                held = []
        if held:
            yield _merged(held)
        self._tell()

    def _frames(self) -> Iterator[AudioFrame]:
        packets = self._container.demux(self._track)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):
                self._is_cut = True
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._note_damage(packet)
                continue
            yield from frames

    def _note_damage(self, packet: Packet[AudioStream]) -> None:
        is_tag = not packet.size or bytes(packet).startswith(_TAGS)
        if not is_tag and self._damaged[-1:] != [self._end]:
            self._damaged.append(self._end)

    def _placed(self, frame: AudioFrame) -> Iterator[Piece]:
        """A frame, after the silence that the container's clock says comes before it."""
        samples, rate = _samples(frame), frame.sample_rate
        check_format(self._name, rate, samples.shape[1])
        if frame.pts is not None and frame.time_base is not None:
            at = float(frame.pts * frame.time_base) - self._zero + self._shift
            gap = at - self._end
            if (_JITTER if self._sounding else _LEAD) < gap <= _LONGEST_GAP:
                if self._sounding:
                    self._gaps.append((self._end, gap))
                yield from _silence(round(gap * rate), samples.shape[1], rate)
                self._end = at
            elif abs(gap) > _JITTER:
                self._shift -= gap  # the clock starts again, or is wrong
                self._skipped = max(self._skipped, gap)
        self._end += len(samples) / rate
        self._sounding += len(samples) / rate
        yield Piece(samples, rate)

    def _tell(self) -> None:
        name, stated = self._name, self._stated_end()
        if not self._sounding and (self._damaged or self._is_cut):
            raise AudioError(f"{name}: is damaged from the start: copy it again, or {CONVERT}")
        if self._note:
            warn(f"{name}: {self._note}")
        if self._damaged[-1:] == [self._end]:  # nothing came after it
            self._damaged.pop()
            self._is_cut = True
        if self._damaged:
            count = f"{len(self._damaged)} place{'s' if len(self._damaged) > 1 else ''}"
            warn(f"{name}: is damaged in {count}, first at {self._damaged[0]:.1f} s; the rest is used")
        if self._gaps:
            start, longest = max(self._gaps, key=lambda gap: gap[1])
            more = f", and {len(self._gaps) - 1} more" if len(self._gaps) > 1 else ""
            place = f"{longest:.1f} s at {start:.1f} s{more}"
            warn(f"{name}: its sound has a gap of {place}; it is kept as silence")
        if self._skipped > 0:
            warn(f"{name}: its clock leaps by {self._skipped / 3600:.0f} h; times count on as if it had not")
        is_short = stated is not None and not self._shift and self._end < stated - max(0.5, 0.01 * stated)
        if self._is_cut or is_short:
            warn(f"{name}: breaks off after {self._end:.1f} s; what comes before is used")


def _clock_seconds(text: str) -> float | None:
    """Seconds of "00:00:04.144000000"."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _samples(frame: AudioFrame) -> Samples:
    """(frames, channels) float32."""
    array = frame.to_ndarray()
    frames = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    return as_float(frames)


def _silence(frames: int, channels: int, rate: int) -> Iterator[Piece]:
    for first in range(0, frames, PIECE):
        yield Piece(np.zeros((min(PIECE, frames - first), channels), np.float32), rate)


def _merged(pieces: list[Piece]) -> Piece:
    return Piece(np.concatenate([piece.samples for piece in pieces]), pieces[0].rate)
