"""Text normalisation for scoring: Whisper's basic normaliser (Radford et al. 2022, appendix C).

One deliberate difference: Whisper's turns combining marks into spaces, which tears Devanagari apart and
makes every Hindi score meaningless; here marks stay.
"""

from __future__ import annotations

import re
import unicodedata

from diffusion_asr.languages import is_spaced

_BRACKETED = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+?\)")


def normalise_basic(text: str, language: str | None = None) -> str:
    """Lower case, no bracketed asides, punctuation and symbols as spaces; no spaces at all for zh."""
    text = unicodedata.normalize("NFKC", _BRACKETED.sub("", text.lower()))
    kept = "".join(c if unicodedata.category(c)[0] not in "SPZC" else " " for c in text)
    return (" " if is_spaced(language) else "").join(kept.split())


def convert_to_simplified(text: str) -> str:
    """Traditional to Simplified characters (OpenCC); needs the ``score`` extra."""
    from opencc import OpenCC

    return str(OpenCC("t2s").convert(text))
