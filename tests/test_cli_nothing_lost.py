"""Disks, folders and files that give trouble: one line each, the rest goes on, nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dmsr_cli import images, locks, pipeline
from dmsr_cli.cli.batch.claims import claim
from dmsr_cli.cli.batch.manifest import MANIFEST_NAME
from dmsr_cli.cli.main import main
from dmsr_cli.weights import save_weights
from tiny_weights import tiny_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX's files and signals")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, b.png, c.png of 12 x 9, and tiny.safetensors, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(f"{name}.png")
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    return tmp_path


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A small disk of its own."""
    place.mkdir()
    try:
        command = ["mount", "-t", "tmpfs", "-o", options, "dmsr-test", str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def upscale(*arguments: str) -> int:
    return main(["upscale", *arguments, "--model", "tiny.safetensors"])


def records_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def hidden_in(folder: Path) -> list[str]:
    """What a run should not leave behind: everything of ours but the manifest."""
    return [path.name for path in folder.rglob(".dmsr*") if path.name != MANIFEST_NAME]


def shown_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def before_upscaling(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> None:
    original = pipeline.upscale

    def intercepted(*arguments: Any, **options: Any) -> Any:
        call()
        return original(*arguments, **options)

    monkeypatch.setattr(pipeline, "upscale", intercepted)


def dmsr(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dmsr_cli", *arguments, "--model", "tiny.safetensors"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


class TestClaims:
    def test_another_runs_result_is_left_alone(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        held = claim(Path("a_x2.png"), set())
        assert held is not None
        assert upscale("a.png", "b.png", "--json") == 0
        assert [record["status"] for record in records_of(capsys)] == ["skipped", "ok"]
        assert upscale("a.png", "b.png", "--overwrite") == 0
        assert "a.png: skipped, another run is making a_x2.png" in capsys.readouterr().err
        held.release()
        assert upscale("a.png") == 0
        assert hidden_in(folder) == []

    def test_what_another_run_made_meanwhile_is_kept(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def too_late(target: Path, swept: set[Path]) -> object:
            Path("a_x2.png").write_bytes(b"precious")
            return claim(target, swept)

        monkeypatch.setattr("dmsr_cli.cli.batch.claims.claim", too_late)
        assert upscale("a.png") == 1
        assert "a_x2.png exists already" in capsys.readouterr().err
        Path("a_x2.png").unlink()
        assert upscale("a.png", "--skip-existing") == 1
        assert "a_x2.png exists already and is not known as" in capsys.readouterr().err
        assert Path("a_x2.png").read_bytes() == b"precious"
        assert hidden_in(folder) == []

    def test_folders_of_what_failed_go_again(self, folder: Path) -> None:
        Path("bad.png").write_bytes(b"no picture")
        assert upscale("bad.png", "-o", "new/inner/result.png") == 1
        assert not Path("new").exists()
        assert upscale("bad.png", "a.png", "-o", "new/inner/") == 1
        assert [path.name for path in shown_in(Path("new/inner"))] == ["a_x2.png"]

    def test_without_locks_nothing_is_claimed(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(locks, "try_lock", lambda descriptor: None)
        hidden: list[str] = []
        before_upscaling(monkeypatch, lambda: hidden.extend(hidden_in(folder)))
        assert upscale("a.png") == 0
        assert hidden == []
        assert Path("a_x2.png").exists()

    def test_two_runs_at_once_share_the_work(self, folder: Path) -> None:
        Path("album").mkdir()
        for number in range(30):
            PIL.Image.new("RGB", (40, 30), (number, 0, 0)).save(f"album/{number:02}.png")
        command = ["upscale", "album", "--skip-existing", "--json"]
        runs = [dmsr(*command, stdout=subprocess.PIPE) for _ in range(2)]
        outputs = [run.communicate(timeout=120) for run in runs]
        assert [run.returncode for run in runs] == [0, 0], outputs
        records = [[json.loads(line) for line in out.splitlines()] for out, _ in outputs]
        statuses = [sorted(pair["status"] for pair in both) for both in zip(*records, strict=True)]
        assert statuses.count(["ok", "ok"]) == 0
        assert all("ok" in pair for pair in statuses)
        assert len(list(Path("album_x2").glob("*.png"))) == 30
        assert hidden_in(folder) == []


class TestDisks:
    def test_a_full_disk(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """It runs full in the middle of the second result."""
        PIL.Image.effect_noise((200, 200), 90).convert("RGB").save("b.png")
        with mounted(folder / "disk", "size=100k"):
            assert upscale("a.png", "b.png", "c.png", "-o", "disk", "--json") == 1
            records = records_of(capsys)
            assert [record["status"] for record in records] == ["ok", "failed", "ok"]
            name = Path("disk/b_x2.png")
            assert records[1]["error"] == f"cannot write {name}: No space left on device"
            assert {path.name for path in shown_in(Path("disk"))} == {"a_x2.png", "c_x2.png"}

    def test_a_disk_that_is_full_already_costs_no_computing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with mounted(folder / "disk", "size=16k"):
            with contextlib.suppress(OSError), Path("disk/full").open("wb", 0) as file:
                while True:
                    file.write(bytes(1024))
            before_upscaling(monkeypatch, lambda: pytest.fail("computed"))
            assert upscale("a.png", "-o", "disk") == 1
            said = "cannot write into disk: No space left on device; use another -o"
            assert said in capsys.readouterr().err
            assert hidden_in(folder) == []

    def test_a_disk_that_is_for_reading_only(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with mounted(folder / "disk", "size=100k,ro"):
            before_upscaling(monkeypatch, lambda: pytest.fail("computed"))
            assert upscale("a.png", "-o", "disk") == 1
            assert "cannot write into disk: Read-only file system" in capsys.readouterr().err
            assert upscale("a.png", "-o", "disk/inner/") == 1
            assert "cannot make the folder disk/inner: Read-only" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["upscale", "estimate"])
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_json_onto_a_full_disk(self, folder: Path, command: str) -> None:
        with Path("/dev/full").open("w") as full:
            run = dmsr(command, "a.png", "b.png", "--json", stdout=full)
            _, said = run.communicate(timeout=60)
        assert run.returncode == 1
        line = "dmsr: error: cannot write standard output: No space left on device"
        assert said.splitlines()[-1] == line
        assert "Traceback" not in said
        assert "Exception" not in said
        assert hidden_in(folder) == []

    def test_standard_output_that_nobody_reads(self, folder: Path) -> None:
        run = dmsr("upscale", "a.png", "b.png", "--json", stdout=subprocess.PIPE)
        assert run.stdout is not None
        run.stdout.close()
        assert run.stderr is not None
        said = run.stderr.read()
        assert run.wait(60) == 1  # not all is done
        assert "Traceback" not in said
        assert hidden_in(folder) == []


class TestNames:
    def test_too_long(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        name = "x" * 250 + ".png"  # with _x2 it is too long
        shutil.copy("a.png", name)
        before_upscaling(monkeypatch, lambda: None)
        assert upscale(name, "b.png", "--json") == 1
        failed, ok = records_of(capsys)
        assert failed["error"].endswith("_x2.png: File name too long")
        assert ok["status"] == "ok"

    def test_not_in_utf_8(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        album = folder / "album"
        album.mkdir()
        name = os.fsdecode(b"caf\xe9.png")
        try:
            shutil.copy("a.png", album / name)
        except OSError:
            pytest.skip("this disk has only names in UTF-8")
        assert upscale("album") == 0
        assert "'caf\\udce9.png' -> " in capsys.readouterr().err.replace("album/", "")
        names = [os.fsencode(path.name) for path in shown_in(Path("album_x2"))]
        assert names == [b"caf\xe9_x2.png"]

    def test_links_in_a_circle(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        Path("album").mkdir()
        Path("album/loop.png").symlink_to("loop.png")
        Path("album/again").symlink_to("../album")
        shutil.copy("a.png", "album")
        assert upscale("album", "-r", "--json") == 1
        records = {Path(record["input"]).name: record for record in records_of(capsys)}
        assert set(records) == {"a.png", "loop.png"}
        assert records["a.png"]["status"] == "ok"
        assert "Too many levels of symbolic links" in records["loop.png"]["error"]
        assert upscale("b.png", "-o", "album/loop.png") == 1
        assert "exists already" in capsys.readouterr().err

    @pytest.mark.parametrize("make", [os.link, os.symlink])
    def test_the_input_under_another_name(
        self, folder: Path, make: Callable[[str, str], None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = Path("a.png").read_bytes()
        make("a.png", "other.png")
        assert upscale("a.png", "-o", "other.png") == 1
        assert "other.png is the input itself" in capsys.readouterr().err
        assert upscale("a.png", "-o", "other.png", "--overwrite") == 0
        assert PIL.Image.open("other.png").size == (24, 18)
        assert Path("a.png").read_bytes() == before

    def test_a_link_that_leads_nowhere(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("a_x2.png").symlink_to("nowhere.png")
        assert upscale("a.png") == 1
        assert "a_x2.png exists already" in capsys.readouterr().err
        assert Path("a_x2.png").is_symlink()


class TestChanges:
    def test_an_input_that_vanishes(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("album").mkdir()
        for name in "abc":
            shutil.copy(f"{name}.png", "album")
        before_upscaling(monkeypatch, lambda: Path("album/c.png").unlink(missing_ok=True))
        assert upscale("album", "--json") == 1
        records = records_of(capsys)
        assert [record["status"] for record in records] == ["ok", "ok", "failed"]
        assert records[2]["error"] == "cannot read album/c.png: no such file"

    def test_an_input_that_changes(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        read_image = images.IsolatedDecoder.read_image

        def read_slowly(decoder: images.IsolatedDecoder, source: Path) -> images.Image:
            image = read_image(decoder, source)
            if source.name == "b.png":
                source.write_bytes(source.read_bytes() + b"more")
            return image

        monkeypatch.setattr(images.IsolatedDecoder, "read_image", read_slowly)
        assert upscale("a.png", "b.png", "--json") == 1
        records = records_of(capsys)
        assert [record["status"] for record in records] == ["ok", "failed"]
        assert records[1]["error"] == "b.png has changed while it was read; try again"
        assert not Path("b_x2.png").exists()

    def test_frames_that_change_while_they_are_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        frames = [PIL.Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
        frames[0].save("a.gif", save_all=True, append_images=frames[1:])
        before_upscaling(monkeypatch, lambda: os.utime("a.gif", (1, 1)))
        assert upscale("a.gif") == 1
        assert "a.gif has changed while it was read; try again" in capsys.readouterr().err
        assert not Path("a_x2.gif").exists()
        assert hidden_in(folder) == []

    def test_a_folder_of_results_that_vanishes(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before_upscaling(monkeypatch, lambda: shutil.rmtree("out", ignore_errors=True))
        assert upscale("a.png", "-o", "out/") == 0
        assert Path("out/a_x2.png").exists()

    def test_a_folder_of_results_that_becomes_a_file(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def spoil() -> None:
            shutil.rmtree("out")
            Path("out").write_bytes(b"precious")

        before_upscaling(monkeypatch, spoil)
        assert upscale("a.png", "-o", "out/") == 1
        assert "cannot make the folder out: something else has its name" in capsys.readouterr().err
        assert Path("out").read_bytes() == b"precious"

    def test_a_folder_of_results_that_is_a_file(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("out").write_bytes(b"precious")
        assert upscale("a.png", "b.png", "-o", "out/") == 1
        said = capsys.readouterr().err
        assert said.count("cannot make the folder out: something else has its name") == 2
        assert "warning" not in said  # of a manifest that nobody could expect there
        assert Path("out").read_bytes() == b"precious"

    def test_a_result_that_appears(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before_upscaling(monkeypatch, lambda: Path("a_x2.png").write_bytes(b"precious"))
        assert upscale("a.png") == 1
        assert "a_x2.png exists already" in capsys.readouterr().err
        assert Path("a_x2.png").read_bytes() == b"precious"


STOPS_IN_A_WRITE = (
    "import os, sys, time\n"
    "from dmsr_cli.cli.main import main\n"
    "def sync(descriptor):\n"
    "    print('writing', flush=True)\n"
    "    time.sleep(60)\n"
    "os.fsync = sync\n"
    "sys.exit(main())\n"
)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_an_end_in_the_middle_of_a_write(folder: Path, number: int, status: int) -> None:
    command = ["upscale", "a.png", "--model", "tiny.safetensors"]
    with subprocess.Popen(
        [sys.executable, "-c", STOPS_IN_A_WRITE, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert len(hidden_in(folder)) == 2
        started = time.monotonic()
        process.send_signal(number)
        assert process.wait(30) == status
        assert time.monotonic() - started < 20
    assert len(hidden_in(folder)) == (2 if number == signal.SIGKILL else 0)
    assert not Path("a_x2.png").exists()
    assert upscale("a.png") == 0
    assert hidden_in(folder) == []
    assert PIL.Image.open("a_x2.png").size == (24, 18)
