"""SegLST, the segment list of CHiME and meeteval (https://github.com/fgnt/meeteval).

Two keys are ours and optional: ``language`` and ``word_list`` (the words' times, confidences and speakers).
"""

from __future__ import annotations

from typing import Any

from diffusion_asr.errors import FormatError
from diffusion_asr.formats.base import (
    UNKNOWN,
    Format,
    assemble_sessions,
    millis,
    name_from,
    one_line,
    sessions,
)
from diffusion_asr.formats.jsonvalues import Node, dump_json, load_json
from diffusion_asr.transcript import Segment, Transcript, Word


def _render(transcripts: list[Transcript]) -> str:
    return dump_json(
        [
            _segment_object(name, segment)
            for name, transcript in sessions(transcripts)
            for segment in transcript.segments
        ]
    )


def _segment_object(name: str, segment: Segment) -> dict[str, Any]:
    result: dict[str, Any] = {
        "session_id": name,
        "speaker": segment.speaker or UNKNOWN,
        "start_time": _rounded(segment.start),
        "end_time": _rounded(segment.end),
        "words": one_line(segment.text),
    }
    if segment.language is not None:
        result["language"] = segment.language
    if segment.words:
        result["word_list"] = [_word_object(word) for word in segment.words]
    return result


def _word_object(word: Word) -> dict[str, Any]:
    result: dict[str, Any] = {
        "word": word.text,
        "start_time": _rounded(word.start),
        "end_time": _rounded(word.end),
    }
    if word.confidence is not None:
        result["confidence"] = round(float(word.confidence), 4)
    if word.speaker is not None:
        result["speaker"] = word.speaker
    if word.speaker_confidence is not None:
        result["speaker_confidence"] = round(float(word.speaker_confidence), 4)
    if word.overlapped:
        result["overlapped"] = True
    return result


def _rounded(seconds: float) -> float:
    return millis(seconds) / 1000


def _parse(text: str) -> list[Transcript]:
    root = load_json(text)
    if isinstance(root.value, dict):
        raise FormatError("a JSON object, not a SegLST list; if this project wrote it, give the format json")
    return assemble_sessions((node.at("session_id").text(), _segment(node)) for node in root.each())


def _segment(node: Node) -> Segment:
    start, end = node.span("start_time", "end_time")
    words = node.at("word_list").each() if node.has("word_list") else []
    return Segment(
        start=start,
        end=end,
        text=node.at("words").text() if node.has("words") else "",  # after diarisation alone
        words=tuple(_word(each) for each in words),
        language=node.at("language").optional_text(),
        speaker=name_from(node.at("speaker").optional_text() or ""),
    )


def _word(node: Node) -> Word:
    start, end = node.span("start_time", "end_time")
    return Word(
        text=node.at("word").text(),
        start=start,
        end=end,
        confidence=node.at("confidence").optional_probability(),
        speaker=node.at("speaker").optional_text(),
        speaker_confidence=node.at("speaker_confidence").optional_probability(),
        overlapped=node.at("overlapped").flag(),
    )


SEGLST = Format(
    "seglst",
    (".seglst.json", ".seglst"),
    "meeteval's and CHiME's JSON list: times, speaker, language, text and words",
    True,
    _render,
    _parse,
)
