"""Simulated meetings through the meeting engine: a Markdown table by overlap, speakers and languages.

Voices are dev voices, on which the diarization was not tuned. The meetings are simulated: read speech,
made-up rooms; real meetings are harder (``recipes/diarization/RESULTS.md`` has AMI).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_asr import Recognizer, formats
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.meeting import MeetingOptions, SpeakerCount, transcribe_meeting
from diffusion_asr.scoring import Scored, combine_scores
from recipes.meetings.scoring import ALONE, OVERLAPPED, scored

METRICS = ("cpWER", OVERLAPPED, ALONE, "tcpWER", "ORC-WER", "DER")


@dataclass(frozen=True)
class Outcome:
    """One meeting's result."""

    about: dict[str, Any]  # its line in the manifest
    scores: Scored
    found: int  # speakers
    seconds: float  # of work

    @property
    def right_count(self) -> bool:
        """Whether as many speakers were found as talk."""
        return bool(self.found == self.about["speakers"])


def evaluate(folders: Sequence[Path], count_given: bool, order: str | None, threads: int) -> str:
    """The table; each meeting's line goes to stderr as it is done.

    Raises:
        DiffusionASRError: A folder that ``simulate`` did not write.
    """
    import torch

    torch.set_num_threads(threads)
    recognizer = Recognizer.from_pretrained()
    outcomes = []
    for folder in folders:
        for row in _manifest(folder):
            outcomes.append(_outcome(recognizer, folder, row, count_given, order))
            print(_line(outcomes[-1]), file=sys.stderr, flush=True)
    return table(outcomes, count_given)


def _manifest(folder: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads((folder / "manifest.json").read_text(encoding="utf8")))
    except (OSError, ValueError) as error:
        raise DiffusionASRError(f"{folder}: no manifest.json of simulated meetings ({error})") from error


def _outcome(
    recognizer: Recognizer, folder: Path, row: dict[str, Any], count_given: bool, order: str | None
) -> Outcome:
    name = row["name"]
    (truth,) = formats.read(folder / f"{name}.seglst.json")
    (speech,) = formats.read(folder / f"{name}.rttm")
    count = SpeakerCount(row["speakers"]) if count_given else SpeakerCount()
    chosen: dict[str, Any] = {"speakers": count} | ({"order": order} if order else {})
    began = time.perf_counter()
    meeting = transcribe_meeting(folder / f"{name}.flac", recognizer, options=MeetingOptions(**chosen))
    spent = time.perf_counter() - began
    scores = scored(truth, speech, meeting.transcript, meeting.turns)
    return Outcome(row, scores, len(meeting.speakers), spent)


def _line(outcome: Outcome) -> str:
    rates = ", ".join(f"{m} {outcome.scores.rates[m].percent:.1f}" for m in METRICS)
    return (
        f"{outcome.about['name']}: {rates}; {outcome.found} of {outcome.about['speakers']} speakers, "
        f"{outcome.seconds:.0f} s of work"
    )


def table(outcomes: Sequence[Outcome], count_given: bool) -> str:
    """Markdown: a row a group of meetings."""
    head = ["simulated meetings", "n", *METRICS, "right count"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for label, group in _groups(outcomes).items():
        rates = [_cell([o.scores for o in group], metric) for metric in METRICS]
        right = "given" if count_given else f"{100 * sum(o.right_count for o in group) / len(group):.0f} %"
        lines.append("| " + " | ".join([label, str(len(group)), *rates, right]) + " |")
    minutes = sum(o.about["duration"] for o in outcomes) / 60
    return "\n".join(lines) + f"\n\n{len(outcomes)} meetings, {minutes:.0f} minutes."


def _groups(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    kinds: tuple[tuple[str, Callable[[dict[str, Any]], Any]], ...] = (
        ("overlap {:.0%}", lambda row: row["overlap"]),
        ("{} speakers", lambda row: row["speakers"]),
        ("languages: {}", lambda row: ", ".join(row["languages"])),
    )
    groups = {}
    for text, key in kinds:
        for value in sorted({key(o.about) for o in outcomes}):
            groups[text.format(value)] = [o for o in outcomes if key(o.about) == value]
    return groups | {"all": list(outcomes)}


def _cell(scores: Sequence[Scored], metric: str) -> str:
    """A rate over all meetings, with a 95 % bootstrap interval over meetings."""
    with_units = [s for s in scores if s.rates[metric].units]
    found = combine_scores(with_units, metric)
    if found is None:
        return "-"
    rate, low, high = found
    return f"{rate.percent:.1f}" + (f" [{low:.0f}, {high:.0f}]" if len(with_units) > 1 else "")
