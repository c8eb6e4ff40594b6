"""Prompts, projector, cache and positions of the DiffusionGemma denoiser."""

from __future__ import annotations

import pytest
import torch

from diffusion_asr.diffusion_gemma.backbone import BackboneConfig, build_backbone, fill_backbone, pack_state
from diffusion_asr.diffusion_gemma.denoiser import Canvas, DiffusionGemmaDenoiser
from diffusion_asr.diffusion_gemma.projector import AudioProjector, ProjectorConfig, make_published
from diffusion_asr.diffusion_gemma.prompt import ANY, Prompt, PromptRows, scatter_audio
from diffusion_asr.errors import LanguageError, ModelError
from tests.support import gemma_tiny
from tests.support.gemma_tiny import denoise
from tests.support.tiny import WIDTH, memory

kinds = pytest.mark.parametrize("canvas", ["token", "time"])


def canvas_of(model: DiffusionGemmaDenoiser, shape: tuple[int, ...], seed: int = 5) -> torch.Tensor:
    return torch.randint(0, model.vocabulary, shape, generator=torch.Generator().manual_seed(seed))


@kinds
def test_a_clip_is_the_same_in_any_batch(canvas: Canvas) -> None:
    model, lengths, languages = gemma_tiny.denoiser(canvas), [97, 40, 75], ["de", "en", "de"]
    state = model.prepare(memory(lengths), languages)
    ids = canvas_of(model, tuple(state.slot_mask.shape))
    logits, soft = denoise(model, ids, state)
    later, _ = denoise(model, ids, state, soft)
    for row, (length, language) in enumerate(zip(lengths, languages, strict=True)):
        alone = model.prepare(memory([length]), [language])
        n = alone.slot_mask.shape[1]
        first, single = denoise(model, ids[row : row + 1, :n], alone)
        torch.testing.assert_close(logits[row, :n], first[0], atol=2e-4, rtol=1e-3)
        again, _ = denoise(model, ids[row : row + 1, :n], alone, single)
        torch.testing.assert_close(later[row, :n], again[0], atol=2e-3, rtol=1e-2)
        assert (again - first).abs().max() > 0.1  # conditioning is heard


@kinds
def test_the_cache_is_only_read(canvas: Canvas) -> None:
    model = gemma_tiny.denoiser(canvas)
    state = model.prepare(memory([97, 40, 75]), ["de", "en", "de"])
    ids = canvas_of(model, tuple(state.slot_mask.shape))
    before, _ = denoise(model, ids, state)
    again, _ = denoise(model, ids, state)
    assert torch.equal(again, before)


@kinds
def test_every_part_of_the_audio_is_heard(canvas: Canvas) -> None:
    model = gemma_tiny.denoiser(canvas)
    heard = memory([64])
    state = model.prepare(heard, ["en"])
    ids = canvas_of(model, tuple(state.slot_mask.shape))
    before, _ = denoise(model, ids, state)
    for frame in (0, 31, 63):
        changed = memory([64])
        changed.states[0, frame] += 3.0
        after, _ = denoise(model, ids, model.prepare(changed, ["en"]))
        assert (after - before).abs().amax() > 1e-2, frame


def test_logits_equal_transformers_forward() -> None:
    """Self-conditioning on expected embeddings is self-conditioning on logits."""
    model = gemma_tiny.denoiser()
    state = model.prepare(memory([64, 64]), ["en", "en"])
    ids = canvas_of(model, tuple(state.slot_mask.shape))
    logits, soft = denoise(model, ids, state)
    theirs = model.backbone(decoder_input_ids=ids, past_key_values=state.cache).logits
    assert torch.equal(logits, theirs)
    later, _ = denoise(model, ids, state, soft)
    theirs = model.backbone(
        decoder_input_ids=ids, past_key_values=state.cache, self_conditioning_logits=logits
    ).logits
    assert torch.equal(later, theirs)


def test_some_pieces_score_as_among_all() -> None:
    model = gemma_tiny.denoiser("time")
    state = model.prepare(memory([64]), ["en"])
    ids, pieces = canvas_of(model, tuple(state.slot_mask.shape)), torch.tensor([0, 3, 40])
    whole, _ = denoise(model, ids, state)
    part, soft = denoise(model, ids, state, None, pieces)
    torch.testing.assert_close(part, whole[..., pieces])
    masked = torch.full_like(whole, float("-inf")).index_copy(-1, pieces, part)
    torch.testing.assert_close(soft, model.soften(masked))


def test_a_time_canvas_stands_at_its_audio() -> None:
    model = gemma_tiny.denoiser("time")
    state = model.prepare(memory([22, 9]), ["de", "en"])
    assert state.slot_mask.sum(1).tolist() == [6, 3]  # 4 frames each, the last one part
    assert state.positions[:, 0].tolist() == [4, 3]  # the prompts' words before the audio
    assert state.slots.times.tolist() == [[2, 6, 10, 14, 18, 22]]


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 9, 40])
@pytest.mark.parametrize(
    "config",
    [make_published(WIDTH, 24, 32), ProjectorConfig(((WIDTH, 24, 8, 4),), (24, 28, 32), normed=False)],
)
def test_projector_counts(config: ProjectorConfig, frames: int) -> None:
    heard, counts = AudioProjector(config)(memory([frames, 50]))
    assert counts.tolist() == [-(-frames // config.subsampling), -(-50 // config.subsampling)]
    assert heard.shape == (2, int(counts.max()), 32)
    assert not heard[0, int(counts[0]) :].any()
    assert heard[0, : int(counts[0])].any(-1).all()


def test_thirty_seconds_are_188_embeddings() -> None:
    _, counts = AudioProjector(make_published(WIDTH, 8, 8))(memory([1500]))
    assert counts.tolist() == [188]


def test_projector_equals_padded_convolutions() -> None:
    projector = AudioProjector(make_published(WIDTH, 24, 32))
    x = memory([41]).states.transpose(1, 2)
    for conv in projector.convolutions:
        assert isinstance(conv, torch.nn.Conv1d)
        x = torch.nn.functional.gelu(torch.nn.functional.conv1d(x, conv.weight, conv.bias, 2, 1))
    expected = projector.linears[0](projector.norm(x.transpose(1, 2)))
    torch.testing.assert_close(projector(memory([41]))[0], expected)


class TestWrong:
    def test_acoustic_width(self) -> None:
        with pytest.raises(ModelError, match=f"width {WIDTH}.*gives 24"):
            gemma_tiny.denoiser().prepare(memory([40], width=24), ["en"])

    def test_embedding_width(self) -> None:
        with pytest.raises(ModelError, match="writes 31 values, the backbone reads 32"):
            DiffusionGemmaDenoiser(
                build_backbone(gemma_tiny.SIZES),
                AudioProjector(make_published(WIDTH, 8, 31)),
                gemma_tiny.PROMPT,
                "token",
            )

    def test_vocabulary(self) -> None:
        foreign = Prompt(258881, {ANY: (2, 256000)}, {ANY: (258883,)})
        with pytest.raises(ModelError, match="token 258883, the backbone has 64"):
            gemma_tiny.denoiser(prompt=foreign)

    def test_prompt_beyond_the_window(self) -> None:
        sizes = BackboneConfig(vocabulary=64, d_model=32, layers=2, heads=2, head_size=16, window=16)
        model = gemma_tiny.denoiser(sizes=sizes)
        model.prepare(memory([72]), ["en"])
        with pytest.raises(ModelError, match=r"prompt of 16 tokens.*keeps 15"):
            model.prepare(memory([88]), ["en"])

    def test_missing_slots(self) -> None:
        ids = torch.tensor([[2, 5, 5, 6], [2, 5, 6, 0]])
        rows = PromptRows(ids, torch.ones_like(ids, dtype=torch.bool), torch.tensor([1, 1]))
        with pytest.raises(ModelError, match=r"\[2, 1\] audio slots for \[2, 2\]"):
            scatter_audio(torch.zeros(2, 4, 3), rows, 5, torch.ones(2, 2, 3), torch.tensor([2, 2]))

    def test_language(self) -> None:
        prompt = Prompt(5, {"en": (2,)}, {"en": (6,)})
        with pytest.raises(LanguageError, match="'xx'"):
            prompt.rows(torch.tensor([3]), ["xx"])
        with pytest.raises(LanguageError, match="2 languages for 1 clips"):
            prompt.rows(torch.tensor([3]), ["en", "en"])

    def test_weights(self) -> None:
        tensors = pack_state(build_backbone(gemma_tiny.SIZES))
        removed = next(iter(tensors))
        tensors["extra"] = tensors.pop(removed)
        with pytest.raises(ModelError, match=rf"(?s)extra: .*expected missing.*{removed}: missing"):
            fill_backbone(build_backbone(gemma_tiny.SIZES), tensors)


def test_stored_weights_are_the_whole_model() -> None:
    model, other = gemma_tiny.denoiser(seed=1), gemma_tiny.denoiser(seed=2)
    other.projector.load_state_dict(model.projector.state_dict())
    fill_backbone(other.backbone, {name: value.clone() for name, value in pack_state(model.backbone).items()})
    logits = []
    for each in (model, other):
        state = each.prepare(memory([64]), ["en"])
        logits.append(denoise(each, canvas_of(each, tuple(state.slot_mask.shape)), state)[0])
    assert torch.equal(*logits)
