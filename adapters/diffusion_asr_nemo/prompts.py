"""What Canary's keyword arguments, prompts and manifest entries ask for: ``source_lang``, ``pnc``, ``task``.

They are honoured where this model can, and refused where a text would come out that nobody asked for:
another language than the spoken one, or speakers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_asr.errors import DiffusionASRError
from diffusion_asr.languages import find_language

_LANGUAGE_SLOTS = ("source_lang", "target_lang")
_TASKS = ("task", "taskname")
_TRANSCRIPTION = ("asr", "transcribe", "transcription", "s2t_transcription")
_SWITCHES = ("pnc", "timestamp", "timestamps", "diarize", "itn")
_WITHOUT_EFFECT = ("itn", "emotion", "decodercontext", "prompt_language")
SLOTS = frozenset((*_LANGUAGE_SLOTS, *_TASKS, *_SWITCHES, *_WITHOUT_EFFECT))


class PromptError(DiffusionASRError):
    """A prompt that asks for what this model does not do."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a prompt asks for; None where it says nothing.

    Attributes:
        language: That is spoken, as it was given.
        marks: Punctuation and capitals.
        timestamps: Times of words.
        ignored: Slots that were given but change nothing.
    """

    language: str | None = None
    marks: bool | None = None
    timestamps: bool | None = None
    ignored: tuple[str, ...] = ()

    def over(self, other: Prompt) -> Prompt:
        """This prompt, and ``other`` where this one says nothing."""
        return Prompt(
            self.language or other.language,
            other.marks if self.marks is None else self.marks,
            other.timestamps if self.timestamps is None else self.timestamps,
            tuple(dict.fromkeys((*self.ignored, *other.ignored))),
        )


def read_prompt(slots: Mapping[str, Any]) -> Prompt:
    """A prompt's slots; empty ones say nothing.

    Raises:
        PromptError: It asks for a translation or for speakers, or a switch is neither yes nor no.
        LanguageError: A language that is none, where two are compared.
    """
    given = {name: value for name, value in slots.items() if value not in (None, "", "None")}
    for name in _TASKS:
        if (task := given.get(name)) is not None and _plain(task) not in _TRANSCRIPTION:
            raise PromptError(
                f"{name}={task}: this model transcribes and does not translate; give {name}=asr"
            )
    source, target = (given.get(name) for name in _LANGUAGE_SLOTS)
    if source is not None and target is not None and find_language(source) != find_language(target):
        raise PromptError(
            f"target_lang={target}: speech is not translated; leave it out, or give the spoken {source}"
        )
    switches = {name: _switch(name, given[name]) for name in _SWITCHES if name in given}
    if switches.get("diarize"):
        raise PromptError("diarize: this model tells no speakers; use `diffusion-asr meeting`")
    times = switches.get("timestamp", switches.get("timestamps"))
    ignored = tuple(name for name in _WITHOUT_EFFECT if name in given)
    return Prompt(source or target, switches.get("pnc"), times, ignored)


def read_turns(prompt: Any) -> Prompt:
    """NeMo's ``prompt``: slots, a turn with ``slots``, a list of turns, or ``{"turns": turns}``.

    Raises:
        PromptError: See ``read_prompt``; or it is none of these.
    """
    if not prompt:
        return Prompt()
    if isinstance(prompt, Mapping) and "turns" in prompt:
        return read_turns(prompt["turns"])
    asked = Prompt()
    turns: Iterable[Any] = [prompt] if isinstance(prompt, Mapping) else prompt
    for turn in turns:
        if not isinstance(turn, Mapping):
            raise PromptError(f"prompt: a turn is {turn!r}; give slots, as in {{'source_lang': 'de'}}")
        slots = turn.get("slots", {k: v for k, v in turn.items() if k != "role"})
        asked = asked.over(read_prompt(slots or {}))
    return asked


def _plain(value: Any) -> str:
    """A slot's value without Canary's special-token brackets: ``<|pnc|>`` is ``pnc``."""
    return str(value).strip().removeprefix("<|").removesuffix("|>").casefold()


def _switch(name: str, value: Any) -> bool:
    said = _plain(value)
    if said in ("yes", "true", "1", name):
        return True
    if said in ("no", "false", "0", f"no{name}"):
        return False
    raise PromptError(f"{name}={value}: give yes or no")
