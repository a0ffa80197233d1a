"""What a batch tells: the bar, the summary, the file of --report, the exit status."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from dmsr_cli import pipeline
from dmsr_cli.cli.batch.progress import BatchProgress
from dmsr_cli.cli.batch.report import BatchReport
from dmsr_cli.cli.batch.tally import FAILURES_TOLD, Tally, duration_text, speed_text
from dmsr_cli.cli.main import main
from dmsr_cli.interruption import Interruption
from dmsr_cli.weights import save_weights
from tiny_weights import tiny_model


def record(status: str = "ok", **more: Any) -> dict[str, Any]:
    return {"input": "a.png", "status": status, "error": None, "input_pixels": 10**6, **more}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """album/ with a.png, b.png, c.png of 12 x 9; the folder above it is the current one."""
    monkeypatch.chdir(tmp_path)
    save_weights(tiny_model(scale=2), tmp_path / "tiny.safetensors")
    Path("album").mkdir()
    for seed, name in enumerate("abc"):
        pixels = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(f"album/{name}.png")
    return tmp_path


def upscale(*arguments: str) -> int:
    return main(["upscale", *arguments, "--model", "tiny.safetensors"])


def lines_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


class TestTally:
    def test_counts_and_speed(self) -> None:
        tally = Tally()
        for number in range(1990):
            tally.add(record(input_pixels=2_000_000 if number else None))
        for _ in range(7):
            tally.add(record("skipped", reason="up to date"))
        tally.inputs.left_alone = 12
        tally.stopwatch.seconds = 480
        assert tally.lines(None) == [
            "1,990 done, 7 skipped, 0 failed, 12 other files left alone (8.3 MP/s, 8 min)"
        ]
        assert tally.lines(3)[0].startswith("interrupted: 1,990 done, 7 skipped, 0 failed, 3 not b")

    @pytest.mark.parametrize(("failed", "told"), [(3, 3), (20, 20), (51, 20)])
    def test_failures_are_told_again(self, failed: int, told: int) -> None:
        tally = Tally()
        for _ in range(30):
            tally.add(record())
        for number in range(failed):
            tally.add(record("failed", error=f"{number}.png: bad"))
        lines = tally.lines(None)
        assert lines[1 : told + 1] == [f"  failed: {number}.png: bad" for number in range(told)]
        rest = [f"  and {failed - told} more: see --report"] if failed > told else []
        assert lines[told + 1 :] == rest
        assert len(tally.failures) <= FAILURES_TOLD

    def test_failures_that_are_still_on_the_screen_are_not(self) -> None:
        tally = Tally()
        tally.add(record("failed", error="bad"))
        tally.add(record())
        assert len(tally.lines(None)) == 1

    def test_reasons_are_told_if_they_differ(self) -> None:
        tally = Tally()
        for reason in ("up to date", "up to date"):
            tally.add(record("skipped", reason=reason))
        assert len(tally.lines(None)) == 1
        tally.add(record("skipped", reason="another run makes it"))
        assert tally.lines(None)[1:] == [
            "  2 skipped: up to date",
            "  1 skipped: another run makes it",
        ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0.2 s"),
        (9.96, "10 s"),
        (42, "42 s"),
        (99, "99 s"),
        (480, "8 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("pixels", "text"), [(4.1e6, "4.1 MP/s"), (123.4e6, "123.4 MP/s"), (12_345, "0.012 MP/s")]
)
def test_speeds(pixels: float, text: str) -> None:
    assert speed_text(pixels, 1) == text


class TestBatchProgress:
    def bar(self, sizes: list[int]) -> BatchProgress:
        console = Console(file=io.StringIO(), force_terminal=True, width=100)
        return BatchProgress(console, "upscaling", sizes)

    def text(self, progress: BatchProgress) -> str:
        console = Console(file=io.StringIO(), width=100)
        console.print(progress.bar.get_renderable())
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def test_time_left_follows_the_bytes_and_not_what_is_skipped(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [100.0]
        monkeypatch.setattr("dmsr_cli.cli.batch.progress.monotonic", lambda: clock[0])
        progress = self.bar([500, 100, 300])
        assert progress.seconds_left() is None
        progress.told(record("skipped"))
        assert progress.seconds_left() is None
        clock[0] = 110
        progress.told(record())
        assert progress.seconds_left() == 30
        text = self.text(progress)
        assert "2/3" in text
        assert "0.1 MP/s" in text
        assert "30 s left" in text

    def test_a_name_is_shown_as_it_is_and_not_longer_than_there_is_room(self) -> None:
        progress = self.bar([1] * 2000)
        progress.rename("[red]a[/red].png")
        assert "[red]a[/red].png" in self.text(progress)
        progress.rename("long" * 50 + ".png")
        assert "0/2,000" in self.text(progress)
        assert len(self.text(progress).splitlines()) == 1

    def test_more_pictures_than_expected(self) -> None:
        progress = self.bar([1])
        for _ in range(3):
            progress.told(record())
        assert progress.seconds_left() == 0


class TestReportFile:
    def test_it_has_the_records_and_a_summary(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("album/b.png").write_bytes(b"no picture")
        assert upscale("album", "--report", "report.jsonl", "--json") == 1
        *records, last = lines_of("report.jsonl")
        assert records == [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [one["status"] for one in records] == ["ok", "failed", "ok"]
        assert records[0]["started"] < records[0]["finished"]
        assert records[0]["input_pixels"] == 9 * 12
        summary = last["summary"]
        assert (summary["ok"], summary["failed"], summary["not_begun"]) == (2, 1, 0)
        assert summary["exit_status"] == 1
        assert summary["input_pixels"] == 2 * 9 * 12

    def test_it_is_appended_to_when_a_batch_is_resumed(self, folder: Path) -> None:
        assert upscale("album/a.png", "--report", "r.jsonl") == 0
        with Path("r.jsonl").open("ab") as file:
            file.write(b'{"torn')
        before = Path("r.jsonl").read_bytes()
        assert upscale("album/b.png", "--report", "r.jsonl", "--skip-existing") == 0
        after = Path("r.jsonl").read_bytes()
        assert after.startswith(before + b'\n{"input": "album/b.png"')

    def test_it_is_replaced_only_if_that_is_wanted(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert upscale("album/a.png", "--report", "r.jsonl") == 0
        before = Path("r.jsonl").read_bytes()
        assert upscale("album/b.png", "--report", "r.jsonl") == 2
        assert "the report r.jsonl exists already: use --skip-existing" in capsys.readouterr().err
        assert Path("r.jsonl").read_bytes() == before
        assert not Path("album/b_x2.png").exists()
        assert upscale("album/b.png", "--report", "r.jsonl", "--overwrite") == 0
        assert [one.get("input") for one in lines_of("r.jsonl")] == ["album/b.png", None]

    @pytest.mark.parametrize("options", [["--overwrite"], ["--skip-existing"], []])
    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("album/a.png", "is an input, or a result"),
            ("./album/../album_x2/b.png", "is an input, or a result"),
            ("precious.txt", "exists and is not a report"),
            ("link.jsonl", "exists and is not a report"),
            ("album", "cannot write the report album: "),
            ("nowhere/report.jsonl", "cannot write the report nowhere/report.jsonl: No such file"),
        ],
    )
    def test_nothing_else_is_written_over(
        self,
        name: str,
        said: str,
        options: list[str],
        folder: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        Path("precious.txt").write_text("precious")
        Path("link.jsonl").symlink_to("album/c.png")
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        Path("album_x2").mkdir()
        if name.endswith("x2/b.png"):
            PIL.Image.new("RGB", (4, 4)).save("album_x2/b_x2.png")
            name = name.replace("b.png", "b_x2.png")
            before[folder / "album_x2/b_x2.png"] = Path("album_x2/b_x2.png").read_bytes()
        assert upscale("album", "--report", name, *options) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="the full device is Linux's")
    def test_a_full_disk_ends_the_report_but_not_the_batch(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert upscale("album", "--report", "/dev/full") == 0
        error = capsys.readouterr().err
        assert error.count("warning: cannot write the report /dev/full: No space left") == 1
        assert "3 done" in error

    def test_of_estimates(self, folder: Path) -> None:
        arguments = ["estimate", "album", "--model", "tiny.safetensors", "--report", "r.jsonl"]
        assert main(arguments) == 0
        assert main(arguments) == 2
        *records, last = lines_of("r.jsonl")
        assert [one["kernel_width"] > 0 for one in records] == [True] * 3
        assert records[0]["finished"]
        assert last["summary"]["ok"] == 3
        assert last["summary"]["input_pixels"] == 3 * 9 * 12


class TestInterruption:
    @pytest.fixture
    def asked(
        self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> list[object]:
        """A signal comes, and is heard of, while the second picture is worked on."""
        import threading

        from dmsr_cli.cli.batch.report import BatchReport

        calls: list[object] = []
        original = pipeline.upscale
        told = threading.Event()
        say = BatchReport.say

        def listen(self: BatchReport, text: str, *arguments: Any, **options: Any) -> None:
            say(self, text, *arguments, **options)
            if text.startswith("finishing b.png"):
                told.set()

        def restore(*arguments: Any, **options: Any) -> Any:
            calls.append(arguments)
            if len(calls) == 2:
                os.kill(os.getpid(), request.param)
                assert told.wait(10)
            return original(*arguments, **options)

        monkeypatch.setattr(BatchReport, "say", listen)
        monkeypatch.setattr(pipeline, "upscale", restore)
        return calls

    @pytest.mark.parametrize(
        ("asked", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], indirect=["asked"]
    )
    def test_the_running_picture_is_finished(
        self, asked: list[object], status: int, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert upscale("album", "--report", "r.jsonl") == status
        assert len(asked) == 2
        results = sorted(path.name for path in Path("album_x2").glob("*.png"))
        assert results == ["a_x2.png", "b_x2.png"]
        said = capsys.readouterr().err
        assert "\ninterrupted: 2 done, 0 skipped, 0 failed, 1 not begun (" in said
        summary = lines_of("r.jsonl")[-1]["summary"]
        assert (summary["not_begun"], summary["exit_status"]) == (1, status)
        assert upscale("album", "--skip-existing") == 0
        assert "1 done, 2 skipped, 0 failed" in capsys.readouterr().err

    def test_people_are_told_what_happens(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import threading

        from dmsr_cli.cli.batch.report import BatchReport

        told = threading.Event()
        say = BatchReport.say

        def listen(self: BatchReport, text: str, *arguments: Any, **options: Any) -> None:
            say(self, text, *arguments, **options)
            if text == "finishing a.png; Ctrl-C again stops at once":
                told.set()

        original = pipeline.upscale

        def restore(*arguments: Any, **options: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            assert told.wait(10)
            return original(*arguments, **options)

        monkeypatch.setattr(BatchReport, "say", listen)
        monkeypatch.setattr(pipeline, "upscale", restore)
        assert upscale("album") == 130
        assert "1 done, 0 skipped, 0 failed, 2 not begun" in capsys.readouterr().err


def test_messages_that_nobody_can_take_end_no_batch(capsys: pytest.CaptureFixture[str]) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    report = BatchReport(as_json=True)
    report.console = Console(file=FullDisk())
    for status in ("failed", "ok"):
        report.tell(record(status, error="it is bad"), "text")
    assert report.finish(Interruption(), 2) == 1
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_report_is_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", "album", "--report", "-"]) == 2
    assert "--json writes to standard output" in capsys.readouterr().err
    assert not Path("-").exists()
