"""A batch reads ahead and writes behind: what happens beside what, in which order, and for whom."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from dmsr_cli import images, pipeline
from dmsr_cli.cli.batch import pictures as pictures_module
from dmsr_cli.cli.batch.overlap import ONE_OF_EACH, Lanes, Outcome, Stopwatch, attempt, in_order
from dmsr_cli.cli.batch.report import BatchReport
from dmsr_cli.cli.main import INTERRUPTED, main
from dmsr_cli.errors import ImageError
from dmsr_cli.weights import save_weights
from threads import threads_of_ours
from tiny_weights import tiny_model

LONG = 10.0
"""Seconds after which what must happen is taken for never happening."""
SHORT = 0.2
"""Seconds in which what must not happen would surely happen."""


class Line:
    """Stages that keep a log, and may be held up: `before["work 2"]` is called as it begins."""

    def __init__(self, count: int = 3, ahead: bool = True) -> None:
        self.jobs = range(1, count + 1)
        self.ahead = ahead
        self.log: list[str] = []
        self.threads: dict[str, threading.Thread] = {}
        self.before: dict[str, Callable[[], object]] = {}
        names = [f"{stage} {job}" for stage in ("read", "work", "write") for job in self.jobs]
        self.begun = {name: threading.Event() for name in names}
        self.ended = {name: threading.Event() for name in names}
        self.outcomes: list[object] = []
        self.under_way: list[list[int]] = []
        self.drawn: list[int] = []
        self.stopped = False
        self.refused: set[int] = set()
        self.size = 0

    def run(self, lanes: Lanes = ONE_OF_EACH) -> None:
        in_order(
            *(self.draw(), self.read, self.work, self.write, self.may_read_ahead),
            should_stop=lambda: self.stopped,
            lanes=lanes,
            size_of=lambda result: self.size,
        )

    def draw(self) -> Iterator[int]:
        for job in self.jobs:
            self.drawn.append(job)
            yield job

    def stop(self) -> None:
        self.stopped = True

    def read(self, job: int) -> str:
        return self._stage("read", job)

    def work(self, job: int, source: Outcome[str]) -> str:
        return f"{source.take()}, {self._stage('work', job)}"

    def write(self, job: int, result: Outcome[str]) -> None:
        try:
            text = result.take()
        except ValueError as error:
            text = str(error)
        self._stage("write", job)
        self.outcomes.append(text)

    def may_read_ahead(self, job: int, under_way: Sequence[int]) -> bool:
        self.under_way.append([job, *under_way])
        return self.ahead and job not in self.refused

    def _stage(self, stage: str, job: int) -> str:
        name = f"{stage} {job}"
        self.threads[name] = threading.current_thread()
        self.log.append(name)
        self.begun[name].set()
        self.before.get(name, lambda: None)()
        self.log.append(f"{name} ended")
        self.ended[name].set()
        return name


def wait_for(event: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        assert event.wait(LONG)

    return wait


def fail(text: str) -> Callable[[], None]:
    def raise_error() -> None:
        raise ValueError(f"wrong: {text}")

    return raise_error


class TestInOrder:
    def test_the_next_is_read_while_one_is_worked_on(self) -> None:
        line = Line()
        line.before["work 1"] = wait_for(line.ended["read 2"])
        line.run()
        assert line.log.index("read 2") < line.log.index("work 1 ended")
        assert line.outcomes == [f"read {job}, work {job}" for job in (1, 2, 3)]

    def test_only_one_is_read_ahead(self) -> None:
        line = Line()
        early = []

        def work() -> None:
            assert line.ended["read 2"].wait(LONG)
            early.append(line.begun["read 3"].wait(SHORT))

        line.before["work 1"] = work
        line.run()
        assert early == [False]

    def test_one_is_written_while_the_next_is_worked_on(self) -> None:
        line = Line()
        line.before["work 2"] = wait_for(line.begun["write 1"])
        line.before["write 1"] = wait_for(line.begun["work 2"])
        line.run()
        assert line.outcomes == [f"read {job}, work {job}" for job in (1, 2, 3)]

    def test_only_one_result_waits(self) -> None:
        line = Line()
        early = []

        def write() -> None:
            assert line.ended["work 2"].wait(LONG)
            early.append(line.begun["work 3"].wait(SHORT))

        line.before["write 1"] = write
        line.run()
        assert early == [False]

    def test_work_stays_in_the_calling_thread_and_so_does_all_that_is_alone(self) -> None:
        line = Line()
        line.run()
        here = {name for name, thread in line.threads.items() if thread is threading.main_thread()}
        assert here == {"read 1", "work 1", "work 2", "work 3", "write 3"}
        alone = Line(1)
        alone.run()
        assert set(alone.threads.values()) == {threading.main_thread()}

    def test_several_are_read_ahead_and_no_more(self) -> None:
        line = Line(5)
        early = []

        def work() -> None:
            assert line.ended["read 2"].wait(LONG)
            assert line.ended["read 3"].wait(LONG)
            early.append(line.begun["read 4"].wait(SHORT))

        for job in (2, 3):  # each needs the other to be under way
            line.before[f"read {job}"] = wait_for(line.begun[f"read {5 - job}"])
        line.before["work 1"] = work
        line.before["work 2"] = lambda: early.append(line.begun["read 5"].wait(SHORT))
        line.run(Lanes(readers=2))
        assert early == [False, False]
        assert line.under_way[:2] == [[2, 1], [3, 1, 2]]
        assert sorted(map(str, line.outcomes)) == [f"read {job}, work {job}" for job in line.jobs]

    def test_several_results_are_written_at_once_and_no_more(self) -> None:
        line = Line(4)
        early = []

        def write() -> None:
            assert line.begun["write 1"].wait(LONG)
            assert line.ended["work 3"].wait(LONG)
            early.append(line.begun["work 4"].wait(SHORT))

        line.before["write 2"] = write
        line.before["write 1"] = wait_for(line.ended["write 2"])
        line.run(Lanes(writers=2))
        assert early == [False]
        assert len(line.outcomes) == 4

    @pytest.mark.parametrize(("room", "together"), [(10, True), (9, False), (1, False)])
    def test_results_that_wait_fill_no_more_than_their_memory(
        self, room: int, together: bool
    ) -> None:
        line = Line()
        line.size = 5
        seen = []
        line.before["write 1"] = lambda: seen.append(line.begun["write 2"].wait(SHORT))
        line.run(Lanes(writers=4, waiting_bytes=room))
        assert seen == [together]
        assert len(line.outcomes) == 3

    def test_an_error_of_one_writer_lets_the_others_end(self) -> None:
        line = Line(5)
        line.before["write 1"] = wait_for(line.begun["write 2"])
        line.before["write 2"] = fail("disk")
        with pytest.raises(ValueError, match="wrong: disk"):
            line.run(Lanes(writers=2))
        assert line.outcomes[0] == "read 1, work 1"
        assert "work 5" not in line.log
        assert threads_of_ours() == []

    def test_what_may_not_be_read_ahead_is_read_when_all_is_written(self) -> None:
        line = Line(ahead=False)
        line.run()
        names = [f"{stage} {job}" for job in (1, 2, 3) for stage in ("read", "work", "write")]
        assert line.log[::2] == names
        assert line.under_way == [[2, 1], [3, 2]]

    @pytest.mark.parametrize("stage", ["read", "work"])
    @pytest.mark.parametrize("job", [1, 2, 3])
    def test_an_error_belongs_to_its_job(self, stage: str, job: int) -> None:
        line = Line()
        line.before[f"{stage} {job}"] = fail(stage)
        line.run()
        expected = [f"read {job}, work {job}" for job in (1, 2, 3)]
        expected[job - 1] = f"wrong: {stage}"
        assert line.outcomes == expected
        assert [entry for entry in line.log if entry in ("write 1", "write 2", "write 3")] == [
            *("write 1", "write 2", "write 3"),
        ]

    def test_the_next_is_drawn_when_it_can_be_read(self) -> None:
        line = Line(4)
        counts: list[int] = []
        for job in line.jobs:
            line.before[f"work {job}"] = lambda: counts.append(len(line.drawn))
        line.run()
        assert counts == [2, 3, 4, 4]

    @pytest.mark.parametrize("ahead", [True, False])
    def test_none_is_begun_after_it_should_stop(self, ahead: bool) -> None:
        line = Line(4, ahead)
        line.before["work 2"] = line.stop
        line.run()
        assert line.outcomes == [f"read {job}, work {job}" for job in (1, 2)]
        assert "work 3" not in line.log
        assert ("read 3" in line.log) == ahead
        assert line.drawn == [1, 2, 3]
        assert threads_of_ours() == []

    def test_what_is_read_when_it_should_stop_is_not_worked_on(self) -> None:
        line = Line(3, ahead=False)
        line.before["read 2"] = line.stop
        line.run()
        assert line.outcomes == ["read 1, work 1"]

    def test_nothing_overtakes_what_may_not_be_read_ahead(self) -> None:
        line = Line(5)
        line.refused = {3}
        line.run(Lanes(readers=2, writers=2))
        assert [entry for entry in line.log if "work" in entry][::2] == [
            f"work {job}" for job in line.jobs
        ]
        for job in (1, 2):
            assert line.log.index(f"write {job} ended") < line.log.index("read 3")
        assert line.log.index("work 3") > line.log.index("read 3 ended")
        assert line.log.index("read 4") > line.log.index("read 3 ended")

    @pytest.mark.parametrize("job", [1, 2, 3])
    def test_an_error_of_writing_ends_everything(self, job: int) -> None:
        line = Line()
        line.before[f"write {job}"] = fail("disk")
        with pytest.raises(ValueError, match="wrong: disk"):
            line.run()
        assert len(line.outcomes) == job - 1
        assert threads_of_ours() == []

    def test_an_interruption_lets_a_write_end_and_leaves_no_thread(self) -> None:
        line = Line()
        interrupted = threading.Event()

        def interrupt() -> None:
            assert line.begun["write 1"].wait(LONG)
            interrupted.set()
            raise KeyboardInterrupt

        line.before["work 2"] = interrupt
        line.before["write 1"] = wait_for(interrupted)
        with pytest.raises(KeyboardInterrupt):
            line.run()
        assert line.outcomes == ["read 1, work 1"]
        assert "work 3" not in line.log
        assert threads_of_ours() == []

    def test_a_second_interruption_changes_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        line = Line()
        released = threading.Event()
        wait = Future.exception
        pressed: list[int] = []

        def interrupt() -> None:
            assert line.begun["write 1"].wait(LONG)
            raise KeyboardInterrupt

        def interrupted(self: Future[object]) -> object:
            if len(pressed) < 2:
                assert not line.outcomes
                pressed.append(1)
                raise KeyboardInterrupt
            released.set()
            return wait(self)

        monkeypatch.setattr(Future, "exception", interrupted)
        line.before |= {"work 2": interrupt, "write 1": wait_for(released)}
        with pytest.raises(KeyboardInterrupt):
            line.run()
        assert len(pressed) == 2
        assert line.outcomes == ["read 1, work 1"]
        assert threads_of_ours() == []

    def test_nothing_keeps_what_was_used(self) -> None:
        class Large:
            pass

        sources: list[weakref.ref[Large]] = []
        results: list[weakref.ref[Large]] = []
        alive: list[tuple[int, int]] = []

        def make(references: list[weakref.ref[Large]]) -> Large:
            large = Large()
            references.append(weakref.ref(large))
            return large

        def work(job: int, source: Outcome[Large]) -> Large:
            source.take()
            counts = [sum(one() is not None for one in past[:-2]) for past in (sources, results)]
            alive.append((counts[0], counts[1]))
            return make(results)

        def write(job: int, result: Outcome[Large]) -> None:
            result.take()

        in_order(range(6), lambda job: make(sources), work, write, lambda job, under_way: True)
        assert alive == [(0, 0)] * 6


def test_an_outcome_is_taken_once() -> None:
    outcome = attempt(lambda: "value")
    assert outcome.take() == "value"
    with pytest.raises(IndexError):
        outcome.take()


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
