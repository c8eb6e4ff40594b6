"""Simulated meetings: what was asked for is in them, and they are scored as what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from diffusion_asr import Recognizer, formats
from diffusion_asr.audio import files as audio
from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.meeting.attribution import Turn
from diffusion_asr.scoring import score
from diffusion_asr.transcript import Segment, Transcript, Word
from recipes.diarization.data import meetings
from recipes.meetings.plan import Settings, SimulationError, overlap, plan
from recipes.meetings.voices import Cutter, _with_words, aligned, clips, spread

DATA = Path(__file__).parents[1] / "data"
READERS = {"en": "kathleen", "de": "kerstin"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of four real clips of two readers."""
    made = tmp_path_factory.mktemp("clips")
    rows = []
    for name, text in json.loads((DATA / "texts.json").read_text(encoding="utf8")).items():
        (made / name).write_bytes((DATA / name).read_bytes())
        duration = audio.probe_file(DATA / name).duration
        row = {"audio_filepath": name, "duration": duration, "text": text, "lang": name[:2], "split": "dev"}
        rows.append(row | {"speaker": READERS[name[:2]], "source": "rhasspy", "license": "CC0-1.0"})
    rows.append(rows[0] | {"speaker": "?"})
    rows.append(rows[0] | {"speaker": "robot", "source": "synthetic: a machine"})
    (made / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf8")
    return made


SETTINGS = Settings(speakers=2, overlap=0.2, minutes=0.5, languages=("en", "de"), seed=5)


def test_only_known_real_speakers_talk(folder: Path) -> None:
    assert {name: len(some) for name, some in clips("dev", ["en", "de"], folder).items()} == {
        "kathleen": 2, "kerstin": 2,
    }  # fmt: skip
    assert set(clips("dev", ["en"], folder, synthetic=True)) == {"kathleen", "robot"}
    assert clips("train", ["en"], folder) == {}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.3])
def test_overlap_is_exact(folder: Path, share: float) -> None:
    made = plan(clips("dev", ["en", "de"], folder), Cutter(None), replace(SETTINGS, overlap=share))
    assert overlap(made.turns) == pytest.approx(share, abs=0.0005)
    assert 20 < made.duration < 60
    until: dict[str, float] = {}
    for each in made.placed:
        assert each.start >= until.get(each.speaker, 0.0), "talks over himself"
        until[each.speaker] = each.end
    assert len(until) == 2


def test_overlap_of_known_turns() -> None:
    assert overlap([Turn(0, 2, "a"), Turn(1, 4, "b"), Turn(6, 7, "a")]) == pytest.approx(1 / 5)
    assert overlap([]) == 0


def test_what_cannot_be_simulated_is_refused(folder: Path) -> None:
    voices = clips("dev", ["en"], folder)
    with pytest.raises(SimulationError, match="only: 1 en"):
        plan(voices, Cutter(None), Settings(speakers=2))
    with pytest.raises(SimulationError, match="1 to 6"):
        Settings(speakers=7)
    with pytest.raises(SimulationError, match=r"0 to 0\.3"):
        Settings(overlap=0.4)


def test_files_of_a_meeting_agree(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    from recipes.meetings.simulate import simulate

    first, second = tmp_path / "a", tmp_path / "b"
    (name,) = simulate(first, [SETTINGS], "dev", folder, synthetic=False, align=False)
    simulate(second, [SETTINGS], "dev", folder, synthetic=False, align=False)
    details = json.loads((first / f"{name}.simulation.json").read_text(encoding="utf8"))
    assert details["simulated"] is details["all_voices_real"] is True
    assert "evenly" in details["word_times"]
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes(), f"{file.name} is another"

    (words,) = formats.read(first / f"{name}.seglst.json")
    (speech,) = formats.read(first / f"{name}.rttm")
    (lines,) = formats.read(first / f"{name}.stm")
    assert [s.text for s in words.segments] == [s.text for s in lines.segments]
    texts = json.loads((DATA / "texts.json").read_text(encoding="utf8"))
    assert {s.text for s in words.segments} <= set(texts.values())
    assert overlap([Turn(s.start, s.end, s.speaker or "") for s in speech.segments]) == pytest.approx(
        0.2, abs=0.002
    )
    marked = [w for w in words.words if w.overlapped]
    assert 0 < len(marked) < len(list(words.words)) / 2
    for segment in words.segments:
        assert all(segment.start <= w.start <= w.end <= segment.end for w in segment.words)
    heard_by_the_turns(first / f"{name}.flac", speech)
    loads_elsewhere(first, name)
    (recording,) = meetings(first)
    assert recording.speakers == 2
    assert len(recording.turns) == len(speech.segments)
    with pytest.raises(DiffusionASRError, match="holds no simulated meetings"):
        meetings(tmp_path)


def heard_by_the_turns(sound: Path, speech: Transcript) -> None:
    """It is loud where the RTTM says that somebody talks: room and mixing did not shift anything."""
    samples = audio.read_audio(sound)
    talking = np.zeros(len(samples), bool)
    for s in speech.segments:
        talking[round(s.start * 16_000) : round(s.end * 16_000)] = True
    near = np.convolve(talking, np.ones(8000), "same") > 0
    speech_level, silence_level = (np.sqrt(np.mean(samples[where] ** 2)) for where in (talking, ~near))
    assert 20 * np.log10(speech_level / silence_level) > 15  # the noise is 20 dB below speech


def loads_elsewhere(folder: Path, name: str) -> None:
    import meeteval
    from pyannote.database.util import load_rttm

    assert len(meeteval.io.load(folder / f"{name}.stm"))
    assert len(meeteval.io.load(folder / f"{name}.seglst.json"))
    assert set(load_rttm(folder / f"{name}.rttm")) == {name}


def test_long_clips_are_cut_at_their_pauses(folder: Path, tmp_path: Path) -> None:
    """Two sentences with a pause between them, told apart by words in time."""
    (en, *_), (de, *_) = clips("dev", ["en", "de"], folder).values()
    both = np.concatenate(
        [audio.read_audio(en.path), np.zeros(16_000, np.float32), audio.read_audio(de.path)]
    )
    sf.write(tmp_path / "both.flac", both, audio.SAMPLE_RATE)
    clip = replace(en, path=tmp_path / "both.flac", text=f"{en.text} {de.text}")
    (whole,) = Cutter(None, longest=60).utterances(clip)
    first, *_, last = cut = Cutter(None, longest=4).utterances(clip)
    assert len(cut) > 1
    assert " ".join(u.text for u in cut) == whole.text == clip.text
    assert len(first.samples()) == first.last - first.first
    assert first.last < last.first


def test_words_are_placed_where_they_are_said(folder: Path) -> None:
    (clip, *_) = clips("dev", ["de"], folder)["kerstin"]
    assert clip.text is not None
    samples = audio.read_audio(clip.path)
    spans = [(0.0, len(samples) / 16_000)]
    late = np.concatenate([np.zeros(32_000, np.float32), samples])
    recognizer = Recognizer.from_pretrained()
    words = aligned(recognizer, samples, clip.text, "de", spans)
    moved = aligned(recognizer, late, clip.text, "de", [(2.0, 2.0 + spans[0][1])])
    assert words is not None
    assert moved is not None
    assert [w.text for w in words] == clip.text.split()
    shifts = [b.start - a.start for a, b in zip(words, moved, strict=True)]
    assert np.median(shifts) == pytest.approx(2.0, abs=0.1)
    assert aligned(recognizer, samples[:8000], clip.text * 5, "de", [(0.0, 0.5)]) is None


def test_no_utterance_is_without_words() -> None:
    a, b, c, d = (0.0, 1.0), (2.0, 3.0), (4.0, 5.0), (6.0, 7.0)
    assert _with_words([[a], [b], [c], [d]], [b, d]) == [[a, b, c], [d]]
    assert _with_words([[a], [b, c], [d]], [a, c]) == [[a], [b, c, d]]
    assert _with_words([[a], [b]], []) == [[a], [b]]  # a clip without text


def test_even_words_skip_pauses() -> None:
    words = spread("a b c d", "en", [(1.0, 2.0), (5.0, 6.0)])
    assert [w.start for w in words] == [1.0, 1.5, 5.0, 5.5]
    assert [w.text for w in spread("你好 吗", "zh", [(0.0, 3.0)])] == ["你", "好", "吗"]


# --- scoring -------------------------------------------------------------------------------------------


def said(*segments: tuple[str, str, str]) -> Transcript:
    """Segments of speaker, text and (as stars) which words are overlapped; two seconds each."""
    out = []
    for n, (speaker, text, stars) in enumerate(segments):
        words = tuple(
            Word(w, 2 * n + 0.4 * k, 2 * n + 0.4 * k + 0.4, speaker=speaker, overlapped=star == "*")
            for k, (w, star) in enumerate(zip(text.split(), stars, strict=True))
        )
        out.append(Segment(2.0 * n, 2.0 * n + 2, text, words, "en", speaker))
    return Transcript(tuple(out), 10.0, "m")


TRUTH = said(("ann", "One, two three four.", "..**"), ("bob", "five six seven", "*.."), ("ann", "eight", "."))


RIGHT = (("x", "one two three four", "...."), ("y", "five six seven", "..."), ("x", "eight", "."))


@pytest.mark.parametrize(
    ("found", "overlapped", "alone"),
    [
        (said(*RIGHT), 0, 0),
        (said(("x", "one two bee four", "...."), ("y", "five sick seven", "..."), RIGHT[2]), 1, 1),
        (said(RIGHT[0], ("x", "five six seven", "..."), RIGHT[2]), 2, 4),
        (said(("x", "one two", ".."), RIGHT[1], ("z", "eight", ".")), 2, 2),
        (said(("x", "one two three for four", "....."), ("y", "six", "."), RIGHT[2]), 2, 1),
        (Transcript((), 10.0, "m"), 3, 5),
    ],
)
def test_errors_under_overlap_are_told_apart(found: Transcript, overlapped: int, alone: int) -> None:
    from recipes.meetings.scoring import ALONE, OVERLAPPED, by_overlap

    rates = by_overlap(TRUTH, found)
    assert (rates[OVERLAPPED].errors, rates[ALONE].errors) == (overlapped, alone)
    assert (rates[OVERLAPPED].units, rates[ALONE].units) == (3, 5)
    (whole,) = score([TRUTH], [found])
    assert overlapped + alone == whole.rates["cpWER"].errors


def test_table_tells_all_groups() -> None:
    from recipes.meetings.evaluate import Outcome, table
    from recipes.meetings.scoring import scored

    turns = [Turn(s.start, s.end, s.speaker or "") for s in TRUTH.segments]
    scores = scored(TRUTH, TRUTH, TRUTH, turns)
    about: dict[str, Any] = {"speakers": 2, "overlap": 0.1, "languages": ["en"], "duration": 10.0}
    rows = table([Outcome(about, scores, 2, 1.0), Outcome(about | {"speakers": 3}, scores, 2, 1.0)], False)
    assert "| overlap 10% | 2 | 0.0 [0, 0] |" in rows
    assert [rows.count(f"| {share} % |") for share in (100, 50, 0)] == [1, 3, 1]
