"""A diarization from elsewhere, in an RTTM file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from diffusion_asr import formats
from diffusion_asr.formats.base import session
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.meeting.diarizer import Diarization, DiarizationError, KnownTurns
from diffusion_asr.transcript import Transcript

_BEYOND = 0.5  # seconds by which a turn may end after the recording: rounding, not another recording


def read_rttm(path: str | os.PathLike[str], recording: str | os.PathLike[str], duration: float) -> KnownTurns:
    """The turns of one recording.

    Args:
        path: The RTTM file.
        recording: The sound file; its name without folder and suffix chooses among several.
        duration: Its length in seconds.

    Raises:
        FormatError: Not an RTTM file.
        DiarizationError: Turns of another recording, or none.
    """
    found = formats.read(Path(path), "rttm")
    wanted = session(Transcript(source=os.fspath(recording)))
    mine = [one for one in found if session(one) == wanted]
    if not found:
        raise DiarizationError(f"{path}: has no SPEAKER lines; leave out --rttm to find out who speaks")
    if not mine:
        names = ", ".join(session(one) for one in found[:5]) + (" …" if len(found) > 5 else "")
        raise DiarizationError(
            f"{path}: holds turns of {names}, not of {wanted}; its second field must be the recording's name "
            "without folder and suffix"
        )
    turns = tuple(Turn(s.start, s.end, s.speaker) for s in mine[0].segments if s.speaker and s.end > s.start)
    if not turns:
        raise DiarizationError(f"{path}: has no turn of {wanted} with a length and a speaker's name")
    latest = max(turns, key=lambda turn: turn.end)
    if latest.end > duration + _BEYOND:
        raise DiarizationError(
            f"{path}: a turn of {latest.speaker} ends at {latest.end:.2f} s, but {recording} lasts "
            f"{duration:.2f} s; is it of another recording, or of an uncut one?"
        )
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return KnownTurns(Diarization(turns), f"rttm {digest}")
