"""What the causal encoder reads: instruction tokens around one slot for every audio embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_asr.errors import LanguageError, ModelError

ANY = "*"  # the instruction of every language that has none of its own


class PromptRows(NamedTuple):
    """Prompts of a batch, padded at the right."""

    ids: Tensor  # (B, P)
    mask: Tensor  # (B, P) True on real tokens
    first: Tensor  # (B,) where each prompt's audio starts


@dataclass(frozen=True, slots=True)
class Prompt:
    """Token ids around the audio.

    Attributes:
        audio: Id of an audio slot; its embedding is replaced.
        before: By language, what comes before the audio, with the begin-of-audio token.
        after: By language, what follows it, from the end-of-audio token on.
    """

    audio: int
    before: Mapping[str, tuple[int, ...]]
    after: Mapping[str, tuple[int, ...]]

    def around(self, language: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids before and after the audio of a clip in this language."""
        try:
            return (
                self.before[language if language in self.before else ANY],
                self.after[language if language in self.after else ANY],
            )
        except KeyError:
            raise LanguageError(f"the model's prompt has no words for language {language!r}") from None

    def rows(self, counts: Tensor, languages: Sequence[str]) -> PromptRows:
        """Prompts with ``counts`` (B,) audio slots each."""
        if len(counts) != len(languages):
            raise LanguageError(f"{len(languages)} languages for {len(counts)} clips; give one for each")
        rows, first = [], []
        for count, language in zip(counts.tolist(), languages, strict=True):
            before, after = self.around(language)
            rows.append(torch.tensor([*before, *[self.audio] * count, *after]))
            first.append(len(before))
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        sizes = torch.tensor([len(row) for row in rows])
        return PromptRows(ids, torch.arange(ids.shape[1]) < sizes[:, None], torch.tensor(first))

    def check(self, vocabulary: int, longest: int, window: int) -> None:
        """Whether this prompt with ``longest`` audio slots suits a backbone.

        Raises:
            ModelError: Ids beyond the vocabulary, audio slots among the instruction, or a prompt that does
                not fit into the sliding window (five of six layers would silently lose its start).
        """
        for language in dict.fromkeys([*self.before, *self.after]):
            around = [ids for part in (self.before, self.after) for ids in part.get(language, ())]
            if max([self.audio, *around]) >= vocabulary:
                most = max([self.audio, *around])
                raise ModelError(
                    f"the prompt uses token {most}, the backbone has {vocabulary}: wrong vocabulary. "
                    "Give the backbone that the adapter was trained on."
                )
            if self.audio in around:
                raise ModelError(f"the prompt's text holds the audio slot's own id {self.audio}")
            before, after = self.around(language)
            size = len(before) + longest + len(after)
            if size >= window:
                raise ModelError(
                    f"a prompt of {size} tokens ({longest} of audio) does not fit into the backbone's "
                    f"sliding window, which keeps {window - 1}: shorten the instruction, or subsample more"
                )


def scatter_audio(embedded: Tensor, rows: PromptRows, audio: int, heard: Tensor, counts: Tensor) -> Tensor:
    """Put audio embeddings into the prompt's audio slots.

    Args:
        embedded: (B, P, D) embeddings of ``rows.ids``.
        rows: The prompts.
        audio: Id of an audio slot.
        heard: (B, A, D) audio embeddings, padded.
        counts: (B,) real ones of each clip.

    Raises:
        ModelError: A prompt with more or fewer slots than audio embeddings, or another width.
    """
    slots = (rows.ids == audio) & rows.mask
    if slots.sum(1).tolist() != counts.tolist():
        raise ModelError(
            f"the prompts have {slots.sum(1).tolist()} audio slots for {counts.tolist()} audio embeddings"
        )
    if embedded.shape[-1] != heard.shape[-1]:
        raise ModelError(
            f"the projector writes {heard.shape[-1]} values, the backbone reads {embedded.shape[-1]}"
        )
    real = torch.arange(heard.shape[1]) < counts[:, None]
    flat = heard[real.to(heard.device)].to(embedded.dtype)
    return embedded.masked_scatter(slots.to(embedded.device)[..., None], flat)
