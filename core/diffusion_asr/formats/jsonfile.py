"""The project's own JSON: the only format that keeps everything."""

from __future__ import annotations

from typing import Any

from diffusion_asr.errors import FormatError
from diffusion_asr.formats.base import Format, is_time
from diffusion_asr.formats.jsonvalues import Node, dump_json, load_json
from diffusion_asr.transcript import Segment, Transcript, Word

SCHEMA_VERSION = 1
"""Grows when an older reader would misunderstand the file; new keys alone do not need that."""
_MODEL = "model"
_NUMBERS = ("processing_seconds", "speed")
"""Keys of a transcript's metadata that its reader finds first: what wrote it, and how fast."""


def _render(transcripts: list[Transcript]) -> str:
    return dump_json(
        {"schema_version": SCHEMA_VERSION, "transcripts": [_transcript_object(each) for each in transcripts]}
    )


def _transcript_object(transcript: Transcript) -> dict[str, Any]:
    making = {name: _lifted(name, text) for name, text in transcript.metadata.items()}
    return {
        "source": transcript.source,
        "duration": float(transcript.duration),  # float() also takes numpy's numbers
        "language": transcript.language,
        **{name: value for name, value in making.items() if value is not None},
        "metadata": {name: text for name, text in transcript.metadata.items() if making[name] is None},
        "segments": [_segment_object(segment) for segment in transcript.segments],
    }


def _lifted(name: str, text: str) -> str | float | None:
    """What stands beside the duration, as text or number; None if it stays in the metadata."""
    if name == _MODEL:
        return text
    try:
        number = float(text) if name in _NUMBERS else None
    except ValueError:
        return None
    return number if number is not None and is_time(number) and repr(number) == text else None


def _segment_object(segment: Segment) -> dict[str, Any]:
    return {
        "start": float(segment.start),
        "end": float(segment.end),
        "text": segment.text,
        "language": segment.language,
        "speaker": segment.speaker,
        "words": [_word_object(word) for word in segment.words],
    }


def _word_object(word: Word) -> dict[str, Any]:
    result: dict[str, Any] = {
        "text": word.text,
        "start": float(word.start),
        "end": float(word.end),
        "confidence": None if word.confidence is None else float(word.confidence),
        "speaker": word.speaker,
    }
    if word.speaker_confidence is not None:
        result["speaker_confidence"] = float(word.speaker_confidence)
    if word.overlapped:
        result["overlapped"] = True
    return result


def _parse(text: str) -> list[Transcript]:
    root = load_json(text)
    if isinstance(root.value, list):
        raise FormatError("a JSON list, not a transcript object; if it is SegLST, give the format seglst")
    version = root.at("schema_version")
    if version.value != SCHEMA_VERSION:
        raise version.wrong(f"{SCHEMA_VERSION}, the schema that this version of diffusion-asr reads,")
    return [_transcript(node) for node in root.at("transcripts").each()]


def _transcript(node: Node) -> Transcript:
    metadata = node.at("metadata") if node.has("metadata") else Node({}, "")
    making = {name: repr(node.at(name).seconds()) for name in _NUMBERS if node.has(name)}
    if node.has(_MODEL):
        making[_MODEL] = node.at(_MODEL).text()
    return Transcript(
        segments=tuple(_segment(each) for each in node.at("segments").each()),
        duration=node.at("duration").seconds(),
        source=node.at("source").optional_text(),
        metadata=making | {key: metadata.at(key).text() for key in metadata.keys()},  # noqa: SIM118 - no dict
    )


def _segment(node: Node) -> Segment:
    start, end = node.span("start", "end")
    words = node.at("words").each() if node.has("words") else []
    return Segment(
        start=start,
        end=end,
        text=node.at("text").text(),
        words=tuple(_word(each) for each in words),
        language=node.at("language").optional_text(),
        speaker=node.at("speaker").optional_text(),
    )


def _word(node: Node) -> Word:
    start, end = node.span("start", "end")
    return Word(
        text=node.at("text").text(),
        start=start,
        end=end,
        confidence=node.at("confidence").optional_probability(),
        speaker=node.at("speaker").optional_text(),
        speaker_confidence=node.at("speaker_confidence").optional_probability(),
        overlapped=node.at("overlapped").flag(),
    )


JSON = Format("json", (".json",), "everything, without loss", True, _render, _parse)
