"""The shipped decoder: how many passes it may take decides how a canvas becomes text.

With a number of ``steps`` the whole text comes from parallel passes: a draft, then time-anchored sweeps
(``sweeps``). Without one, a causal decoder verifies the draft from left to right until nothing changes
(``causal``): the most accurate way, in passes that grow with the text. ``DecodingOptions.verify`` chooses
otherwise. Languages that have letters are written by these in one pass, whatever the options say
(``letters``), unless somebody kept of the acoustic memory only its states.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.causal.decoder import CausalDecoder
from diffusion_asr.decoding.causal.model import CausalRefiner
from diffusion_asr.decoding.decoder import ClipDecoder, Decoded, DecodingOptions
from diffusion_asr.decoding.denoiser import CanvasDenoiser
from diffusion_asr.decoding.letters.decoder import LetterDecoder
from diffusion_asr.decoding.sweeps.decoder import SweepDecoder
from diffusion_asr.text.vocabulary import Vocabulary


class CanvasDecoder(ClipDecoder):
    """See the module's text; a ``Decoder``.

    Attributes:
        sweeps: Text in parallel passes.
        causal: Text that is verified from left to right.
        letters: Text of languages that the other two cannot spell.
    """

    def __init__(
        self,
        denoiser: CanvasDenoiser,
        refiner: CausalRefiner,
        vocabulary: Vocabulary,
        swept: Sequence[str] | None = None,
        letters: LetterDecoder | None = None,
    ) -> None:
        self.letters = letters
        self.denoiser, self.refiner = denoiser, refiner
        self.sweeps = SweepDecoder(denoiser, refiner, vocabulary, swept)
        self.causal = CausalDecoder(denoiser, refiner, vocabulary)
        self.causal.scorers = self.sweeps.scorers  # one set of tables

    @property
    def languages(self) -> tuple[str, ...]:
        """See ``Decoder.languages``."""
        return self.denoiser.config.languages

    def decode_clip(
        self, memory: AcousticMemory, language: str, options: DecodingOptions, clip: int
    ) -> Decoded:
        """See ``ClipDecoder.decode_clip``."""
        decoder: ClipDecoder = self.causal if options.verifies else self.sweeps
        if self.letters is not None and memory.lower is not None and language in self.letters.languages:
            decoder = self.letters
        return decoder.decode_clip(memory, language, options, clip)
