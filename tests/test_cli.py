"""The command line: clean stdout, whole files, exit codes, and no torch before it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from diffusion_asr import __version__, formats
from diffusion_asr.audio import AudioWarning
from diffusion_asr.cli import app
from diffusion_asr.errors import AudioError, LanguageError, ModelError
from diffusion_asr.recognizer import Hypothesis, Recognizer
from diffusion_asr.sampler import Denoised, TraceStep
from diffusion_asr.transcript import Segment, Transcript, Word
from diffusion_asr.vocabulary import Vocabulary
from tests.audio_files import real_speech, sine, write

ROOT = Path(__file__).parents[1]
EMBEDDED = ROOT / "core/diffusion_asr/models/canvas-base"
CLIPS = sorted((ROOT / "tests/data").glob("*.flac"))
TEXTS = {"de": "guten Tag", "silence": "", "zh": "你好"}
PLAIN = {"_TYPER_FORCE_DISABLE_TERMINAL": "1"}  # typer colours its messages on CI otherwise
PROGRAM = "from diffusion_asr.cli import main; main()"
FAKE_PROGRAM = "import tests.test_cli as t; t.Fake.install(); t.main()"


@dataclass
class FakeParts:
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(["", "Ġguten", "ĠTag"], 3, []))


@dataclass
class Fake:
    """Says what the file's name says; behaves as badly as the name says, too."""

    languages: tuple[str, ...] = ("en", "de")
    parts: FakeParts = field(default_factory=FakeParts)
    calls: list[dict[str, Any]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)

    @classmethod
    def install(cls) -> Fake:
        """Takes the recogniser's place in a process of its own."""
        fake = cls()
        Recognizer.from_pretrained = fake.load  # type: ignore[method-assign, assignment]
        return fake

    def load(self, name: str) -> Fake:
        self.models.append(name)
        return self

    def check_language(self, code: str | None) -> None:
        if code not in (None, *self.languages):
            raise LanguageError(f"unknown language {code!r}; this model knows en, de")

    def transcribe(self, source: Path, **options: Any) -> Transcript:
        self.calls.append(options | {"source": source})
        name = source.stem
        if "bad" in name:
            raise AudioError(f"{source.absolute()}: is damaged: copy it again")
        if "unplugged" in name:
            raise OSError(5, "Input/output error", str(source))
        if "interrupt" in name:
            raise KeyboardInterrupt
        if "short" in name:
            for _ in range(2):
                warnings.warn(f"{source}: breaks off\nafter 1 s", AudioWarning, stacklevel=1)
        if options["on_hypothesis"] is not None:
            options["on_hypothesis"](1.5, hypothesis())
        if options["progress"] is not None:
            options["progress"](1.0, 2.0)
        text = TEXTS.get(name, f"this is {name}")
        words = (Word(text, 0.0, 1.0, 0.5),)
        segments = (Segment(0.0, 1.0, text, words, "de"),) if text else ()
        return Transcript(segments, duration=2.0, source=str(source))


def hypothesis() -> Hypothesis:
    canvas, confidence = torch.tensor([1, 1, 0, 2]), torch.tensor([0.5, 0.5, 1.0, 1.0])
    kept = torch.tensor([True, False, False, False])
    nothing = torch.zeros(4, dtype=torch.long)
    steps = (
        TraceStep(1, nothing, nothing, confidence, kept),
        TraceStep(2, nothing, canvas, confidence, ~nothing.bool()),
    )
    return Hypothesis("guten Tag", (), "de", 0.5, Denoised(canvas, confidence, 2, steps))


def main() -> None:
    from diffusion_asr.cli import main as run

    run()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    it = Fake()
    monkeypatch.setattr(Recognizer, "from_pretrained", it.load)
    return it


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Makes sound files that the fake recogniser understands, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(*names: str) -> list[str]:
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"sound")
        return list(names)

    return make


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), env={**PLAIN, "COLUMNS": "1000"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def process(*arguments: str, code: str = PROGRAM, **options: Any) -> subprocess.Popen[bytes]:
    """The program as users start it."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("core", "."))
    environment = {**os.environ, **PLAIN, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, **streams | options)


# --- help, version, start ----------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["--help", "--version", "transcribe --help", "info --help"])
def test_help_starts_without_torch(argument: str) -> None:
    code = f"""
import sys
from diffusion_asr.cli import app
try:
    app({argument.split()!r})
except SystemExit as end:
    assert not end.code
heavy = [name for name in ("torch", "numpy", "soundfile", "tokenizers") if name in sys.modules]
assert not heavy, heavy
"""
    child = process(code=code)
    out, err = child.communicate()
    assert child.returncode == 0, err.decode()
    assert err == b""
    assert all(len(line) <= 80 for line in out.decode().splitlines())


def test_wrong_options_are_found_without_torch() -> None:
    code = """
import sys
from diffusion_asr.cli import app
try:
    app(["transcribe", "a.wav", "--language", "xx"])
except SystemExit as end:
    assert end.code == 2 and "torch" not in sys.modules
"""
    child = process(code=code)
    _, err = child.communicate()
    assert child.returncode == 0, err.decode()
    assert "unknown language 'xx'" in err.decode()


def test_version() -> None:
    assert run("--version").stdout == f"diffusion-asr {__version__}\n"


@pytest.mark.parametrize("command", [(), ("transcribe",), ("info",)])
def test_help_has_examples(command: tuple[str, ...]) -> None:
    shown = run(*command, "--help").stdout
    assert "Examples" in shown
    assert f"diffusion-asr {' '.join(command)}" in shown


# --- usage errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--language", "xx"], "choose one of auto, en, de, fr, es, hi, zh"),
        (["--format", "doc"], "unknown format 'doc'; choose from txt, json"),
        (["--format", ","], "no format given"),
        (["--format", "txt,json"], "give --output-dir to write several"),
        (["--overwrite"], "give --output-dir too"),
        (["--steps", "0"], "0 is not between 1 and 1000"),
        (["--steps", "-3"], "-3 is not between"),
        (["--steps", "many"], "--steps"),
        (["--seed", "-1"], "-1 is not between"),
        (["--threads", "0"], "0 is not between"),
        (["--init", "middle"], "--init"),
        (["--output-dir", "a.wav"], "a.wav is a file"),
        (["-"], "save the sound to a file"),
        (["folder"], "folder is a folder; give the sound files in it, such as folder/*.wav"),
        (["b.wav", "--format", "srt"], "or give --output-dir"),
        (["folder/a.wav", "--format", "stm"], "two recordings have the id 'a'"),
        (["folder/a.wav", "--output-dir", "out"], "would both become out/a.txt"),
    ],
)
def test_usage_errors(
    arguments: list[str], message: str, fake: Fake, files: Callable[..., list[str]]
) -> None:
    files("a.wav", "b.wav", "folder/a.wav")
    result = run("transcribe", "a.wav", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert fake.models == []
    assert not Path("out").exists()


def test_a_model_of_ones_own_knows_its_languages(fake: Fake, files: Callable[..., list[str]]) -> None:
    fake.languages = ("it",)
    result = run("transcribe", *files("a.wav"), "--model", "mine", "--language", "IT")
    assert result.exit_code == 0
    assert fake.models == ["mine"]
    result = run("transcribe", "a.wav", "--model", "mine", "--language", "de")
    assert result.exit_code == 2
    assert "this model knows" in result.stderr


# --- stdout ------------------------------------------------------------------------------------


def test_one_file_gives_its_text_alone(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav"))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "guten Tag\n", "")


def test_several_texts_have_headings(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "zh.wav"))
    assert result.stdout == "==> de.wav <==\nguten Tag\n\n==> zh.wav <==\n你好\n"


def test_several_files_are_one_json(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "bad.wav", "zh.wav"), "--format", "JSON")
    assert result.exit_code == 1
    assert [t.text for t in formats.parse(result.stdout, "json")] == ["guten Tag", "你好"]


def test_options_arrive(fake: Fake, files: Callable[..., list[str]]) -> None:
    options = ["-l", "de", "--steps=5", "--init=noise", "--seed=7", "--threads=1"]
    threads = torch.get_num_threads()
    try:
        assert run("transcribe", *files("de.wav"), *options).exit_code == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    call = fake.calls[0]
    assert call["generator"].initial_seed() == 7
    kept = {name: call[name] for name in ("language", "steps", "init")}
    assert kept == {"language": "de", "steps": 5, "init": "noise"}
    assert fake.models == ["canvas-base"]


def test_defaults(fake: Fake, files: Callable[..., list[str]]) -> None:
    run("transcribe", *files("de.wav"))
    kept = {name: fake.calls[0][name] for name in ("language", "steps", "init", "on_hypothesis")}
    assert kept == {"language": None, "steps": None, "init": "draft", "on_hypothesis": None}


def test_no_speech_is_a_note(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("silence.wav"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "silence.wav: no speech found\n"


def test_a_name_with_a_dash(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("-x.wav")
    assert run("transcribe", "--", "-x.wav").stdout == "this is -x\n"


def test_warnings_are_one_line(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("short.wav"))
    assert result.stderr == "warning: short.wav: breaks off after 1 s\n"
    assert result.stdout == "this is short\n"


def test_trace_is_on_stderr(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav"), "--trace")
    assert result.stdout == "guten Tag\n"
    assert result.stderr.splitlines() == [
        "de.wav at 1.50 s: language de, 2 steps",
        "  step  1  accepted  25%  confidence 0.75  (nothing)",
        "  step  2  accepted 100%  confidence 0.75  guten Tag",
    ]


# --- files -------------------------------------------------------------------------------------


def test_files_in_a_new_folder(fake: Fake, files: Callable[..., list[str]]) -> None:
    arguments = ["--format", "txt,SRT", "--format", "json,txt,seglst", "--output-dir", "new/out"]
    result = run("transcribe", *files("de.wav", "x/zh.opus"), *arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    names = {path.name for path in Path("new/out").iterdir()}
    ends = ("txt", "srt", "json", "seglst.json")
    assert names == {f"{stem}.{end}" for stem in ("de", "zh") for end in ends}
    assert formats.read("new/out/zh.json")[0].text == "你好"
    assert "de.wav -> new/out/de.txt, new/out/de.srt" in result.stderr


def test_existing_files_are_kept(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("de.wav", "zh.wav", "out/zh.txt")
    arguments = ("transcribe", "de.wav", "zh.wav", "--output-dir", "out")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "out/zh.txt exists already; give --overwrite" in result.stderr
    assert fake.calls == []
    assert Path("out/zh.txt").read_bytes() == b"sound"
    assert run(*arguments, "--overwrite").exit_code == 0
    assert Path("out/zh.txt").read_text(encoding="utf8") == "你好\n"


def test_a_folder_in_the_way(fake: Fake, files: Callable[..., list[str]]) -> None:
    files("de.wav", "out/de.txt/x")
    result = run("transcribe", "de.wav", "--output-dir", "out", "--overwrite")
    assert result.exit_code == 2
    assert "exists and is not a file" in result.stderr


def test_a_full_disk_ends_the_batch(
    fake: Fake, files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    result = run("transcribe", *files("de.wav", "zh.wav"), "--output-dir", "out")
    assert result.exit_code == 1
    assert result.stderr == "error: out/de.txt: cannot be written: No space left on device\n"
    assert len(fake.calls) == 1
    assert list(Path("out").iterdir()) == []


# --- failures ----------------------------------------------------------------------------------


def test_a_batch_goes_on(fake: Fake, files: Callable[..., list[str]]) -> None:
    names = files("bad.wav", "de.wav", "unplugged.wav", "zh.wav")
    result = run("transcribe", *names, "missing.wav", "--output-dir", "out")
    assert result.exit_code == 1
    assert {path.name for path in Path("out").iterdir()} == {"de.txt", "zh.txt"}
    heading, *errors = result.stderr.splitlines()[-4:]
    assert heading == "3 of 5 files failed:"
    assert errors[0] == "error: missing.wav: there is no such file: check the path"
    assert errors[1].endswith("bad.wav: is damaged: copy it again")
    assert errors[2] == "error: unplugged.wav: Input/output error"


def test_a_missing_file_needs_no_model(fake: Fake, files: Callable[..., list[str]]) -> None:
    files()
    result = run("transcribe", "missing.wav")
    assert (result.exit_code, result.stdout, fake.models) == (1, "", [])
    assert result.stderr == "error: missing.wav: there is no such file: check the path\n"


def test_no_model(files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModelError(f"no model {name!r}: not a folder")

    monkeypatch.setattr(Recognizer, "from_pretrained", missing)
    result = run("transcribe", *files("a.wav"), "--model", "nowhere")
    assert (result.exit_code, result.stderr) == (1, "error: no model 'nowhere': not a folder\n")


def test_interrupted(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "interrupt.wav", "zh.wav"), "--output-dir", "out")
    assert result.exit_code == 130
    assert result.stderr.endswith("interrupted: 1 of 3 files done\n")
    assert [path.name for path in Path("out").iterdir()] == ["de.txt"]


def test_an_interrupted_json_is_whole(fake: Fake, files: Callable[..., list[str]]) -> None:
    result = run("transcribe", *files("de.wav", "interrupt.wav"), "--format", "json")
    assert result.exit_code == 130
    assert len(json.loads(result.stdout)["transcripts"]) == 1


def test_interrupted_while_loading(files: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Recognizer, "from_pretrained", interrupted)
    result = run("transcribe", *files("de.wav"))
    assert result.exit_code == 130
    assert result.stderr == "interrupted: 0 of 1 files done\n"


# --- as a process ------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="pipes and terminals of POSIX")
class TestStreams:
    def test_a_closed_pipe_is_quiet(self, files: Callable[..., list[str]]) -> None:
        read, written = os.pipe()
        os.close(read)
        child = process("transcribe", *files("de.wav"), code=FAKE_PROGRAM, stdout=written)
        os.close(written)
        _, err = child.communicate()
        assert (child.returncode, err) == (141, b"")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
    def test_a_full_disk_behind_stdout(self, files: Callable[..., list[str]]) -> None:
        with Path("/dev/full").open("wb") as full:
            child = process("transcribe", *files("de.wav", "zh.wav"), code=FAKE_PROGRAM, stdout=full)
            _, err = child.communicate()
        assert child.returncode == 1
        assert err.decode() == "error: cannot write to stdout: No space left on device\n"

    def test_the_bar_stays_on_the_terminal(self, files: Callable[..., list[str]]) -> None:
        ours, theirs = os.openpty()
        child = process("transcribe", *files("de.wav", "[red]zh.wav"), code=FAKE_PROGRAM, stderr=theirs)
        os.close(theirs)
        out, _ = child.communicate()
        shown = os.read(ours, 1 << 16).decode()
        os.close(ours)
        assert child.returncode == 0
        assert out.decode() == "==> de.wav <==\nguten Tag\n\n==> [red]zh.wav <==\nthis is [red]zh\n"
        assert "1/2 de.wav" in shown
        assert "2/2 [red]zh.wav" in shown
        assert "1/2 s" in shown
        assert "x real time" in shown

    def test_names_that_are_not_utf8(self, files: Callable[..., list[str]]) -> None:
        name = os.fsdecode(b"caf\xe9.wav")
        child = process("transcribe", *files("de.wav", name), code=FAKE_PROGRAM)
        out, err = child.communicate()
        assert (child.returncode, err) == (0, b"")
        assert b"==> caf\xe9.wav <==\n" in out


# --- with a model ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    from diffusion_asr.checkpoint import pack, save
    from diffusion_asr.denoiser import CanvasDenoiser, DenoiserConfig
    from diffusion_asr.draft import LanguagePosterior
    from diffusion_asr.encoder import EncoderConfig, WhisperEncoder

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    Vocabulary(["", "Ġguten", "ĠTag"], 3, []).save(folder / "vocabulary.json")
    sizes = DenoiserConfig(vocabulary=3, d_model=16, layers=1, heads=2)
    hearing = EncoderConfig(d_model=16, layers=1, heads=2)
    config = {"name": "tiny", "version": "7", "encoder": asdict(hearing), "denoiser": asdict(sizes)}
    weights: dict[str, Mapping[str, torch.Tensor]] = {
        "encoder": pack(WhisperEncoder(hearing).state_dict()),
        "denoiser": pack(CanvasDenoiser(sizes).state_dict()),
        "language": LanguagePosterior(16, sizes.languages).state_dict(),
    }
    save(folder, config | {"calibration": {"a": 1.0, "b": 0.0}}, weights)
    return folder


def test_info(tiny: Path) -> None:
    result = run("info", "--model", str(tiny))
    assert result.exit_code == 0, result.stderr
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if not line.startswith(" "))
    assert rows["model"] == "tiny 7"
    assert rows["folder"] == str(tiny)
    assert rows["languages"] == "en, de, fr, es, hi, zh"
    assert rows["sha256"] == "verified, 4 files"
    assert rows["torch"] == torch.__version__
    assert "denoiser.safetensors" in result.stdout
    assert "Whisper weights (OpenAI): MIT" in result.stdout


def test_info_of_a_corrupt_model(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "vocabulary.json").write_bytes(b"{}")
    result = run("info", "--model", str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "vocabulary.json is corrupt" in result.stderr


def test_silence_through_a_real_recogniser(tiny: Path, tmp_path: Path) -> None:
    tone = write(tmp_path / "tone.wav", sine(2.0, 16_000), 16_000)
    result = run("transcribe", str(tone), "--model", str(tiny))
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"{tone}: no speech found\n"


def test_speech_through_a_real_recogniser(tiny: Path, tmp_path: Path) -> None:
    speech = real_speech(5.0)
    if len(speech) == 0:
        pytest.skip("no speech here")
    clip = write(tmp_path / "clip.wav", speech[:, None], 16_000)
    result = run("transcribe", str(clip), "--model", str(tiny), "--trace", "--steps", "2", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert formats.parse(result.stdout, "json")[0].duration == 5.0
    assert f"{clip} at " in result.stderr
    assert "step  2  accepted" in result.stderr


@pytest.mark.skipif(not (EMBEDDED / "config.json").is_file() or not CLIPS, reason="no embedded model or clip")
def test_the_embedded_model(tmp_path: Path) -> None:
    result = run("transcribe", str(CLIPS[0]), "--format", "txt,json", "--output-dir", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert formats.read(tmp_path / f"{CLIPS[0].stem}.json")[0].text
    assert run("info").exit_code == 0
