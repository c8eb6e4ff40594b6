"""Encode clips once through the frozen encoder and keep the states: float16 shards with an index.

A shard is ``NAME.f16`` (frames, 512) and ``NAME.jsonl``; a killed run resumes at the last whole row.
Short clips are joined (same language) into windows of up to 30 s now and then, because the encoder
must see in training what it will see in long recordings.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch

from diffusion_asr.acoustics.encoder import Encoder, EncoderConfig, WhisperEncoder
from diffusion_asr.models.canvas import compute_dtype
from recipes.embedded.augment import RATE, augment, non_speech
from recipes.embedded.texts import dev_keys, key

Row = dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """Clips to be joined, with their seed for augmentation."""

    rows: tuple[Row, ...]
    seed: int


def compose(rows: list[Row], seed: int, joined: float, silent: float) -> Iterator[Recording]:
    """Group rows of one language into recordings: mostly single clips, some joined, some without speech."""
    rng = random.Random(seed)
    by_language: dict[str, list[Row]] = {}
    for row in rows:
        by_language.setdefault(row["lang"], []).append(row)
    out: list[Recording] = []
    for group in by_language.values():
        rng.shuffle(group)
        position = 0
        while position < len(group):
            count = rng.randint(2, 7) if rng.random() < joined else 1
            taken: list[Row] = []
            while position < len(group) and len(taken) < count:
                if taken and sum(r["duration"] + 1.5 for r in taken) + group[position]["duration"] > 24:
                    break
                taken.append(group[position])
                position += 1
            out.append(Recording(tuple(taken), rng.getrandbits(32)))
            if rng.random() < silent:
                empty = {"lang": taken[0]["lang"], "text": "", "source": "non-speech"}
                out.append(Recording((empty,), rng.getrandbits(32)))
    rng.shuffle(out)
    yield from out


def waveform(recording: Recording, augmented: bool) -> tuple[np.ndarray, str]:
    """Samples at 16 kHz and the text."""
    rng = np.random.default_rng(recording.seed)
    if not recording.rows[0]["text"]:
        return non_speech(float(rng.uniform(0.5, 12)), rng), ""
    pieces: list[np.ndarray] = []
    for row in recording.rows:
        samples, rate = sf.read(row["path"], dtype="float32")
        assert rate == RATE, row["path"]
        if pieces or augmented:
            pieces.append(np.zeros(int(RATE * rng.uniform(0, 0.8)), np.float32))
        pieces.append(samples / (np.abs(samples).max() + 1e-9) * 10 ** rng.uniform(-0.5, 0))
    joint = "" if recording.rows[0]["lang"] == "zh" else " "
    whole = np.concatenate(pieces).astype(np.float32)
    whole = augment(whole, recording.seed) if augmented else whole
    assert len(whole) <= 30 * RATE, recording.rows[0]["path"]
    return whole, joint.join(r["text"] for r in recording.rows)


ENCODER = EncoderConfig(tail=1.0)


def load_encoder(weights: Path) -> WhisperEncoder:
    """Whisper base's encoder; bf16 only where the CPU has it (six times slower where it has not)."""
    from safetensors.torch import load_file

    encoder = WhisperEncoder(ENCODER).eval()
    tensors = load_file(weights)
    encoder.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("encoder.")})
    encoder.to(compute_dtype())
    encoder.log_mel.float()
    return encoder


def cache(
    out: Path, recordings: list[Recording], encoder: Encoder, augmented: bool = True, batch: int = 16
) -> None:
    """Write one shard; rows already in the index are skipped."""
    index, states = out.with_name(out.name + ".jsonl"), out.with_name(out.name + ".f16")
    out.parent.mkdir(parents=True, exist_ok=True)
    done = _whole_rows(index)
    frames = done[-1]["offset"] + done[-1]["frames"] if done else 0
    with index.open("a", encoding="utf8") as rows, states.open("ab") as data:
        data.truncate(frames * 512 * 2)
        data.seek(0, 2)
        for start in range(len(done), len(recordings), batch):
            group = recordings[start : start + batch]
            clips = [waveform(r, augmented) for r in group]
            lengths = torch.tensor([len(c) for c, _ in clips])
            wave = torch.zeros(len(clips), int(lengths.max()))
            for k, (samples, _) in enumerate(clips):
                wave[k, : len(samples)] = torch.from_numpy(samples)
            memory = encoder.encode(wave, lengths)
            for k, (recording, (_, text)) in enumerate(zip(group, clips, strict=True)):
                n = int(memory.lengths[k])
                data.write(memory.states[k, :n].to(torch.float16).numpy().tobytes())
                first = recording.rows[0]
                row = {
                    "offset": frames,
                    "frames": n,
                    "text": text,
                    "lang": first["lang"],
                    "source": first["source"],
                    "name": first.get("audio_filepath", ""),
                }
                rows.write(json.dumps(row, ensure_ascii=False) + "\n")
                frames += n
            data.flush()
            rows.flush()


def _whole_rows(index: Path) -> list[Row]:
    """Rows of an index; a last line that a kill tore is cut off."""
    if not index.exists():
        return []
    whole, _, torn = index.read_bytes().rpartition(b"\n")
    if torn:
        index.write_bytes(whole + b"\n" if whole else b"")
    return [json.loads(line) for line in whole.decode("utf8").splitlines()]


def manifest_rows(manifest: Path) -> list[Row]:
    """Rows of a NeMo-style manifest with absolute paths."""
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf8").splitlines()]
    return [row | {"path": str(manifest.parent / row["audio_filepath"])} for row in rows]


def source_rows(work: Path, shared: Path, source: str) -> tuple[list[Row], float]:
    """Clips of a source and the share that is joined into longer recordings.

    Training clips that say what a dev clip says are left out: the shared train split holds a few.
    So are clips beyond the encoder's 30 s (less what joins and slowing may add).
    """
    speech = shared / "data/speech/manifest.jsonl"
    if source == "dev":
        rows = manifest_rows(speech)
        return [r for r in rows if r["split"] == "dev" and r["text"] and r["duration"] <= 30], 0.0
    manifest, joined = {
        "real": (speech, 0.25),
        "teacher": (work / "pseudo/manifest.jsonl", 0.3),
        "prompts": (work / "asterisk/manifest.jsonl", 0.4),
    }.get(source, (work / "synth" / source / "manifest.jsonl", 0.25))
    held_out = dev_keys(speech)
    rows = [r for r in manifest_rows(manifest) if r["split"] == "train" and r["text"]]
    return [r for r in rows if r["duration"] < 28 and key(r["text"]) not in held_out], joined


def cache_source(work: Path, shared: Path, source: str, variant: int) -> None:
    """Write ``work/cache/SOURCE.VARIANT`` (``dev`` without variant or augmentation)."""
    encoder = load_encoder(work / "weights/whisper/model.safetensors")
    rows, joined = source_rows(work, shared, source)
    if source == "dev":
        cache(work / "cache/dev", [Recording((r,), 0) for r in rows], encoder, augmented=False)
        return
    recordings = list(compose(rows, hash_seed(source, variant), joined, 0.03))
    cache(work / f"cache/{source}.{variant}", recordings, encoder)


def hash_seed(source: str, variant: int) -> int:
    """A seed that is the same in every run (``hash`` of a string is not)."""
    return zlib.crc32(f"{source}.{variant}".encode())
