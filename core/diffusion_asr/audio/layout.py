"""How sound lies in a file, from its outermost structure: files that were joined, and ends that are missing.

Decoders read the first of several files that were put together with ``cat`` (a radio's Ogg, a phone's calls),
or stop at the end of a file that was cut, and say nothing of it. The outermost structure tells both.
References: RFC 3533 (Ogg), ISO/IEC 14496-12 (boxes), RFC 8794 (EBML), Microsoft RIFF.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

Span = tuple[int, int]
UNKNOWN_SIZE = 0x7FFF_0000  # writers to a pipe put a size this large (or larger) for "until the end"
_SEARCHED = 1 << 16
_RIFF_KINDS = (b"WAVE", b"AVI ", b"AIFF", b"AIFC")
_FRAMES = tuple(bytes([0xFF, n]) for n in (0xFB, 0xFA, 0xFD, 0xFC, 0xF3, 0xF2, 0xF5, 0xF4, 0xE3, 0xE2))
_VBR_HEADER = re.compile(rb"(?:Xing|Info)(....)", re.DOTALL)
_EBML = 0x1A45DFA3
_MASTERS = (0x18538067, 0x1F43B675)  # EBML's that may be of unknown size: Segment, Cluster


@dataclass(frozen=True, slots=True)
class Layout:
    """The files in a file.

    Attributes:
        parts: (first byte, byte after the last) of each, in order.
        is_cut: Whether the last one is sure to be longer than what is there.
    """

    parts: tuple[Span, ...]
    is_cut: bool


class Window(io.RawIOBase):
    """A part of an open file, as a file; it has no name, which decoders would guess from."""

    def __init__(self, file: BinaryIO, first: int, last: int) -> None:
        self._file, self._first, self._size, self._at = file, first, last - first, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Bytes from its start."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As every file."""
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        """As every file."""
        left = max(0, self._size - self._at)
        self._file.seek(self._first + self._at)
        data = self._file.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """As every file."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def find_layout(file: BinaryIO) -> Layout:
    """The outermost structure of a file that can be sought; one whole part where nothing is known of it."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"OggS":
        return _find_ogg(file, size)
    if head[:4] in (b"RIFF", b"FORM") and head[8:] in _RIFF_KINDS:
        return _find_riff(file, size)
    if head[4:8] == b"ftyp":
        return _find_boxes(file, size)
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _find_ebml(file, size)
    return Layout(((0, size),), is_mp3(head) and _is_cut_mp3(file, size))


def is_mp3(head: bytes) -> bool:
    """Whether a file begins with an ID3 tag or a frame of MPEG audio, layer II or III."""
    return head[:3] == b"ID3" or head[:2] in _FRAMES


def _cut_at(starts: list[int], size: int) -> tuple[Span, ...]:
    return tuple(zip(starts, [*starts[1:], size], strict=True))


def _find_ogg(file: BinaryIO, size: int) -> Layout:
    """A new file begins with a beginning of stream after pages of sound; the last one ends with an end."""
    starts, has_sound, has_ended, end = [0], False, False, 0
    for at, flags, after in _pages(file):
        end = after
        if flags & 2 and has_sound:
            starts.append(at)
            has_sound = has_ended = False
        has_sound = has_sound or not flags & 2
        has_ended = has_ended or bool(flags & 4)
    return Layout(_cut_at(starts, size), not has_ended or end > size)


def _pages(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """(first byte, flags, byte after the last) of each page; what lies between pages is passed over."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(27 + 255)
        if len(head) < 27:
            return
        if head[:4] != b"OggS" or head[4]:
            file.seek(at + 1)
            found = file.read(_SEARCHED).find(b"OggS")
            at += 1 + found if found >= 0 else max(1, _SEARCHED - 3)
            continue
        segments = head[26]
        end = at + 27 + segments + sum(head[27 : 27 + segments])
        yield at, head[5], end
        at = end


def _find_riff(file: BinaryIO, size: int) -> Layout:
    starts = [0]
    while True:
        file.seek(starts[-1])
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind == b"FORM":
            length = int.from_bytes(struct.pack("<I", length), "big")
        end = starts[-1] + 8 + length + length % 2
        if length >= UNKNOWN_SIZE:
            return Layout(_cut_at(starts, size), False)
        file.seek(end)
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"FORM") or head[8:] not in _RIFF_KINDS:
            return Layout(_cut_at(starts, size), end - length % 2 > size)
        starts.append(end)


def _find_boxes(file: BinaryIO, size: int) -> Layout:
    """MP4 and its kin: a new file begins with a ``ftyp`` once there was a ``moov``."""
    starts, has_index, at = [0], False, 0
    while at + 8 <= size:
        file.seek(at)
        length, kind, large = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
        length = {0: size - at, 1: large}.get(length, length)
        if length < 8:
            break  # no box: whatever follows is not ours
        if kind == b"ftyp" and has_index:
            starts.append(at)
            has_index = False
        has_index = has_index or kind == b"moov"
        at += length
    return Layout(_cut_at(starts, size), at > size)


def _find_ebml(file: BinaryIO, size: int) -> Layout:
    """Matroska and WebM: each file has a header before its segment; live ones do not know their sizes."""
    starts, at = [0], 0
    while at < size:
        file.seek(at)
        head = file.read(12)
        id_length = 9 - head[0].bit_length()
        if not 1 <= id_length <= 4 or len(head) <= id_length or not head[id_length]:
            return Layout(_cut_at(starts, size), False)  # damaged here: the decoder finds out
        kind = int.from_bytes(head[:id_length], "big")
        length = 9 - head[id_length].bit_length()
        value = int.from_bytes(head[id_length : id_length + length].ljust(length, b"\0"), "big")
        unknown = (1 << (7 * length)) - 1
        if kind == _EBML and at:
            starts.append(at)
        at += id_length + length
        if value & unknown != unknown:
            at += value & unknown
        elif kind not in _MASTERS:
            return Layout(_cut_at(starts, size), False)
    return Layout(_cut_at(starts, size), at > size)


def _is_cut_mp3(file: BinaryIO, size: int) -> bool:
    """Whether an encoder's own header says that there were more bytes."""
    file.seek(0)
    head = file.read(10)
    first = 0
    if head[:3] == b"ID3":
        first = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    file.seek(first)
    frame = file.read(256)
    found = _VBR_HEADER.search(frame)
    if found is None:
        return False
    flags = int.from_bytes(found[1], "big")
    values = frame[found.end() :]
    at = 4 * (flags & 1)
    declared = int.from_bytes(values[at : at + 4], "big") if flags & 2 else 0
    return first + declared > size + 8
