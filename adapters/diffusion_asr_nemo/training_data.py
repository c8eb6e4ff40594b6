"""Utterances to train on, from a NeMo manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from diffusion_asr.audio.files import SAMPLE_RATE
from diffusion_asr.errors import AudioError, LanguageError
from diffusion_asr.languages import LANGUAGES, find_language
from diffusion_asr.text.vocabulary import Vocabulary
from diffusion_asr.toolkits import translate_errors
from diffusion_asr_nemo.clips import entry_clip, samples_of
from diffusion_asr_nemo.manifests import data_entries
from diffusion_asr_nemo.toolkit import RecognitionError

LONGEST = 30.0  # seconds that the encoder takes


class Utterance(NamedTuple):
    """One clip with its text."""

    samples: Tensor  # (samples,) float32 at 16 kHz
    tokens: Tensor  # (tokens,)
    language: str
    text: str


class Utterances(Dataset[Utterance]):
    """A manifest's clips of at most ``max_duration`` seconds that have a text.

    Raises:
        AudioError: An unreadable manifest, or one without such a clip.
        LanguageError: An entry whose language is neither given there nor as ``language``.
    """

    def __init__(self, config: Mapping[str, Any], vocabulary: Vocabulary, language: str | None) -> None:
        longest = min(LONGEST, float(config.get("max_duration") or LONGEST))
        shortest = float(config.get("min_duration") or 0.0)
        entries = [e for e in data_entries(config) if str(e.get("text", "")).strip()]
        self.entries = [e for e in entries if shortest <= float(e.get("duration") or shortest) <= longest]
        if not self.entries:
            raise AudioError(
                f"{config['manifest_filepath']}: no entry with a text of {shortest:g} to {longest:g} s"
            )
        self.vocabulary, self.longest = vocabulary, longest
        self.lang_field = config.get("lang_field") or "lang"
        self.language = language
        for entry in self.entries:
            self._language(entry)

    def _language(self, entry: Mapping[str, Any]) -> str:
        given = entry_clip(entry, self.lang_field).prompt.language or self.language
        try:
            code = find_language(given)
        except LanguageError as error:
            raise LanguageError(f"{entry['audio_filepath']}: {error}") from error
        if code is None:
            known = ", ".join(LANGUAGES)
            raise LanguageError(
                f"{entry['audio_filepath']}: training needs lang, one of {known}, not {given!r}"
            )
        return code

    def __len__(self) -> int:
        return len(self.entries)

    @translate_errors(RecognitionError)
    def __getitem__(self, index: int) -> Utterance:
        entry = self.entries[index]
        samples = samples_of(entry_clip(entry, self.lang_field))[: round(self.longest * SAMPLE_RATE)]
        if len(samples) == 0:
            raise AudioError(f"{entry['audio_filepath']}: an empty clip cannot be trained on")
        language = self._language(entry)
        tokens = torch.tensor(self.vocabulary.encode(entry["text"], language), dtype=torch.long)
        return Utterance(torch.from_numpy(samples), tokens, language, entry["text"])


def training_loader(
    config: Mapping[str, Any], vocabulary: Vocabulary, language: str | None, shuffle: bool
) -> DataLoader[Utterance]:
    """Batches are lists of utterances."""
    return DataLoader(
        Utterances(config, vocabulary, language),
        batch_size=int(config.get("batch_size") or 4),
        shuffle=bool(config.get("shuffle", shuffle)),
        num_workers=int(config.get("num_workers") or 0),
        collate_fn=list,
    )
