"""Meetings simulated from real clips of different speakers: sound, words, times, turns.

    python -m recipes.meetings.simulate out/ --speakers 2,3,4 --overlap 0,0.1,0.2,0.3
    python -m recipes.meetings.simulate out/ --speakers 4 --overlap 0.1 --minutes 60

For each meeting NAME: NAME.flac; NAME.seglst.json (words, times, which are overlapped), NAME.stm, NAME.rttm;
NAME.simulation.json with everything else: settings, room, which stretch of which clip is where, whose voice
it is, and whether it is a real one. Every file is the same for the same seed and clips. The voices are real
unless --synthetic; the meetings are simulated, and whoever gives figures must say so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import soundfile as sf
import typer

from diffusion_asr import formats
from diffusion_asr.cli.report import expected_errors
from diffusion_asr.formats.files import write_text
from diffusion_asr.meeting.attribution import TurnIndex
from diffusion_asr.transcript import Segment, Transcript, Word
from recipes.meetings.plan import Placed, Plan, Settings, grid, overlap, plan
from recipes.meetings.room import render
from recipes.meetings.voices import RATE, SHARED, Cutter, about, clips


def transcript(made: Plan, name: str) -> Transcript:
    """What is said when by whom; words that somebody else talks over are marked."""
    crowd = TurnIndex(made.turns)
    segments = tuple(_segment(each, crowd) for each in made.placed)
    return Transcript(segments, round(made.duration, 3), name, {"simulated": "yes"})


def _segment(each: Placed, crowd: TurnIndex) -> Segment:
    words = []
    for word in each.utterance.words:
        start, end = round(each.start + word.start, 3), round(each.start + word.end, 3)
        others = crowd.during(start, max(end, start + 0.02)).keys() - {each.speaker}
        words.append(Word(word.text, start, end, speaker=each.speaker, overlapped=bool(others)))
    start, end, text = round(each.start, 3), round(each.end, 3), each.utterance.text
    return Segment(start, end, text, tuple(words), each.utterance.clip.language, each.speaker)


def speech(made: Plan, name: str) -> Transcript:
    """Who speaks when, for RTTM."""
    return Transcript(
        tuple(Segment(t.start, t.end, "", speaker=t.speaker) for t in made.turns), made.duration, name
    )


def write(made: Plan, name: str, folder: Path, times: str) -> None:
    """The meeting's five files."""
    drawn, blocks = render(made)
    sound = folder / f"{name}.flac"
    partial = sound.with_suffix(".flac.part")
    try:
        with sf.SoundFile(partial, "w", RATE, 1, "PCM_16", format="FLAC") as file:
            for block in blocks:
                file.write(block)
        partial.replace(sound)
    finally:
        partial.unlink(missing_ok=True)
    spoken = transcript(made, name)
    formats.write(spoken, folder / f"{name}.seglst.json", overwrite=True)
    formats.write(spoken, folder / f"{name}.stm", overwrite=True)
    formats.write(speech(made, name), folder / f"{name}.rttm", overwrite=True)
    details = json.dumps(_details(made, name, drawn, times), ensure_ascii=False, indent=1)
    write_text(folder / f"{name}.simulation.json", details + "\n", overwrite=True)


def _details(made: Plan, name: str, drawn: dict[str, Any], times: str) -> dict[str, Any]:
    voices = {each.speaker: about(each.utterance.clip) for each in made.placed}
    for voice in voices.values():
        del voice["file"]
    return {
        "name": name,
        "simulated": True,
        "settings": asdict(made.settings),
        "duration": round(made.duration, 3),
        "overlap": round(overlap(made.turns), 4),
        "word_times": times,
        "room": drawn,
        "speakers": voices,
        "all_voices_real": all(each.utterance.clip.real for each in made.placed),
        "clips_used_again": made.repeats,
        "utterances": [
            {
                "start": each.start, "end": round(each.end, 4), "speaker": each.speaker,
                "file": each.utterance.clip.path.name, "first_sample": each.utterance.first,
                "last_sample": each.utterance.last, "language": each.utterance.clip.language,
                "text": each.utterance.text,
            }
            for each in made.placed
        ],
    }  # fmt: skip


def name_of(settings: Settings) -> str:
    """Such as ``sim-en-3spk-10ov-0007``."""
    tongues = "+".join(settings.languages)
    return f"sim-{tongues}-{settings.speakers}spk-{round(100 * settings.overlap):02d}ov-{settings.seed:04d}"


def simulate(
    folder: Path, wanted: Sequence[Settings], split: str, shared: Path, synthetic: bool, align: bool
) -> list[str]:
    """Write the meetings and ``manifest.json``, a list of them; returns their names."""
    from diffusion_asr import Recognizer

    folder.mkdir(parents=True, exist_ok=True)
    cutter = Cutter(Recognizer.from_pretrained() if align else None)
    times = "forced alignment with canvas-base, slots of 80 ms" if align else "spread evenly over the speech"
    rows = []
    for number, settings in enumerate(wanted, start=1):
        name = name_of(settings)
        made = plan(clips(split, settings.languages, shared, synthetic), cutter, settings)
        write(made, name, folder, times)
        rows.append({
            "name": name, "split": split, "simulated": True, "duration": round(made.duration, 2),
            "all_voices_real": all(each.utterance.clip.real for each in made.placed), **asdict(settings),
        })  # fmt: skip
        print(f"{number}/{len(wanted)} {name} {made.duration:.0f} s", file=sys.stderr, flush=True)
    write_text(folder / "manifest.json", json.dumps(rows, indent=1) + "\n", overwrite=True)
    return [str(row["name"]) for row in rows]


def main(
    folder: Annotated[Path, typer.Argument(help="Where to write.")],
    speakers: Annotated[str, typer.Option(help="How many, 1 to 6; several with commas.")] = "3",
    overlap: Annotated[str, typer.Option(help="Shares, 0 to 0.3; several with commas.")] = "0.1",
    each: Annotated[int, typer.Option(help="Meetings of each number of speakers and share.")] = 1,
    minutes: Annotated[float, typer.Option(help="About so long.")] = 2.0,
    languages: Annotated[str, typer.Option(help="Codes with commas; each is spoken by somebody.")] = "en",
    snr: Annotated[float, typer.Option(help="Decibels of speech over noise.")] = 20.0,
    echo: Annotated[float, typer.Option(help="Seconds that the room rings (RT60).")] = 0.35,
    split: Annotated[str, typer.Option(help="Voices: dev (held out) or train.")] = "dev",
    shared: Annotated[Path, typer.Option(help="Folder of clips with manifest.jsonl.")] = SHARED,
    synthetic: Annotated[bool, typer.Option(help="Synthetic voices may speak too.")] = False,
    align: Annotated[bool, typer.Option(help="Place words by forced alignment, not evenly.")] = True,
    seed: Annotated[int, typer.Option(help="Of the first meeting; the others follow.")] = 0,
) -> None:
    """Simulate meetings from real clips of different speakers."""
    with expected_errors():
        base = Settings(minutes=minutes, languages=tuple(languages.split(",")), snr=snr, echo=echo, seed=seed)
        try:
            sizes, shares = [int(n) for n in speakers.split(",")], [float(o) for o in overlap.split(",")]
        except ValueError as error:
            raise typer.BadParameter(f"numbers with commas: {error}") from None
        simulate(folder, grid(base, sizes, shares, each), split, shared, synthetic, align)


if __name__ == "__main__":
    typer.run(main)
