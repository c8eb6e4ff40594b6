"""The SpeechBrain adapter, with the real SpeechBrain.

SpeechBrain's recipe scripts are not in its wheel. With ``DIFFUSION_ASR_SPEECHBRAIN_CLONE`` (a clone of its
repository) they are run as they are; without it, the same YAML is loaded and a ``Brain`` with the calls of
those scripts is trained and evaluated through the installed package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile as sf
import soxr
import torch

from diffusion_asr import Recognizer
from diffusion_asr.decoding.diffusion import DiffusionDecoder
from diffusion_asr.models.tuned import find_denoiser

sb = pytest.importorskip("speechbrain", reason="pip install 'diffusion-asr[speechbrain]'")
adapter = pytest.importorskip("diffusion_asr_speechbrain", exc_type=ImportError)

from hyperpyyaml import load_hyperpyyaml  # noqa: E402
from speechbrain.core import Brain  # noqa: E402
from speechbrain.inference.interfaces import foreign_class  # noqa: E402

from diffusion_asr.text.normalise import normalise_basic  # noqa: E402
from recipes.speechbrain.prepare import write_csv  # noqa: E402

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
CLIPS = {"en": "en-arctic_a0239_1592711579.flac", "de": "de-de_rhasspy-0208.flac"}
TEXT = "He cried in such genuine dismay that she broke into hearty laughter."
CLONE = os.environ.get("DIFFUSION_ASR_SPEECHBRAIN_CLONE")
SCRIPTS = {
    "librispeech": "recipes/LibriSpeech/ASR/transformer/train_with_whisper.py",
    "commonvoice": "recipes/CommonVoice/ASR/transformer/train_with_whisper.py",
}


@pytest.fixture(scope="module")
def asr(tmp_path_factory: pytest.TempPathFactory) -> Any:
    saved = tmp_path_factory.mktemp("speechbrain")
    return adapter.DiffusionASR.from_hparams(source=adapter.CANVAS_BASE, savedir=saved)


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Both clips padded, and their samples."""
    waves = [torch.from_numpy(sf.read(DATA / name, dtype="float32")[0]) for name in CLIPS.values()]
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor([len(w) for w in waves])


@pytest.mark.parametrize("language", CLIPS)
def test_a_files_words_are_cores(asr: Any, core: Recognizer, language: str) -> None:
    path = DATA / CLIPS[language]
    assert asr.transcribe_file(path, language=language) == core.transcribe(path, language=language).text != ""


def test_a_padded_batchs_words_are_cores(asr: Any, core: Recognizer, batch: Any, tmp_path: Path) -> None:
    waves, samples = batch
    relative = samples / waves.shape[1]
    memory = core.encode(waves, samples)
    expected = [core.transcribe(DATA / name, code).text for code, name in CLIPS.items()]
    words, tokens = asr.transcribe_batch(waves, relative, language=list(CLIPS))
    assert words == expected
    assert [core.parts.vocabulary.decode(ids) for ids in tokens] == expected
    assert torch.equal(asr.encode_batch(waves, relative), memory.states)
    source = adapter.CANVAS_BASE
    other = foreign_class(source, pymodule_file="interface.py", classname="DiffusionASR", savedir=tmp_path)
    found = [core.transcribe(DATA / name).text for name in CLIPS.values()]
    assert other(waves, relative)[0] == found  # languages detected as in core


def test_the_searcher_has_speechbrains_signature(core: Recognizer, batch: Any) -> None:
    model = adapter.DiffusionModule(language="en")
    search = adapter.DiffusionSearcher(model, steps=2)
    assert isinstance(search, sb.decoders.seq2seq.S2SBaseSearcher)
    states = model.encode(batch[0])  # recipes pass no lengths: padding is known by its zeros
    hyps, lengths, scores, log_probs = search(states.clone(), batch[1] / batch[0].shape[1])
    expected = core.decode(core.encode(*batch), "en", steps=2)  # states alone: no speech is sought
    assert [model.tokenizer.decode(ids) for ids in hyps] == [h.text for h in expected]
    assert lengths == [len(ids) for ids in hyps]
    assert scores.tolist() == pytest.approx([h.confidence for h in expected])
    assert log_probs is None
    with pytest.raises(ValueError, match="steps must be a whole number of passes"):
        adapter.DiffusionSearcher(model, steps=0)


def test_the_tokenizer_keeps_texts(core: Recognizer) -> None:
    tokenizer = adapter.CanvasTokenizer(core.parts.vocabulary, "de")
    ids = tokenizer.build_inputs_with_special_tokens(tokenizer.encode("Grüße aus Köln!"))
    assert ids[0] != ids[-1]
    assert tokenizer.decode(torch.tensor(ids)) == "Grüße aus Köln!"
    assert tokenizer.batch_decode([ids, [tokenizer.pad_token_id]]) == ["Grüße aus Köln!", ""]
    assert tokenizer.normalize("Grüße, Köln!") == "grüße köln"


def test_bad_input_is_a_value_error_with_our_message(asr: Any, tmp_path: Path) -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match="no-such"):
        asr.transcribe_file("no-such.wav")
    with pytest.raises(ValueError, match="tlh"):
        asr.transcribe_batch(torch.rand(1, 16000), one, language="tlh")
    with pytest.raises(ValueError, match="30 s at most"):
        asr.transcribe_batch(torch.rand(1, 31 * 16000), one, detect_speech=False)
    with pytest.raises(ValueError, match="a sample is nan"):
        asr.encode_batch(torch.full((1, 16000), torch.nan), one)
    with pytest.raises(ValueError, match="batch, samples"):
        asr.encode_batch(torch.zeros(1, 0), one)
    with pytest.raises(ValueError, match="no model"):
        adapter.DiffusionModule("canvas-huge")
    with pytest.raises(ValueError, match="unknown language"):
        adapter.DiffusionModule(language="tlh")
    with pytest.raises(adapter.RecognitionError, match="unknown decoding options: beams"):
        adapter.DiffusionModule(beams=5)
    with pytest.raises(adapter.RecognitionError, match="start must be 'null', 'noise'"):
        asr.transcribe_file(DATA / CLIPS["en"], start="silence")
    stereo = tmp_path / "stereo.wav"
    sf.write(stereo, torch.zeros(48000, 2).numpy(), 48000)
    assert asr.transcribe_file(stereo) == ""


def test_a_clip_of_48_khz_stereo_has_the_words_of_core(asr: Any, core: Recognizer, tmp_path: Path) -> None:
    samples, rate = sf.read(DATA / CLIPS["en"], dtype="float32")
    wide = soxr.resample(samples, rate, 48_000)
    path = tmp_path / "wide.wav"
    sf.write(path, np.stack([wide, 0.5 * wide], axis=1), 48_000)
    text = asr.transcribe_file(path, language="en")
    assert text == core.transcribe(path, "en").text
    assert (
        jiwer.wer(normalise_basic(TEXT, "en"), normalise_basic(text, "en")) < 0.5
    )  # speech at its right speed, not noise


def test_empty_files_are_told_and_empty_sound_has_no_text(asr: Any, tmp_path: Path) -> None:
    (tmp_path / "nothing.wav").touch()
    with pytest.raises(ValueError, match=r"nothing.wav.*empty \(0 bytes\)"):
        asr.transcribe_file(tmp_path / "nothing.wav")
    with pytest.raises(ValueError, match="unknown language 'tlh'"):
        asr.transcribe_file(DATA / CLIPS["en"], language="tlh")
    sf.write(tmp_path / "header.wav", np.zeros(0, np.float32), 16_000)
    assert asr.transcribe_file(tmp_path / "header.wav") == ""


def test_without_the_toolkit_the_error_names_the_install_command() -> None:
    code = "import sys; sys.modules['speechbrain'] = None; import diffusion_asr_speechbrain"
    assert "pip install 'diffusion-asr[speechbrain]'" in python("-c", code).stderr


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("core", "adapters"))
    environment = os.environ | {"PYTHONPATH": paths}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def checkpoint(folder: Path, wer: float, shift: float) -> None:
    """A checkpoint as the recipes save them, of a denoiser whose null token is so much likelier."""
    module = adapter.DiffusionModule(trainable=True)
    with torch.no_grad():
        module.denoiser.null_bias += shift
    keeper = sb.utils.checkpoints.Checkpointer(folder, recoverables={"whisper": module})
    keeper.save_checkpoint(meta={"WER": wer})


def test_the_best_checkpoint_becomes_a_model_folder(tmp_path: Path, core: Recognizer) -> None:
    saved = tmp_path / "save"
    checkpoint(saved, wer=9.0, shift=0.25)
    checkpoint(saved, wer=12.0, shift=0.5)
    done = python("-m", "diffusion_asr_speechbrain", "export", saved, tmp_path / "best")
    assert done.returncode == 0, done.stderr[-2000:]
    tuned = null_bias(Recognizer.from_pretrained(tmp_path / "best"))
    assert torch.equal(tuned, (null_bias(core).float() + 0.25).to(tuned.dtype))
    newest = max(saved.glob("CKPT*"))
    assert adapter.export(newest, tmp_path / "alone", refiner=False) == newest / "whisper.ckpt"
    again = adapter.DiffusionModule(str(tmp_path / "alone"))  # SpeechBrain goes on from it
    assert isinstance(again.recognizer.parts.decoder, DiffusionDecoder)  # the denoiser alone
    assert torch.equal(again.denoiser.null_bias, (null_bias(core).float() + 0.5).to(tuned.dtype))


def null_bias(recognizer: Recognizer) -> torch.Tensor:
    return find_denoiser(recognizer.parts).null_bias


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pickled = tmp_path / "whisper.ckpt"
    torch.save({"denoiser.null_bias": Path("not a tensor")}, pickled)
    other = tmp_path / "other.ckpt"
    torch.save({"denoiser.wrong": torch.zeros(1)}, other)
    for source, message in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "empty", "holds no checkpoint"),
        (pickled, "read safely"),
        (other, "not of the denoiser"),
    ):
        with pytest.raises(ValueError, match=message):
            adapter.export(source, tmp_path / "out")
    failed = python("-m", "diffusion_asr_speechbrain", "export", tmp_path / "none", tmp_path / "out")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """CSV files of one English clip."""
    rows: list[dict[str, str | float]] = [{"path": str(DATA / CLIPS["en"]), "text": TEXT}]
    for name in ("train", "dev", "test"):
        write_csv(rows, tmp_path / "wavs", tmp_path / f"{name}.csv")
    return tmp_path


def overrides(corpus: Path, recipe: str, epochs: int) -> dict[str, Any]:
    test = str(corpus / "test.csv")
    return {
        "data_folder": str(corpus), "output_folder": str(corpus / f"out-{epochs}"), "skip_prep": True,
        "language": "en", "train_csv": str(corpus / "train.csv"), "valid_csv": str(corpus / "dev.csv"),
        "test_csv": [test] if recipe == "librispeech" else test,
        "number_of_epochs": epochs, "trainable": epochs > 0,
        "steps": 1,  # the draft: what is fine-tuned
    }  # fmt: skip


def run_script(recipe: str, given: dict[str, Any]) -> tuple[float, float]:
    """Loss and WER of SpeechBrain's own script, from a clone."""
    assert CLONE is not None
    script = Path(CLONE) / SCRIPTS[recipe]
    options = [str(x) for k, v in given.items() for x in (f"--{k}", v)]
    command = [sys.executable, script.name, str(ROOT / f"recipes/speechbrain/{recipe}.yaml"), *options]
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("core", "adapters"))
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(
        [*command, "--device", "cpu", "--eval_precision", "bf16"],
        cwd=script.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    out = Path(given["output_folder"])
    assert "%WER" in (out / "wer_test.txt").read_text()
    last = (out / "train_log.txt").read_text().splitlines()[-1]
    loss, wer = (float(last.split(f"test {name}: ")[1].split(",")[0]) for name in ("loss", "WER"))
    return loss, wer


class Recipe(Brain):  # type: ignore[misc]
    """The calls of the scripts, in their order."""

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        wavs, bos = batch["wavs"], batch["bos"]
        states, logits, _ = self.modules.whisper(wavs, bos)
        log_probs = self.hparams.log_softmax(logits)
        search = self.hparams.test_search
        hyps = None if stage == sb.Stage.TRAIN else search(states.detach(), torch.ones(len(wavs)))[0]
        return log_probs, hyps

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        if stage != sb.Stage.TRAIN:
            self.heard = self.hparams.whisper.tokenizer.decode(predictions[1][0])
        return self.hparams.nll_loss(predictions[0], batch["eos"], length=torch.ones(1))

    def on_stage_end(self, stage: Any, stage_loss: float, epoch: int | None = None) -> None:
        if stage != sb.Stage.TRAIN:
            self.result = stage_loss, jiwer.wer(TEXT.lower(), self.heard.lower())


def run_installed(recipe: str, given: dict[str, Any]) -> tuple[float, float]:
    """Loss and WER with the installed package alone."""
    text = (ROOT / f"recipes/speechbrain/{recipe}.yaml").read_text(encoding="utf8")
    hparams = load_hyperpyyaml(text, given)
    tokenizer = hparams["whisper"].tokenizer
    ids = torch.tensor([tokenizer.build_inputs_with_special_tokens(tokenizer.encode(TEXT))])
    wave = torch.from_numpy(sf.read(DATA / CLIPS["en"], dtype="float32")[0])[None]
    batch = {"wavs": wave, "bos": ids[:, :-1], "eos": ids[:, 1:]}
    run_opts = {"device": "cpu", "eval_precision": "bf16"}
    keeper = hparams["checkpointer"]
    brain = Recipe(hparams["modules"], hparams["whisper_opt_class"], hparams, run_opts, keeper)
    batches: Any = torch.utils.data.DataLoader([batch], batch_size=None)  # type: ignore[arg-type]
    brain.fit(hparams["epoch_counter"], batches, batches)
    brain.evaluate(batches)
    keeper.save_and_keep_only(meta={"WER": brain.result[1]}, min_keys=["WER"])
    return brain.result


@pytest.mark.parametrize("recipe", SCRIPTS)
def test_recipes_evaluate_and_fine_tune(recipe: str, corpus: Path, capsys: Any) -> None:
    with capsys.disabled():
        print(f"\n{recipe}: {'scripts of ' + CLONE if CLONE else 'installed package, no clone given'}")  # noqa: T201
    run = run_script if CLONE else run_installed
    given = overrides(corpus, recipe, 4)
    first, last = run(recipe, overrides(corpus, recipe, 0)), run(recipe, given)
    assert last[0] < 0.6 * first[0]
    assert last[1] < first[1]
    saved = Path(given["output_folder"]) / "save"
    adapter.export(saved, corpus / "model")
    models = Recognizer.from_pretrained(), Recognizer.from_pretrained(corpus / "model")
    heard = [model.transcribe(DATA / CLIPS["en"], "en", steps=1).text for model in models]
    before, after = (jiwer.wer(normalise_basic(TEXT, "en"), normalise_basic(text, "en")) for text in heard)
    assert after < before
