"""A batch reads ahead and writes behind: what happens beside what, in which order, and for whom."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dmsr_cli import images, pipeline
from dmsr_cli.cli.batch import pictures as pictures_module
from dmsr_cli.cli.batch.overlap import Stopwatch
from dmsr_cli.cli.batch.report import BatchReport
from dmsr_cli.cli.main import INTERRUPTED, main
from dmsr_cli.errors import ImageError
from dmsr_cli.weights import save_weights
from threads import threads_of_ours
from tiny_weights import tiny_model

LONG = 10.0
"""Seconds after which what must happen is taken for never happening."""


def test_what_is_said_of_a_picture_waits_for_the_line_about_the_one_before() -> None:
    report = BatchReport(as_json=False)
    report.console.file = io.StringIO()

    def end(number: int) -> None:
        record = {"input": f"{number}", "status": "ok"}
        report.run(record, lambda record: f"{number}: done", debug=False, number=number)

    report.say("2: a note", number=2)
    end(1)
    report.say("3: a note", number=3)
    report.say("0: a note", number=0)
    report.say("a line about all")
    end(3)
    end(0)
    end(2)
    assert report.console.file.getvalue().splitlines() == [
        *("0: a note", "a line about all", "0: done", "1: done"),
        *("2: a note", "2: done", "3: a note", "3: done"),
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.png, b.png, c.png, d.png of 12 x 9, and tiny.safetensors, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abcd"):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(f"{name}.png")
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    return tmp_path


def upscale(*arguments: str) -> int:
    return main(["upscale", *arguments, "--model", "tiny.safetensors"])


def intercept(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, before: Callable[..., object]
) -> None:
    """Call `before` with its arguments whenever a function is called."""
    original = getattr(module, name)

    def intercepted(*arguments: Any, **options: Any) -> Any:
        before(*arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(module, name, intercepted)


def thread_log(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bool]]:
    """For reading, torch's part, and writing: was each call in the main thread?"""
    log: dict[str, list[bool]] = {}
    for module, name in (
        *((images.IsolatedDecoder, "read_image"), (images, "write_image")),
        *((pipeline, "estimate"), (pipeline, "upscale"), (pipeline, "gaussian_kernel")),
    ):
        calls = log.setdefault(name, [])

        def note(*arguments: object, calls: list[bool] = calls) -> None:
            calls.append(threading.current_thread() is threading.main_thread())

        intercept(monkeypatch, module, name, note)
    return log


def test_torch_stays_in_the_main_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = thread_log(monkeypatch)
    assert upscale("a.png", "b.png", "c.png", "--compare", "--kernel-width", "2") == 0
    assert log["read_image"] == [True, False, False]
    assert log["write_image"] == [False] * 4 + [True] * 2
    for name in ("estimate", "upscale", "gaussian_kernel"):
        assert log[name]
        assert all(log[name])


def test_large_files_are_not_read_ahead(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = thread_log(monkeypatch)
    monkeypatch.setattr(pictures_module, "READ_AHEAD_BYTES", 100)
    assert upscale("a.png", "b.png") == 0
    assert log["read_image"] == log["write_image"] == [True, True]


def test_a_record_is_printed_when_its_file_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import click

    printed = []

    def note(line: str) -> None:
        record = json.loads(line)
        printed.append(record["input"])
        PIL.Image.open(record["output"]).load()

    intercept(monkeypatch, click, "echo", note)
    assert upscale("c.png", "a.png", "d.png", "b.png", "--json") == 0
    assert printed == ["c.png", "a.png", "d.png", "b.png"]
    assert not list(folder.glob(".dmsr-*.tmp*"))


def test_whatever_fails_fails_for_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("refused", "computed", "written", "skipped"):
        PIL.Image.open("a.png").save(f"{name}.png")
    Path("refused_x2.png").write_bytes(b"precious")
    Path("empty").mkdir()

    def out_of_luck(picture: images.Image, *arguments: object) -> None:
        if picture.width == 13:
            raise RuntimeError("out of luck")

    def disk_full(picture: images.Image, path: Path) -> None:
        if path.name == "written_x2.png":
            raise ImageError("cannot write written_x2.png: disk full")

    PIL.Image.open("a.png").resize((13, 9)).save("computed.png")
    intercept(monkeypatch, pipeline, "upscale", out_of_luck)
    intercept(monkeypatch, images, "write_image", disk_full)
    inputs = ["a.png", "missing.png", "b.png", "refused.png", "computed.png", "c.png"]
    inputs += ["written.png", "empty", "d.png"]
    assert upscale(*inputs, "--json") == 1
    output = capsys.readouterr()
    records = [json.loads(line) for line in output.out.splitlines()]
    assert [record["input"] for record in records] == inputs
    failed = {record["input"]: record["error"] for record in records if record["error"]}
    assert failed == {
        "missing.png": "cannot read missing.png: no such file",
        "refused.png": "refused_x2.png exists already: "
        "use --overwrite, --skip-existing or another -o",
        "computed.png": "computed.png: internal error: RuntimeError: out of luck",
        "written.png": "cannot write written_x2.png: disk full",
        "empty": "no pictures in the folder empty (-r looks into the folders inside it)",
    }
    assert [line for line in output.err.splitlines() if "error" in line] == [
        f"dmsr: error: {error}" for error in failed.values()
    ]
    assert "\n4 done, 0 skipped, 5 failed (" in output.err
    assert Path("refused_x2.png").read_bytes() == b"precious"


def test_a_result_of_the_batch_may_be_its_next_input(folder: Path) -> None:
    assert upscale("a.png", "a_x2.png", "b.png") == 0
    assert PIL.Image.open("a_x2_x2.png").size == (48, 36)


@pytest.mark.parametrize("options", [["--compare"], ["--save-degradation"]])
def test_two_pictures_never_share_a_file(
    options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale("a.png", str(folder / "a.png"), "b.png") == 0
    said = capsys.readouterr().err
    assert "1 file named twice" in said
    assert "2 done, 0 skipped, 0 failed" in said
    PIL.Image.open("c.png").save("d.jpg")
    assert upscale("d.png", "d.jpg", *options) == 0
    beside = {path.name for path in folder.glob("d*_x2_*.png")}
    assert len(beside) == 2 * len({name.partition("_x2_")[2] for name in beside})
    assert Path("d.jpg_x2.jpg").exists()


def test_an_empty_folder_between_pictures(folder: Path) -> None:
    Path("empty").mkdir()
    assert upscale("a.png", "empty", "b.png", "-o", ".", "--compare", "--save-degradation") == 1
    assert Path("b_x2_compare.png").exists()


def test_seconds_are_those_of_its_own_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Clock(threading.local):
        """Each thread has a time of its own, which only work lets pass."""

        now = 0

    clock = Clock()

    def takes(seconds: int) -> Callable[..., None]:
        def pass_time(*arguments: object) -> None:
            clock.now += seconds

        return pass_time

    monkeypatch.setattr("dmsr_cli.cli.batch.overlap.monotonic", lambda: clock.now)
    intercept(monkeypatch, images.IsolatedDecoder, "read_image", takes(1))
    intercept(monkeypatch, pipeline, "upscale", takes(10))
    intercept(monkeypatch, images, "write_image", takes(100))
    assert upscale("a.png", "b.png", "c.png", "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["seconds"] for record in records] == [111, 111, 111]


def test_a_stopwatch_counts_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1, 3, 10, 14])
    monkeypatch.setattr("dmsr_cli.cli.batch.overlap.monotonic", lambda: next(times))
    stopwatch = Stopwatch()
    with stopwatch.running():
        pass
    with pytest.raises(ImageError), stopwatch.running():
        raise ImageError("bad")
    assert stopwatch.seconds == 6


def test_ctrl_c_finishes_the_file_that_is_being_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writing, interrupted = threading.Event(), threading.Event()
    begun: list[object] = []

    def compute(*arguments: object) -> None:
        begun.append(arguments)
        if len(begun) == 2:
            assert writing.wait(LONG)
            interrupted.set()
            raise KeyboardInterrupt

    def fsync(number: int) -> None:
        writing.set()
        assert interrupted.wait(LONG)

    intercept(monkeypatch, pipeline, "upscale", compute)
    intercept(monkeypatch, os, "fsync", fsync)
    assert upscale("a.png", "b.png", "c.png", "--json") == INTERRUPTED
    output = capsys.readouterr()
    assert [json.loads(line)["input"] for line in output.out.splitlines()] == ["a.png"]
    assert output.err.endswith("dmsr: interrupted\n")
    PIL.Image.open("a_x2.png").load()
    assert {path.name for path in folder.iterdir()} == {
        *("a.png", "b.png", "c.png", "d.png", "tiny.safetensors", "a_x2.png"),
        ".dmsr-results.jsonl",
    }
    assert threads_of_ours() == []


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C reaches a process in other ways there")
def test_ctrl_c_in_a_process(folder: Path) -> None:
    album = folder / "album"
    album.mkdir()
    for number in range(200):
        PIL.Image.new("RGB", (40, 30), (number, 0, 0)).save(album / f"{number:03}.png")
    command = [sys.executable, "-m", "dmsr_cli", "upscale", "album", "--json"]
    with subprocess.Popen(
        [*command, "--model", "tiny.safetensors"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, said
    assert "Traceback" not in said
    records = [json.loads(line) for line in (first + rest).splitlines()]
    summary = f"{len(records)} done, 0 skipped, 0 failed, {200 - len(records)} not begun"
    assert f"interrupted: {summary} (" in said.splitlines()[-1]
    assert 1 <= len(records) < 200
    written = sorted((folder / "album_x2").glob("*.png"))
    assert [Path(record["output"]).name for record in records] == [path.name for path in written]
    for path in written:
        PIL.Image.open(path).load()
