"""With and without CTC on the projector: does a frozen backbone listen?

Small enough for a CPU, and simulated throughout: texts are letters of made-up words, and "speech" is a fixed
random pattern for each letter, of varying length, in noise. First the backbone learns the language from text
alone, without audio; then it is frozen, and projector and LoRA are trained on "speech", once with all three
losses and once without CTC: same data, same start, same steps. Reported on unseen texts, from noise:

- error: letters wrong on the canvas after 8 steps, per cent;
- gap: how much worse the first step predicts a text when it hears another clip, nats a letter. A clip's
  length alone tells something of its text: compare with the backbone that has never heard a sound;
- heard: letters wrong in the projector's own say.
"""

from __future__ import annotations

import random
import sys
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diffusion_asr.acoustics.encoder import AcousticMemory
from diffusion_asr.decoding.process import denoise_canvas
from diffusion_asr.diffusion_gemma import lora
from diffusion_asr.diffusion_gemma.backbone import BackboneConfig, build_backbone
from diffusion_asr.diffusion_gemma.denoiser import DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.objective import LossOptions, TokenBatch, compute_losses
from diffusion_asr.diffusion_gemma.process import GemmaSampling, SequentialNoise
from diffusion_asr.diffusion_gemma.projector import AudioProjector, make_published
from diffusion_asr.diffusion_gemma.prompt import ANY, Prompt

PAD, END, BOS, BEGIN, AUDIO, CLOSE, FIRST = range(7)
LETTERS, WORDS = 12, 40
WIDTH = 24  # of the acoustic states


@dataclass(frozen=True)
class AblationOptions:
    """Sizes; the defaults take minutes."""

    text_steps: int = 400
    steps: int = 400
    batch: int = 16
    canvas: int = 16
    d_model: int = 64
    layers: int = 3
    rank: int = 8
    lr: float = 2e-3
    seed: int = 1
    clips: int = 32  # to be judged on


class World:
    """Words, and how letters sound."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        letters = range(FIRST, FIRST + LETTERS)
        self.words = [[rng.choice(letters) for _ in range(rng.randint(2, 4))] for _ in range(WORDS)]
        self.sounds = torch.randn(FIRST + LETTERS, WIDTH, generator=torch.Generator().manual_seed(seed))

    def text(self, rng: random.Random, most: int) -> list[int]:
        """Words one after another."""
        out: list[int] = []
        for _ in range(rng.randint(2, 5)):
            word = rng.choice(self.words)
            out += word if len(out) + len(word) < most else []
        return out

    def batch(self, rng: random.Random, options: AblationOptions) -> tuple[AcousticMemory, TokenBatch]:
        """Some texts and their "speech": 16 to 24 frames for each letter."""
        texts = [self.text(rng, options.canvas) for _ in range(options.batch)]
        states = []
        for text in texts:
            times = torch.tensor([rng.randint(16, 24) for _ in text])
            clean = self.sounds[torch.tensor(text)].repeat_interleave(times, 0)
            states.append(clean + 0.5 * torch.randn(clean.shape))
        padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
        lengths = torch.tensor([len(each) for each in states])
        memory = AcousticMemory(padded, torch.arange(padded.shape[1]) < lengths[:, None], 50.0)
        return memory, TokenBatch.of(texts, options.canvas, END, PAD)


def new_model(options: AblationOptions) -> DiffusionGemmaDenoiser:
    """An untrained backbone and projector."""
    torch.manual_seed(options.seed)
    sizes = BackboneConfig(
        vocabulary=FIRST + LETTERS, d_model=options.d_model, layers=options.layers, heads=4, key_heads=2,
        head_size=16, feed_forward=2 * options.d_model, canvas=options.canvas, window=128,
    )  # fmt: skip
    prompt = Prompt(AUDIO, {ANY: (BOS, BEGIN)}, {ANY: (CLOSE,)})
    projector = AudioProjector(make_published(WIDTH, options.d_model, options.d_model))
    return DiffusionGemmaDenoiser(build_backbone(sizes), projector, prompt, "token")


def train(
    model: DiffusionGemmaDenoiser, world: World, options: AblationOptions, wanted: LossOptions, steps: int,
    silent: bool,
) -> None:  # fmt: skip
    """Minimise the wanted losses over what may be trained; ``silent`` takes the sound away."""
    torch.manual_seed(options.seed)
    rng = random.Random(options.seed)
    weights = [w for w in model.parameters() if w.requires_grad]
    optimiser = torch.optim.AdamW(weights, options.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.lr, max(2, steps))
    for _ in range(steps):
        memory, texts = world.batch(rng, options)
        if silent:
            memory = AcousticMemory(torch.zeros_like(memory.states), memory.mask, memory.frame_rate)
        parts = compute_losses(model, memory, [ANY] * len(memory), texts, wanted)
        optimiser.zero_grad()
        torch.stack(list(parts.values())).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        schedule.step()


@torch.inference_mode()
def judge(model: DiffusionGemmaDenoiser, world: World, options: AblationOptions) -> dict[str, float]:
    """Error, gap and heard on texts that training did not draw; see the module's text."""
    torch.manual_seed(options.seed + 1)
    rng = random.Random(options.seed + 1)
    judged = AblationOptions(**{**asdict(options), "batch": options.clips})
    memory, texts = world.batch(rng, judged)
    state = model.prepare(memory, [ANY] * len(memory), options.canvas)
    clips, length = state.slots.mask.shape
    generator = torch.Generator().manual_seed(options.seed)
    noise = SequentialNoise((clips, length), model.vocabulary, generator, model.device)
    process = GemmaSampling(8, confident=None).process(noise)
    rows = denoise_canvas(model, state, noise.canvas(0), process, 8)
    written = [_until_end(row.tolist()) for row in rows.canvas]
    best = model.heard_logits(state.heard).argmax(-1)
    heard = [_collapsed(row[:n].tolist()) for row, n in zip(best, state.counts.tolist(), strict=True)]
    wanted = [row[:n].tolist() for row, n in zip(texts.canvas, texts.counts.tolist(), strict=True)]
    canvas = torch.randint(0, model.vocabulary, texts.canvas.shape)
    right = _surprise(model, canvas, memory, texts)
    order = torch.arange(len(memory)).roll(1)
    other = AcousticMemory(memory.states[order], memory.mask[order], memory.frame_rate)
    wrong = _surprise(model, canvas, other, texts)
    return {
        "error": round(_error(wanted, written), 1), "gap": round(wrong - right, 2),
        "heard": round(_error(wanted, heard), 1),
    }  # fmt: skip


def _surprise(
    model: DiffusionGemmaDenoiser, canvas: Tensor, memory: AcousticMemory, texts: TokenBatch
) -> float:
    """Nats a letter that the first step from noise leaves."""
    state = model.prepare(memory, [ANY] * len(memory), canvas.shape[1])
    logits = model.logits(model.hidden(canvas, state))
    wanted = texts.canvas.masked_fill(texts.canvas == PAD, -100)
    return float(F.cross_entropy(logits.flatten(0, 1), wanted.flatten()))


def _until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(END)] if END in ids else ids


def _collapsed(ids: list[int]) -> list[int]:
    return [t for n, t in enumerate(ids) if t != PAD and (n == 0 or t != ids[n - 1])]


def _error(wanted: list[list[int]], found: list[list[int]]) -> float:
    """Edits a letter, per cent."""
    import jiwer

    right, written = (["".join(chr(97 + t) for t in ids) for ids in side] for side in (wanted, found))
    return 100 * float(jiwer.cer(right, written))


def ablate(options: AblationOptions) -> dict[str, dict[str, float]]:
    """Both trainings from the same frozen backbone, and that backbone itself."""
    world, found = World(options.seed), {}
    language = new_model(options)
    train(language, world, options, LossOptions(ctc=0.0), options.text_steps, silent=True)
    known = {name: value.clone() for name, value in language.backbone.state_dict().items()}
    found["backbone alone"] = _told("backbone alone", judge(language, world, options))
    for name, ctc in (("without CTC", 0.0), ("with CTC", 1.0)):
        model = new_model(options)
        model.backbone.load_state_dict(known)
        torch.manual_seed(options.seed)
        lora.add_adapters(model.backbone, options.rank, 2.0 * options.rank)
        train(model, world, options, LossOptions(ctc=ctc), options.steps, silent=False)
        found[name] = _told(name, judge(model, world, options))
    return found


def _told(name: str, result: dict[str, float]) -> dict[str, float]:
    print(f"{name}: {result}", file=sys.stderr, flush=True)
    return result
