"""Pieces of a recording, each decoded on its own: whole windows of speech, or windows cut at turn changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from diffusion_asr.acoustics.language import LanguagePrior
from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.audio.windows import Window
from diffusion_asr.decoding.canvas import read_tokens
from diffusion_asr.decoding.decoder import DecodingOptions, Hypothesis
from diffusion_asr.meeting.attribution import Turn, TurnIndex
from diffusion_asr.meeting.journal import DecodedPiece
from diffusion_asr.meeting.result import SegmentTrace
from diffusion_asr.meeting.stretches import Stretch, cut_stretches
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.segments import cut_segments
from diffusion_asr.text.vocabulary import Vocabulary

_AUDIBLE = 1.0  # seconds: in less the language cannot be told


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Speech to decode.

    Attributes:
        window: Its samples and place.
        track: Number of the track that it is from.
        speaker: Whose it is; None is nobody known, or several.
        languages: Stretches in it by who speaks, in each of which the language is detected.
    """

    window: Window
    track: int = 0
    speaker: str | None = None
    languages: tuple[Stretch, ...] = ()

    @property
    def key(self) -> tuple[int, float, float]:
        """Tells it from every other piece of the recording."""
        return self.track, self.window.start, self.window.end


class Floor:
    """The exclusive view of a diarization, to cut windows by."""

    def __init__(self, turns: Sequence[Turn], limit: float) -> None:
        self._turns, self._index, self._limit = turns, TurnIndex(turns), limit

    def whole(self, window: Window) -> Iterator[Piece]:
        """A window as it is; who speaks in it only matters for its languages."""
        yield Piece(window, languages=tuple(self._stretches(window)))

    def cut(self, window: Window) -> Iterator[Piece]:
        """A window in pieces of one speaker each."""
        for stretch in self._stretches(window):
            yield Piece(_part(window, stretch.start, stretch.end), speaker=stretch.speaker)

    def _stretches(self, window: Window) -> list[Stretch]:
        return cut_stretches(self._index, self._turns, window.start, window.end, self._limit)


class PieceDecoder:
    """A recogniser with the options of a meeting."""

    def __init__(self, recognizer: Recognizer, language: str | None, options: DecodingOptions) -> None:
        self._recognizer, self._language = recognizer, recognizer.check_language(language)
        self._options = options
        self._prior = LanguagePrior(recognizer.languages)

    def recall(self, done: DecodedPiece) -> None:
        """Take the languages of a piece that was decoded before as known."""
        for segment in done.segments:
            if segment.language:
                self._prior.add({segment.language: 1.0}, segment.end - segment.start)

    def decode(self, piece: Piece) -> DecodedPiece:
        """What is said in a piece; where its speakers have several languages, language by language."""
        done = [self._decode(window, language) for window, language in self._by_language(piece)]
        segments = tuple(replace(s, speaker=piece.speaker) for one in done for s in one.segments)
        if not self._options.trace:
            return DecodedPiece(segments)
        traces = [one.trace.steps for one in done if one.trace]
        return DecodedPiece(
            segments, SegmentTrace(piece.window.start, piece.window.end, _side_by_side(traces))
        )

    def _decode(self, window: Window, language: str | None) -> DecodedPiece:
        memory = self._recognizer.encode(torch.from_numpy(window.samples)[None])
        (likely,) = self._recognizer.detect_language(memory) if language is None else ({},)
        if likely:  # a short piece in view of what came before
            seconds = window.end - window.start
            self._prior.add(likely, seconds)
            language = self._prior.choose(likely, seconds)
        (hypothesis,) = self._recognizer.decode(memory, language, self._options)
        traced = self._options.trace
        trace = (
            SegmentTrace(window.start, window.end, spell_trace(hypothesis, self._recognizer.parts.vocabulary))
            if traced
            else None
        )
        return DecodedPiece(tuple(cut_segments(window, hypothesis)), trace)

    def _by_language(self, piece: Piece) -> list[tuple[Window, str | None]]:
        """The parts of a piece with their languages; one part unless speakers differ."""
        if self._language is not None or len({s.speaker for s in piece.languages}) < 2:
            return [(piece.window, self._language)]
        heard = [self._heard(_part(piece.window, s.start, s.end)) for s in piece.languages]
        known = [code for code in heard if code is not None]
        if len(set(known)) < 2:
            return [(piece.window, None)]
        runs: list[tuple[float, float, str]] = []
        for stretch, code in zip(piece.languages, heard, strict=True):
            before = runs[-1][2] if runs else known[0]
            if runs and code in (None, before):
                runs[-1] = (runs[-1][0], stretch.end, before)
            else:
                runs.append((stretch.start, stretch.end, code or before))
        return [(_part(piece.window, start, end), code) for start, end, code in runs]

    def _heard(self, window: Window) -> str | None:
        """The language of one stretch, if it is long enough to tell and the model can."""
        if window.end - window.start < _AUDIBLE:
            return None
        memory = self._recognizer.encode(torch.from_numpy(window.samples)[None])
        (likely,) = self._recognizer.detect_language(memory)
        return max(likely, key=lambda code: likely[code], default=None)


def spell_trace(hypothesis: Hypothesis, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The text of the first canvas, and of the canvas after every pass."""
    trace = hypothesis.decoded.trace
    canvases = [*(step.canvas for step in trace[:1]), *(step.predicted for step in trace)]
    return tuple(vocabulary.decode(read_tokens(canvas)) for canvas in canvases)


def _part(window: Window, start: float, end: float) -> Window:
    """The samples of a window between two times of the recording."""
    first = max(0, round((start - window.start) * SAMPLE_RATE))
    last = min(len(window.samples), round((end - window.start) * SAMPLE_RATE))
    if (first, last) == (0, len(window.samples)):
        return window
    return Window(window.start + first / SAMPLE_RATE, window.samples[first:last])


def _side_by_side(traces: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Several traces as one; those that are done wait for the longest."""
    longest = max(map(len, traces), default=0)
    rows = ([trace[min(n, len(trace) - 1)] for trace in traces if trace] for n in range(longest))
    return tuple(" ".join(text for text in row if text) for row in rows)
