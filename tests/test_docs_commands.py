"""The commands of README and docs/*.md are run; where that cannot be, the options are checked."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import PIL.Image
import pytest

from dmsr_cli import weights
from dmsr_cli.cli.main import COMMANDS, cli, main
from dmsr_cli.pipeline import load_model
from documents import PAGES, ROOT, commands, inline_commands
from pictures import noise
from tiny_weights import NAME, table_text, tiny_model

NOT_RUN = {
    r"^make ": "needs a fresh environment or takes minutes; the target is looked up",
    r"^pip ": "installs",
    r"^torchrun ": "several processes; test_cli_sharing.py, test_training_distributed.py",
    r"^python (?!-)": "takes minutes, or data that is no part of this; the options are looked up",
    r"^(cd|bash) ": "for a machine that is rented; tests/test_tools_remote.py",
    r"^dmsr train ": "trains for minutes; tests/test_cli_train.py",
    r"--watch": "waits for new pictures; tests/test_cli_watch.py",
    r"cuda": "needs a GPU",
    r"^dmsr weights (pull|push)|hf://": "asks the Hub; test_weights_sources.py and its neighbours",
}
"""Commands that are not run, each with the reason, and where the same is tested."""
OTHERS = ("inference_realesrgan.py",)
"""Scripts of other projects."""
ALL = sorted({command for page in PAGES for command in commands(page)})
INLINE = sorted({command for page in PAGES for command in inline_commands(page)})


def why_not(command: str) -> str | None:
    """The reason for which a command is not run; None for one that is."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command)), None)


def promised(command: str) -> list[str]:
    """Files and folders of results that the comment behind a command names."""
    comment = command.partition(" #")[2]
    return re.findall(r"\b[\w.-]+\.(?:png|jpg|gif|html)\b|\b\w+/(?= |$|,)", comment)


def without_comment(command: str) -> str:
    return command.partition(" #")[0].strip()


RUN: dict[str, list[str]] = {}
"""What is run, with the results that comments promise; one that stands in two pages runs once."""
for _command in ALL:
    if why_not(_command) is None:
        RUN.setdefault(without_comment(_command), []).extend(promised(_command))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the documents' commands name."""
    folder = tmp_path_factory.mktemp("documents")
    picture = PIL.Image.fromarray(noise(48, 48, 3))
    picture.save(folder / "input.jpg")
    for name in ("photos", "album", "album/inner", "holiday", "inputs", "burst", "Set5"):
        (folder / name).mkdir()
        for number in (1, 2):
            picture.save(folder / name / f"picture{number}.png")
    picture.save(folder / "photo.tif")
    picture.save(folder / "dancing.gif", save_all=True, append_images=[picture.rotate(90)])
    (folder / "examples").mkdir()
    for path in (ROOT / "examples").glob("*.png"):
        shutil.copy(path, folder / "examples")
    (folder / "noisy").mkdir()
    (folder / "noisy.txt").write_text("album/picture1.png\n")
    (folder / "runs/x4").mkdir(parents=True)
    for name in ("my_run", "runs/x4/dmsr-x4"):
        weights.save_weights(tiny_model(), folder / f"{name}.safetensors")
    kinds = ("photo", "camera", "burst")
    for kind in kinds:
        text = '{"format": "dmsr-degradation", "version": 1, "scale": 4, "noise_level": 5}'
        (folder / f"{kind}.dmsr.json").write_text(text)
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder."""
    folder = shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks under the names of the bundled ones, with their table."""
    folder = tmp_path_factory.mktemp("weights")
    entries = []
    for scale in (2, 3, 4):
        file = f"dmsr-lite-x{scale}.safetensors"
        weights.save_weights(tiny_model(scale=scale), folder / file)
        entry = table_text((folder / file).read_bytes(), file=file, scale=scale)
        entry = entry.replace(f"[models.{NAME}", f"[models.dmsr-lite-x{scale}")
        entries.append(entry.replace("\nscale = 4\n", f"\nscale = {scale}\n"))
    (folder / "weights.toml").write_text("\n\n".join(entries))
    return folder


@pytest.fixture
def tiny(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = published / "weights.toml"
    monkeypatch.setattr("dmsr_cli.weights_table.find_weights_table", lambda: table)
    monkeypatch.setattr(weights, "BUNDLED_FOLDER", published)


def small_side(command: str) -> tuple[int, int]:
    """Height and width of the smallest picture of which x4 is as large as the command wants."""
    size = re.search(r"--size (\d*)x(\d*)", command)
    width, height = (size[1], size[2]) if size else ("", "")
    return math.ceil(int(height or 96) / 4), math.ceil(int(width or 128) / 4)


def run_in_shell(command: str) -> int:
    """As a person would: with pipes and redirections."""
    shell = shutil.which("bash")
    if shell is None or sys.platform == "win32":
        pytest.skip("needs bash")
    program = f'dmsr() {{ {shlex.quote(sys.executable)} -m dmsr_cli "$@"; }}\n'
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    script = f"set -o pipefail\n{program}{command}"
    return subprocess.run([shell, "-c", script], env=environment, check=False).returncode


@pytest.mark.parametrize("command", RUN)
def test_command_runs(command: str, here: Path, tiny: None) -> None:
    if "clip.mp4" in command:
        pytest.importorskip("av", reason="clips need the extra video")
        from clips import make_clip

        make_clip(here / "clip.mp4")
    if command.startswith("dmsr export"):
        pytest.importorskip("onnxscript", reason="needs the extra onnx")
    words = shlex.split(command)
    if "-o" in words and Path(words[words.index("-o") + 1]).is_file():
        Path(words[words.index("-o") + 1]).unlink()  # it is there for other commands
    for picture in ("photo.png", "photo.jpg"):
        PIL.Image.fromarray(noise(*small_side(command), 3)).save(picture)
    if re.search(r" [|>] ", command):
        status = run_in_shell(command)
    else:
        assert words[0] == "dmsr", f"add it to NOT_RUN, with the reason: {command}"
        status = main(words[1:])
    assert status == 0
    for name in RUN[command]:
        assert Path(name).exists(), f"{command} left {sorted(here.iterdir())}"


def test_promises_are_read() -> None:
    assert promised("dmsr upscale holiday/ -r -s 2    # a folder, into holiday_x2/") == [
        "holiday_x2/"
    ]
    assert promised("dmsr upscale a.png # a_x4.png, and a_x4_compare.png") == [
        "a_x4.png",
        "a_x4_compare.png",
    ]


@pytest.mark.parametrize("command", sorted({*ALL, *INLINE}))
def test_options_exist(command: str) -> None:
    """Of what is run, too: a listed reason must not hide a wrong option."""
    for part in re.split(r"\s\|\s|&&", without_comment(command)):
        check_options(shlex.split(part))


def check_options(words: list[str]) -> None:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), words
    elif words[0] == "dmsr":
        check_dmsr(words[1:])
    elif "dmsr_cli" in words:
        check_dmsr(words[words.index("dmsr_cli") + 1 :])
    elif words[0] == "python" and words[1].endswith(".py") and words[1] not in OTHERS:
        check_script(words[1], words[2:])


def check_dmsr(words: list[str]) -> None:
    if not words or words[0].startswith("-"):
        known: dict[str, click.Parameter] = {}
        command: click.Command = cli
    else:
        assert words[0] in COMMANDS, words
        found = cli.get_command(click.Context(cli), words[0])
        assert found is not None
        command = found
        while isinstance(command, click.Group) and len(words) > 1:
            found = command.get_command(click.Context(command), words[1])
            if found is None:
                break
            command, words = found, words[1:]
    # A command keeps its help option, which would lack -h ever after without the group's names.
    context = click.Context(command, help_option_names=cli.context_settings["help_option_names"])
    known = {
        name: parameter
        for parameter in command.get_params(context)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    for place, word in enumerate(words):
        if not re.match(r"--?[a-z0-9]", word) or re.match(r"-\d+\.", word):
            continue
        name = word.partition("=")[0]
        assert name in known, f"{command.name} has no {name}"
        kind = known[name].type
        if isinstance(kind, click.Choice) and place + 1 < len(words):
            value = words[place + 1]
            assert value.isupper() or value in map(str, kind.choices), (
                f"{command.name} {name} {value}"
            )


def check_script(name: str, words: list[str]) -> None:
    """Each option is a string in the script, which is there."""
    places = [ROOT / name, ROOT / "tools" / name]
    (script,) = [place for place in places if place.is_file()]
    source = script.read_text(encoding="utf-8")
    for word in words:
        if word.startswith("-") and word != "--help":
            assert f'"{word}"' in source, f"{name} has no {word}"


def test_most_commands_run() -> None:
    assert len(RUN) > 25


def test_quick_start_shows_what_it_prints(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No line more or less; only the time may differ."""
    assert main(["upscale", "examples/streetsign.png", "-s", "4"]) == 0
    printed = capfd.readouterr().err
    page = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    found = re.search(r"say what was found:\n\n((?:    .+\n)+)", page)
    assert found is not None
    shown, printed = (
        re.sub(r", [\d.]+ s\)", "", text) for text in (textwrap.dedent(found[1]), printed)
    )
    device = load_model("dmsr-lite-x4").device
    assert printed == shown or device.type != "cpu"
