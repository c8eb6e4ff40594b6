"""The draft: the canvas denoiser's one parallel pass, and what its slots say of any other text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.decoder import Decoded, DecodingOptions
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.diffusion import make_first_canvas
from diffusion_asr.decoding.process import SlotNoise

_LEAST = -15.0  # log-probability of a token that the draft did not think of at all
_NEVER = -1e4  # of a text that has more tokens than the draft has slots


class Draft(NamedTuple):
    """One clip's draft, and what tells the log-probability of any piece in its slots."""

    denoiser: CanvasDenoiser
    before: Tensor  # (L,) the canvas that the pass read
    decoded: Decoded
    hidden: Tensor  # (1, L, D)
    total: Tensor  # (1, L) see ``CanvasDenoiser.likeliest``

    def slot_chances(self, tokens: set[int]) -> tuple[Tensor, Tensor]:
        """Sorted ids (U,) of null and ``tokens``, and their log-probabilities in the slots, (1, L, U)."""
        used = torch.tensor(sorted({0, *tokens}))
        scores = self.denoiser.logits(self.hidden, used).float()
        return used, (scores - self.total[..., None]).clamp(min=_LEAST)

    def text_chances(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """CTC's log-probability of each text in the slots."""
        used, slots = self.slot_chances({token for text in texts for token in text})
        rows = [torch.searchsorted(used, torch.tensor(text, dtype=torch.long)) for text in texts]
        slots = slots[0][:, None].expand(-1, len(texts), -1)
        sizes, counts = torch.full((len(texts),), len(slots)), torch.tensor([len(text) for text in texts])
        losses = F.ctc_loss(slots, pad_sequence(rows, batch_first=True), sizes, counts, reduction="none")
        return (-losses).clamp(min=_NEVER).tolist()


def write_draft(
    denoiser: CanvasDenoiser,
    memory: AcousticMemory,
    language: str,
    pieces: Tensor,
    options: DecodingOptions,
    clip: int = 0,
) -> Draft:
    """Take the parallel pass over one clip; its prepared state, 40 MB in 30 s, is gone afterwards.

    Args:
        denoiser: The network.
        memory: A batch of one.
        language: Its code.
        pieces: (S,) sorted ids, null first, that the answer may use.
        options: Tell the first canvas.
        clip: Its number in the call, for a given first canvas.
    """
    state = denoiser.prepare(memory, [language])
    noise = SlotNoise(options.seed, state.slots.mask.shape[1], denoiser.config.vocabulary)
    canvas = make_first_canvas(denoiser, state, options, noise, clip)
    hidden = denoiser.hidden(canvas, state)
    best, places, total = denoiser.likeliest(hidden, pieces)
    decoded = Decoded(
        pieces[places[0]],
        best[0].exp(),
        state.slots.times[0] / memory.frame_rate,
        denoiser.config.slot_frames / memory.frame_rate,
        parallel_passes=1,
    )
    return Draft(denoiser, canvas[0], decoded, hidden, total)
