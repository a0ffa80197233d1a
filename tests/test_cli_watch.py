"""--watch: what is new is done once it stands still, and nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from dmsr_cli.cli.batch.jobs import Job
from dmsr_cli.cli.batch.watch import Watch, looks
from dmsr_cli.cli.main import main
from dmsr_cli.errors import ImageError
from dmsr_cli.weights import save_weights
from tiny_weights import tiny_model


class Folder:
    """A folder of files, planned without their being pictures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[str] = []
        path.mkdir()

    def write(self, name: str, text: str = "x") -> None:
        (self.path / name).write_text(text)

    def plan(self, inputs: Sequence[str]) -> list[Job]:
        assert inputs == [str(self.path)]
        return [
            Job(source, self.path / f"{source.stem}_x4.png")
            for source in sorted(self.path.iterdir())
        ]

    def watch(self) -> Watch:
        return Watch([str(self.path)], self.plan, self.told.append)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "inbox")


def names(jobs: list[Job]) -> list[str]:
    return [job.source.name for job in jobs]


def test_what_is_there_is_done_at_once(folder: Folder) -> None:
    folder.write("a.png")
    watch = folder.watch()
    assert names(watch.begin()) == ["a.png"]
    assert [names(watch.due()) for _ in range(3)] == [[]] * 3


def test_what_is_new_is_done_once_it_stands_still(folder: Folder) -> None:
    watch = folder.watch()
    assert watch.begin() == []
    folder.write("a.png", "x")
    assert watch.due() == []
    folder.write("a.png", "xx")
    assert watch.due() == []
    assert names(watch.due()) == ["a.png"]
    assert watch.due() == []


def test_what_has_changed_is_tried_again(folder: Folder) -> None:
    folder.write("a.png")
    folder.write("b.png")
    watch = folder.watch()
    watch.begin()
    watch.due()
    folder.write("a.png", "longer")
    assert watch.due() == []
    assert names(watch.due()) == ["a.png"]


def test_a_result_is_no_input(folder: Folder) -> None:
    folder.write("a.png")
    watch = folder.watch()
    watch.begin()
    folder.write("a_x4.png")
    assert [names(watch.due()) for _ in range(3)] == [[]] * 3


def test_a_folder_that_vanishes_is_told_once_each_time(folder: Folder) -> None:
    folder.write("a.png")
    watch = folder.watch()
    watch.begin()
    for times in (1, 2):
        shutil.rmtree(folder.path)
        assert [watch.due() for _ in range(3)] == [[]] * 3
        assert len(folder.told) == times
        assert folder.told[-1] == f"{folder.path} is not there; waiting for it"
        folder.path.mkdir()
        folder.write("b.png", "x" * times)
        assert watch.due() == []
        assert names(watch.due()) == ["b.png"]


def test_what_cannot_be_looked_at_is_told_once(folder: Folder) -> None:
    bad = Job(folder.path, folder.path, ImageError("cannot list the folder"))
    watch = Watch([str(folder.path)], lambda inputs: [bad], folder.told.append)
    assert watch.begin() == []
    assert watch.due() == []
    assert folder.told == ["cannot list the folder"]


def test_looking_ends_when_it_should() -> None:
    class Never:
        def due(self) -> list[Job]:
            raise AssertionError

    assert list(looks(Never(), lambda: True)) == []  # type: ignore[arg-type] # all that is asked


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """inbox/ with a.png; the folder above it is the current one."""
    monkeypatch.chdir(tmp_path)
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    Path("inbox").mkdir()
    picture("inbox/a.png")
    return tmp_path / "inbox"


def picture(path: str) -> None:
    PIL.Image.new("RGB", (12, 9), (200, 100, 50)).save(path)


def serve(
    monkeypatch: pytest.MonkeyPatch, steps: list[Callable[[], object]], *arguments: str
) -> int:
    """Watch; before each look, one step is done, and then Ctrl-C is pressed."""
    left = iter(steps)

    def nap(seconds: float, should_stop: Callable[[], bool]) -> bool:
        step = next(left, None)
        if step is None:
            os.kill(os.getpid(), signal.SIGINT)
            while not should_stop():
                pass
            return False
        step()
        return True

    monkeypatch.setattr("dmsr_cli.cli.batch.watch._nap", nap)
    return main(["upscale", *arguments, "--model", "tiny.safetensors", "--watch"])


def nothing() -> None:
    pass


def test_a_folder_is_served_until_ctrl_c(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [
        *(nothing, lambda: picture("inbox/b.png"), nothing),
        *(lambda: picture("inbox/c.png"), lambda: picture("inbox/d.png"), nothing, nothing),
    ]
    assert serve(monkeypatch, steps, "inbox", "--report", "r.jsonl") == 0
    said = capsys.readouterr().err
    assert "watching inbox; Ctrl-C ends it" in said
    assert said.splitlines()[-1].startswith("4 done, 0 skipped, 0 failed (")
    records = [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()]
    assert [one["input"] for one in records[:-1]] == [f"inbox/{name}.png" for name in "abcd"]
    assert records[-1]["summary"]["exit_status"] == 0
    assert {path.name for path in Path("inbox_x2").glob("[!.]*")} == {
        f"{name}_x2.png" for name in "abcd"
    }


def test_a_failed_picture_is_tried_again_when_it_has_changed(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[Callable[[], Any]] = [
        *(lambda: Path("inbox/b.png").write_bytes(b"half"), nothing, nothing, nothing),
        *(lambda: picture("inbox/b.png"), nothing, nothing),
    ]
    assert serve(monkeypatch, steps, "inbox") == 1
    said = capsys.readouterr().err
    assert said.count("dmsr: error: ") == 1
    assert "2 done, 0 skipped, 1 failed" in said.splitlines()[-1]


def test_results_beside_the_inputs_are_left_alone(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(monkeypatch, [nothing] * 4, "inbox", "-o", "inbox") == 0
    assert "1 done, 0 skipped, 0 failed" in capsys.readouterr().err
    assert not Path("inbox/a_x2_x2.png").exists()


def test_an_empty_folder_is_no_failure(
    inbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("inbox/a.png").unlink()
    assert serve(monkeypatch, [nothing, nothing], "inbox") == 0
    assert "0 done, 0 skipped, 0 failed" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("arguments", [["-"], ["inbox/a.png", "-o", "-"]])
def test_standard_input_cannot_be_watched(
    arguments: list[str], inbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", *arguments, "--watch"]) == 2
    assert "--watch is for folders" in capsys.readouterr().err
