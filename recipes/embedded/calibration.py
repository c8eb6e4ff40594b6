"""Fit word confidence on dev (Platt scaling) and report the expected calibration error, cross-fitted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import jiwer
import torch

from diffusion_asr.decoding.calibration import Calibration
from diffusion_asr.recognizer import Recognizer
from recipes.embedded.evaluate import Clip, dev_clips, normalised

Sample = tuple[float, bool]  # mean log-probability of a word, and whether it is right


def ece(confidences: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error with bins of equal width (Guo et al. 2017, equation 5)."""
    total = 0.0
    for k in range(bins):
        inside = [
            n
            for n, c in enumerate(confidences)
            if k / bins <= c < (k + 1) / bins or (k == bins - 1 and c == 1)
        ]
        if inside:
            gap = sum(right[n] for n in inside) - sum(confidences[n] for n in inside)
            total += abs(gap) / len(confidences)
    return total


def judged(asr: Recognizer, clip: Clip) -> list[Sample]:
    """Each recognised word's score and whether the alignment calls it right."""
    words = list(asr.transcribe(clip.samples, language=clip.lang).words)
    texts, scores = [], []
    for word in words:
        text = normalised(word.text, clip.lang)
        for part in text.split() if clip.lang != "zh" else text:
            texts.append(part)
            scores.append(math.log(min(max(word.confidence or 0.0, 1e-4), 1 - 1e-4)))
    reference = normalised(clip.text, clip.lang)
    spaced = " ".join(reference) if clip.lang == "zh" else reference
    if not texts or not spaced:
        return []
    right = [False] * len(texts)
    for chunk in jiwer.process_words(spaced, " ".join(texts)).alignments[0]:
        if chunk.type == "equal":
            right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (
                chunk.hyp_end_idx - chunk.hyp_start_idx
            )
    return list(zip(scores, right, strict=True))


def fit(samples: Sequence[Sample]) -> Calibration:
    """Maximum-likelihood Platt scaling."""
    x = torch.tensor([s for s, _ in samples], dtype=torch.float64)
    x = x - torch.log(-torch.expm1(x))  # log p to logit p
    y = torch.tensor([float(r) for _, r in samples], dtype=torch.float64)
    ab = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([ab], max_iter=200)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(ab[0] * x + ab[1], y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return Calibration(*(float(v) for v in ab.detach()))


def calibrate(work: Path, shared: Path, model: str) -> None:
    """Write ``work/model/calibration.json``; print the two-fold calibration error."""
    asr = Recognizer.from_pretrained(model)
    lag = asr.parts.calibration.lag
    asr.parts = replace(asr.parts, calibration=Calibration(lag=lag))  # raw scores
    clips = [c for c in dev_clips(shared) if c.lang != "hi"]  # Hindi dev is scored by character
    found = [judged(asr, clip) for clip in clips]
    halves = [[s for n, clip in enumerate(found) if n % 2 == k for s in clip] for k in (0, 1)]
    errors = []
    for train, test in (halves, halves[::-1]):
        fitted = fit(train)
        errors.append(ece([fitted(x) for x, _ in test], [r for _, r in test]))
    raw = [s for half in halves for s in half]
    before = ece([math.exp(x) for x, _ in raw], [r for _, r in raw])
    final = replace(fit(raw), lag=lag)
    (work / "model/calibration.json").write_text(json.dumps(asdict(final)))
    print(f"{len(raw)} words, {sum(r for _, r in raw) / len(raw):.3f} right; ECE {before:.3f} uncalibrated,")
    print(f"{sum(errors) / 2:.3f} calibrated (two-fold); a={final.a:.3f} b={final.b:.3f}")
