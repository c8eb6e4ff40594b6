"""Meetings: both orders of work, beside faster-whisper base joined the whisperX way on the same diarization.

    python -m recipes.benchmark.meetings quality --work ~/.cache/diffusion-asr-recipe
    python -m recipes.benchmark.meetings quality --simulated folder/of/recipes.meetings.simulate
    python -m recipes.benchmark.meetings memory --minutes 60

pyannote's sample is real: half a minute of a telephone call, 87 words. What ``recipes.meetings.simulate``
writes is simulated. Normaliser, metrics and DER (no collar) are those of ``diffusion-asr score``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile as sf
import typer

from diffusion_asr import formats, scoring
from diffusion_asr.audio import files as audio
from diffusion_asr.meeting import (
    ORDERS,
    Diarization,
    KnownTurns,
    MeetingOptions,
    SpeakerCount,
    make_offline_diarizer,
    transcribe_meeting,
)
from diffusion_asr.meeting.attribution import Turn, TurnIndex
from diffusion_asr.recognizer import Recognizer
from diffusion_asr.text.spacing import join_words
from diffusion_asr.transcript import Segment, Transcript, Word
from recipes.benchmark.speed import TRANSCRIBE, WORK, child

RATE = audio.SAMPLE_RATE
WHISPER = "faster-whisper base, whisperX join"
app = typer.Typer(add_completion=False, help=__doc__, rich_markup_mode=None)


@dataclass(frozen=True)
class Meeting:
    """A recording, what is said in it and who speaks when."""

    path: Path
    spoken: Transcript
    turns: tuple[Turn, ...]
    language: str | None


@dataclass
class Stopwatch:
    """Seconds by stage; see ``diffusion_asr.meeting.Stage``."""

    spent: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def __call__(self, stage: str, done: float, total: float, /) -> None:
        """Counts the time since the last call for this stage, if the stage had begun."""
        now = time.perf_counter()
        if done > 0.0:
            self.spent[stage] = self.spent.get(stage, 0.0) + now - self._last
        self._last = now


def sample() -> Meeting:
    """The half minute in pyannote.audio's wheel."""
    from importlib.util import find_spec

    found = find_spec("pyannote.audio.sample")
    assert found is not None
    assert found.submodule_search_locations is not None
    return _meeting(Path(found.submodule_search_locations[0]) / "sample.wav", "en")


def simulated(folder: Path) -> list[Meeting]:
    """Everything that ``recipes.meetings.simulate`` wrote there."""
    return [_meeting(path, None) for path in sorted(folder.glob("*.flac"))]


def _meeting(path: Path, language: str | None) -> Meeting:
    detailed = path.with_suffix(".seglst.json")
    (spoken,) = formats.read(detailed if detailed.exists() else path.with_suffix(".stm"))
    (speech,) = formats.read(path.with_suffix(".rttm"))
    turns = tuple(Turn(s.start, s.end, str(s.speaker)) for s in speech.segments)
    return Meeting(path, spoken, turns, language)


# --- the rival ---------------------------------------------------------------------------------------------


def whisper(work: Path, threads: int) -> Callable[[Meeting, Diarization], Transcript]:
    """faster-whisper base int8, beam of 5 as by default, its word times, and whisperX's join."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(work / "weights/whisper"), compute_type="int8", cpu_threads=threads)

    def run(meeting: Meeting, diarization: Diarization) -> Transcript:
        samples = audio.read_audio(meeting.path)
        found, about = model.transcribe(
            samples, language=meeting.language, word_timestamps=True, vad_filter=True
        )
        turns = TurnIndex(diarization.turns)
        segments = [part for each in found for part in _joined(each, turns, about.language)]
        return Transcript(tuple(segments), len(samples) / RATE, str(meeting.path))

    return run


def _joined(segment: Any, turns: TurnIndex, language: str) -> list[Segment]:
    """Each word to whom it overlaps most (whisperX's assign_word_speakers), else with its segment."""
    usual = _largest(turns, segment.start, segment.end)
    words = [
        Word(w.word.strip(), w.start, max(w.start, w.end), speaker=_largest(turns, w.start, w.end) or usual)
        for w in segment.words
    ]
    runs = (tuple(run) for _, run in groupby(words, key=lambda word: word.speaker))
    return [
        Segment(run[0].start, max(w.end for w in run), join_words(run), run, language, run[0].speaker)
        for run in runs
    ]


def _largest(turns: TurnIndex, start: float, end: float) -> str | None:
    spoken = turns.during(start, end)
    return max(spoken, key=lambda name: spoken[name]) if spoken else None


# --- scores ------------------------------------------------------------------------------------------------


def overlapped(transcript: Transcript, crowd: Sequence[tuple[float, float]]) -> Transcript:
    """The words (of a reference without word times: the segments) whose middle lies where several talk."""

    def inside(part: Segment | Word) -> bool:
        middle = (part.start + part.end) / 2
        return any(start <= middle < end for start, end in crowd)

    segments = []
    for segment in transcript.segments:
        if segment.words:
            words = tuple(filter(inside, segment.words))
            segments += [replace(segment, words=words, text=join_words(words))] if words else []
        elif inside(segment):
            segments.append(segment)
    return replace(transcript, segments=tuple(segments))


def crowds(turns: Sequence[Turn]) -> list[tuple[float, float]]:
    """Where several people talk at the same time."""
    edges = sorted({edge for turn in turns for edge in (turn.start, turn.end)})
    pairs = pairwise(edges)
    talking = ((a, b, {t.speaker for t in turns if t.start < b and t.end > a}) for a, b in pairs)
    return [(a, b) for a, b, names in talking if len(names) > 1]


def _rates(pairs: Sequence[tuple[Transcript, Transcript]], metric: str) -> str:
    scored = [one for truth, found in pairs for one in scoring.score([truth], [found])]
    found = scoring.combine_scores(scored, metric)
    if found is None:
        return "-"
    spread = f" [{found[1]:.1f}, {found[2]:.1f}]" if len(pairs) > 1 else ""
    return f"{found[0].percent:.1f}{spread}"


def _as_transcript(turns: Sequence[Turn], source: Path) -> Transcript:
    return Transcript(
        tuple(Segment(t.start, t.end, "", speaker=t.speaker) for t in turns), source=str(source)
    )


# --- commands ----------------------------------------------------------------------------------------------


@app.command()
def quality(
    work: Annotated[Path, typer.Option(help="The recipe's folder (Whisper base is in it).")] = WORK,
    simulated_folder: Annotated[Path | None, typer.Option("--simulated", help="Score these too.")] = None,
    model: str = "canvas-base",
    threads: int = 2,
    unaided: Annotated[bool, typer.Option(help="Also diarize without the count.")] = True,
) -> None:
    """Print cpWER of every system, the share of attribution, and DER with and without the count."""
    import torch

    torch.set_num_threads(threads)
    recognizer = Recognizer.from_pretrained(model)
    rival = whisper(work, threads) if (work / "weights/whisper").is_dir() else None
    groups = {"pyannote's sample (real)": [sample()]}
    if simulated_folder is not None:
        made = simulated(simulated_folder)
        groups[f"{simulated_folder.name}, simulated, {len(made)}"] = made
    for name, meetings in groups.items():
        _table(name, meetings, recognizer, rival, unaided)


def _table(name: str, meetings: list[Meeting], recognizer: Recognizer, rival: Any, unaided: bool) -> None:
    given = [_diarized(m, SpeakerCount(len({t.speaker for t in m.turns}))) for m in meetings]
    print(f"\n**{name}**: count given, the same diarization for all\n")
    print("| system | WER | cpWER | ORC-WER | cpWER in overlap | decoding, s | attribution, s (share) |")
    print("|---|---|---|---|---|---|---|")
    for order in ORDERS:
        watch, found = Stopwatch(), []
        for meeting, diarization in zip(meetings, given, strict=True):
            options = MeetingOptions(language=meeting.language, order=order)
            known = KnownTurns(diarization, "given")
            found.append(transcribe_meeting(meeting.path, recognizer, known, options, stage=watch).transcript)
        decoding, attribution = watch.spent["decoding"], watch.spent["attribution"]
        share = f"{decoding:.2f} | {attribution:.4f} ({100 * attribution / decoding:.2f} %)"
        print(f"| diffusion-asr, {order} | {_scores(meetings, found)} | {share} |", flush=True)
    if rival is not None:
        began = time.perf_counter()
        found = [rival(m, d) for m, d in zip(meetings, given, strict=True)]
        spent = time.perf_counter() - began
        print(f"| {WHISPER} | {_scores(meetings, found)} | {spent:.2f} | with decoding |", flush=True)
    print(f"\nDER, count given: {_der(meetings, given)}")
    if unaided:
        alone = [_diarized(m, SpeakerCount()) for m in meetings]
        right = sum(
            len({t.speaker for t in d.turns}) == len({t.speaker for t in m.turns})
            for m, d in zip(meetings, alone, strict=True)
        )
        print(f"DER, unaided: {_der(meetings, alone)}; right count in {right} of {len(meetings)}", flush=True)


def _diarized(meeting: Meeting, count: SpeakerCount) -> Diarization:
    return make_offline_diarizer().diarize(audio.read_audio(meeting.path), count, lambda *_: None)


def _scores(meetings: Sequence[Meeting], found: Sequence[Transcript]) -> str:
    pairs = [(m.spoken, f) for m, f in zip(meetings, found, strict=True)]
    cells = [_rates(pairs, metric) for metric in ("WER", "cpWER", "ORC-WER")]
    both = [
        (overlapped(m.spoken, crowds(m.turns)), overlapped(f, crowds(m.turns)))
        for m, f in zip(meetings, found, strict=True)
    ]
    return " | ".join([*cells, _rates([pair for pair in both if pair[0].segments], "cpWER")])


def _der(meetings: Sequence[Meeting], found: Sequence[Diarization]) -> str:
    return _rates(
        [
            (_as_transcript(m.turns, m.path), _as_transcript(d.turns, m.path))
            for m, d in zip(meetings, found, strict=True)
        ],
        "DER",
    )


@app.command()
def memory(
    minutes: Annotated[float, typer.Option(help="Length of the meeting.")] = 60.0,
    recording: Annotated[Path | None, typer.Option(help="Instead of pyannote's sample, tiled.")] = None,
    threads: int = 2,
) -> None:
    """Peak memory of ``diffusion-asr meeting`` on a long recording: the larger of its two processes."""
    import resource

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "long.flac"
        samples = audio.read_audio(recording or sample().path)
        sf.write(path, np.resize(samples, round(minutes * 60 * RATE)), RATE)
        del samples
        arguments = ["meeting", str(path), "--language", "en", "--threads", str(threads), "--format", "json"]
        wall, own = child(TRANSCRIBE, *arguments, "--output-dir", name)
        both = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        (found,) = formats.read(Path(name) / "long.json")
    words = sum(1 for _ in found.words)
    what = recording or "pyannote's sample, tiled"
    print(f"{minutes:.0f} min ({what}): {wall:.0f} s in all, {words} words")
    print(f"peak of the command itself {own:.0f} MB, of it or its diarizing child {both:.0f} MB")


if __name__ == "__main__":
    app()
