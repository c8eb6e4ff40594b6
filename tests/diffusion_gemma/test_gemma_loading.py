"""The published layout: read from headers, mapped by shape and name, refused with reasons."""

from __future__ import annotations

import http.server
import json
import pickle
import re
import shutil
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers.models.diffusion_gemma")

from diffusion_asr import ModelError, Recognizer
from diffusion_asr.diffusion_gemma import layout, lora, resources
from diffusion_asr.diffusion_gemma.decoder import GemmaDecoder
from diffusion_asr.diffusion_gemma.denoiser import GemmaState
from diffusion_asr.diffusion_gemma.hub import Hub
from diffusion_asr.diffusion_gemma.loading import LoadOptions, load_adapter
from diffusion_asr.diffusion_gemma.toolkit import DiffusionGemmaForBlockDiffusion
from tests.support.gemma_published import Published, loaded, published_system
from tests.support.gemma_tiny import denoise
from tests.support.tiny import ROOT, memory

CLIP = ROOT / "tests/data/en-arctic_a0239_1592711579.flac"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return published_system(tmp_path_factory.mktemp("published"))


@pytest.fixture
def adapter(system: Published, tmp_path: Path) -> Path:
    """A copy of the adapter, to be damaged."""
    return Path(shutil.copytree(system.adapter, tmp_path / "adapter"))


@pytest.fixture
def whole(system: Published, tmp_path: Path) -> Published:
    """A copy of everything, to be damaged."""
    adapter, backbone, encoder = (
        Path(shutil.copytree(p, tmp_path / p.name)) for p in (system.adapter, system.backbone, system.encoder)
    )
    return Published(adapter, backbone, encoder)


def where(paths: Published) -> LoadOptions:
    return LoadOptions(backbone=str(paths.backbone), encoder=str(paths.encoder), device="cpu")


def logits(model: Any) -> torch.Tensor:
    state = model.prepare(memory([64, 40]), ["de", "en"], 12)
    ids = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(1))
    return denoise(model, ids, state)[0]


def test_round_trip(system: Published, tmp_path: Path) -> None:
    """Loaded, saved and loaded again it computes the same; without its LoRA it does not."""
    from diffusion_asr.diffusion_gemma.loading import save_adapter

    whole = load_adapter(str(system.adapter), LoadOptions())
    before = logits(whole.denoiser)
    save_adapter(tmp_path, whole.denoiser, whole.settings)
    for file in ("projector.safetensors", "adapter_model.safetensors"):
        first, second = load_file(system.adapter / file), load_file(tmp_path / file)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(logits(load_adapter(str(tmp_path), LoadOptions()).denoiser), before)
    (tmp_path / "adapter_model.safetensors").unlink()
    assert not torch.allclose(logits(load_adapter(str(tmp_path), LoadOptions()).denoiser), before, atol=1e-2)


def test_other_names_are_told_by_shape(system: Published, adapter: Path) -> None:
    """One file, foreign names: convolutions in a Sequential, LoRA without PEFT's prefix."""
    names = {
        "convolutions.0": "audio_projector.conv.0", "convolutions.1": "audio_projector.conv.2",
        "convolutions.2": "audio_projector.conv.10", "norm": "audio_projector.ln",
        "linears.0": "audio_projector.out",
    }  # fmt: skip
    tensors = {
        f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value
        for key, value in load_file(adapter / "projector.safetensors").items()
    }
    for key, value in load_file(adapter / "adapter_model.safetensors").items():
        tensors[key.removeprefix(lora.PREFIX + "model.").replace("lora_A.", "lora_A.default.")] = value
    for file in adapter.glob("*.safetensors"):
        file.unlink()
    save_file(tensors, adapter / "trained.safetensors")
    assert torch.equal(logits(load_adapter(str(adapter), LoadOptions()).denoiser), logits(loaded(system)))


def test_peft_computes_the_same(system: Published, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model = loaded(system)
    plain = DiffusionGemmaForBlockDiffusion.from_pretrained(system.backbone, dtype=torch.float32)
    config = peft.LoraConfig(r=system.rank, lora_alpha=6, target_modules=lora.TARGETS.pattern)
    wrapped = peft.get_peft_model(plain, config)
    stored = load_file(system.adapter / "adapter_model.safetensors")
    assert stored.keys() == peft.get_peft_model_state_dict(wrapped).keys()
    peft.set_peft_model_state_dict(wrapped, stored)
    wrapped.eval().save_pretrained(tmp_path)
    ids = torch.tensor([[2, 30, 31, 32]])
    canvas = torch.tensor([[9, 8, 7]])
    theirs = wrapped(input_ids=ids, decoder_input_ids=canvas).logits
    mine = model.backbone(input_ids=ids, decoder_input_ids=canvas).logits
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_transcribes(system: Published) -> None:
    """Random weights write random text, but text, times and confidence all hold together."""
    asr = Recognizer.from_pretrained(str(system.adapter))
    assert isinstance(asr.parts.decoder, GemmaDecoder)
    assert asr.languages == ("en", "de", "fr", "es", "hi", "zh")
    first = asr.transcribe(CLIP, language="en", steps=3)
    assert first == asr.transcribe(CLIP, language="en", steps=3)
    words = [word for segment in first.segments for word in segment.words]
    assert words
    assert all(0 <= word.start <= word.end <= first.duration for word in words)
    assert all(a.start <= b.start for a, b in pairwise(words))
    assert {s.language for s in asr.transcribe(CLIP, steps=1).segments} <= {"und"}
    noise = asr.transcribe(CLIP, language="en", steps=3, start="noise")
    assert noise.text != first.text


def test_padded_clips_are_heard_whole(system: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the reference system does: 188 audio embeddings, whatever the clip's length."""
    options = LoadOptions(settings={"padded": True})
    asr = Recognizer.from_pretrained(str(system.adapter), options)
    heard = asr.encode(torch.zeros(1, 16_000 * 3 + 100))
    assert (heard.states.shape[1], int(heard.lengths[0])) == (1500, 151)
    decoder, counts = asr.parts.decoder, []
    assert isinstance(decoder, GemmaDecoder)
    prepare = decoder.denoiser.prepare

    def spy(*given: Any) -> GemmaState:
        counts.append(prepare(*given).counts.tolist())
        return prepare(*given)

    monkeypatch.setattr(decoder.denoiser, "prepare", spy)
    (found,) = asr.decode(heard, "de", steps=2)
    assert all(word.end <= 3.02 for word in found.words)
    assert counts
    assert all(count == [188] for count in counts)


class TestRefused:
    def test_pickles(self, adapter: Path) -> None:
        for file in adapter.glob("*.safetensors"):
            file.unlink()
        (adapter / "projector.pt").write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ModelError, match=r"only pickled weights \(projector.pt\).*not loaded"):
            Recognizer.from_pretrained(str(adapter))

    def test_pointer_file(self, adapter: Path) -> None:
        (adapter / "projector.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
        with pytest.raises(ModelError, match="pointer"):
            layout.read_headers(adapter)

    def test_cut_off_file(self, adapter: Path) -> None:
        file = adapter / "projector.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(ModelError, match=r"projector.safetensors: \d+ bytes instead of \d+"):
            layout.read_headers(adapter)

    def test_unknown_tensors_are_listed(self, adapter: Path) -> None:
        save_file({"speaker.table": torch.zeros(3, 4, 5, 6)}, adapter / "more.safetensors")
        with pytest.raises(
            ModelError, match=r"(?s)no projector.*more.safetensors: speaker.table \[3, 4, 5, 6\]"
        ):
            load_adapter(str(adapter), LoadOptions())

    def test_missing_lora_layers_are_listed(self, adapter: Path) -> None:
        file = adapter / "adapter_model.safetensors"
        tensors = load_file(file)
        gone = next(name for name in tensors if "decoder.layers.1.self_attn.q_proj.lora_B" in name)
        del tensors[gone]
        save_file(tensors, file)
        with pytest.raises(ModelError, match="decoder layer 1 q_proj lora_B: missing"):
            load_adapter(str(adapter), LoadOptions())

    def test_unstated_alpha(self, adapter: Path) -> None:
        config = json.loads((adapter / "config.json").read_text())
        del config["lora_alpha"]
        (adapter / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="lora_alpha"):
            load_adapter(str(adapter), LoadOptions())
        load_adapter(str(adapter), LoadOptions(settings={"lora_alpha": 6.0}))

    def test_unknown_settings(self, adapter: Path) -> None:
        with pytest.raises(ModelError, match=r"settings: .*there are backbone"):
            load_adapter(str(adapter), LoadOptions(settings={"alpha": 1}))

    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("subsample_factor", "8"),
            ("subsample_factor", 2**70),
            ("lora_alpha", "six"),
            ("audio_token", -1),
            ("audio_token", True),
            ("backbone", 3),
            ("after", "{0}"),
            ("after", "{language:>999999999}"),
            ("before", "{"),
            ("padded", "no"),
            ("blank", 1.5),
        ],
    )
    def test_settings_of_a_wrong_kind(self, adapter: Path, setting: str, value: object) -> None:
        config = json.loads((adapter / "config.json").read_text())
        (adapter / "config.json").write_text(json.dumps(config | {setting: value}))
        with pytest.raises(ModelError, match=f"the settings of .*: {setting}: "):
            load_adapter(str(adapter), LoadOptions())

    @pytest.mark.parametrize("name", ["config.json", "adapter_config.json"])
    @pytest.mark.parametrize("content", ["[" * 100_000, "[]", "NaN", '{"a": 1, "a": 2}'])
    def test_settings_that_are_no_json_object(self, adapter: Path, name: str, content: str) -> None:
        (adapter / name).write_text(content)
        with pytest.raises(ModelError, match=rf"{name}: (not|nested)"):
            load_adapter(str(adapter), LoadOptions())

    @pytest.mark.parametrize(
        "header",
        [
            "[" * 50_000,
            "[]",
            "3",
            '{"a": 1}',
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, "4"]}}',
        ],
    )
    def test_headers_that_are_none(self, adapter: Path, header: str) -> None:
        data = header.encode()
        (adapter / "projector.safetensors").write_bytes(len(data).to_bytes(8, "little") + data)
        with pytest.raises(ModelError, match=r"projector.safetensors: not a safetensors file"):
            load_adapter(str(adapter), LoadOptions())

    @pytest.mark.parametrize("change", ["nan", "relabelled"])
    @pytest.mark.parametrize(
        "part", ["adapter/projector", "adapter/adapter_model", "whisper/model", "backbone/model"]
    )
    def test_weights_that_are_none(self, whole: Published, part: str, change: str) -> None:
        file = whole.adapter.parent / f"{part}.safetensors"
        tensors = load_file(file)
        name = next(
            n for n in sorted(tensors) if "decoder" in n or part.split("/")[1] in ("projector", "model")
        )
        if change == "nan":
            tensors[name].view(-1)[0] = torch.nan
        else:
            tensors[name] = tensors[name].view(torch.int32)
        save_file(tensors, file, metadata={"format": "pt"})
        shared = "embed_tokens.weight" if name.endswith("embed_tokens.weight") else re.escape(name)
        with pytest.raises(ModelError, match=shared):
            load_adapter(str(whole.adapter), where(whole))

    @pytest.mark.parametrize("place", ["text_config.num_hidden_layers", "text_config.head_dim"])
    def test_a_backbone_beyond_all_bounds(self, whole: Published, place: str) -> None:
        path = whole.backbone / "config.json"
        config = json.loads(path.read_text())
        inside, name = place.split(".")
        config[inside][name] = 10**11
        path.write_text(json.dumps(config))
        with pytest.raises(ModelError, match=f"{name} is 1e.11, which is no backbone's"):
            load_adapter(str(whole.adapter), where(whole))

    def test_a_backbone_that_lacks_weights(self, whole: Published) -> None:
        """transformers would draw them at random."""
        file = whole.backbone / "model.safetensors"
        tensors = load_file(file)
        name = next(n for n in tensors if "decoder.layers.1.mlp.gate_proj" in n)
        del tensors[name]
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"lacks \d+ of the backbone's weights"):
            load_adapter(str(whole.adapter), where(whole))

    def test_another_backbone(self, system: Published, adapter: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(system.backbone, tmp_path / "other"))
        config = json.loads((other / "config.json").read_text())
        config["text_config"]["hidden_size"] = 48
        (other / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=r"adapter writes 32 values, the backbone .* reads 48"):
            load_adapter(str(adapter), LoadOptions(backbone=str(other)))

    def test_another_encoder(self, system: Published, adapter: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(system.encoder, tmp_path / "other"))
        config = json.loads((other / "config.json").read_text()) | {"d_model": 768}
        (other / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match="width 16, other gives 768"):
            load_adapter(str(adapter), LoadOptions(encoder=str(other)))

    def test_too_little_memory(self, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before any weight is read."""
        monkeypatch.setattr(resources, "measure_room", lambda device: 1000)
        monkeypatch.setattr(DiffusionGemmaForBlockDiffusion, "from_pretrained", None)
        with pytest.raises(ModelError, match=r"GB on cpu, 0.0 GB are free"):
            load_adapter(str(adapter), LoadOptions(device="cpu"))

    def test_offline(self, adapter: Path, tmp_path: Path) -> None:
        hub = Hub(offline=True, cache=str(tmp_path))
        with pytest.raises(ModelError, match=r"google/none@abc was not fetched before and offline is set"):
            load_adapter(str(adapter), LoadOptions(backbone="google/none@abc", hub=hub))

    def test_misspelt_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="neither a folder nor"):
            Hub().folder(str(tmp_path / "nothing"), ("*",))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


class Gate(http.server.BaseHTTPRequestHandler):
    """A hub's answers: a gated repository, and none at all."""

    def do_GET(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def log_message(self, format: str, *given: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Hub(endpoint=f"http://127.0.0.1:{server.server_port}", cache=str(tmp_path))
    server.shutdown()


def test_a_gated_backbone_says_what_to_do(adapter: Path, hub: Hub) -> None:
    with pytest.raises(
        ModelError, match=r"accept its terms at https://huggingface.co/google/gated.*hf auth login"
    ):
        load_adapter(str(adapter), LoadOptions(backbone="google/gated", hub=hub))


def test_a_name_that_no_hub_knows(hub: Hub) -> None:
    with pytest.raises(ModelError, match="no model 'some/thing': neither a folder here nor on the hub"):
        Recognizer.from_pretrained("some/thing", LoadOptions(hub=hub))
