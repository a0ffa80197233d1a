"""One batch that several processes share, as torchrun starts them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from dmsr_cli import memory
from dmsr_cli.cli.batch import sharing
from dmsr_cli.cli.batch.jobs import Job
from dmsr_cli.cli.batch.messages import BLOCK, Jobs, leave_jobs
from dmsr_cli.cli.batch.report import BatchReport
from dmsr_cli.cli.batch.sharing import NO_MORE, Team
from dmsr_cli.cli.main import main
from dmsr_cli.errors import ImageError, SharingError
from dmsr_cli.interruption import Interruption
from dmsr_cli.processes import LEFT
from dmsr_cli.weights import save_weights
from pictures import noise
from tiny_weights import tiny_model

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not torch.distributed.is_available(),
    reason="torchrun, and finding its processes in /proc",
)

PATIENCE = 120.0
"""Seconds; what has not ended by then hangs."""
COUNT = 12
BAD = "p05b.png"
LOST = "the same command with --skip-existing goes on"


@contextlib.contextmanager
def torchrun(*arguments: object, restarts: int = 0) -> Iterator[Any]:
    """Two processes of `dmsr upscale`; none of them outlives the block."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("--local-addr=127.0.0.1", f"--max-restarts={restarts}", "-m", "dmsr_cli", "upscale"),
        *("--device", "cpu", *arguments),
    ]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        for number in processes_of(process).values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.kill()
        process.communicate(timeout=PATIENCE)


def processes_of(launcher: Any) -> dict[int, int]:
    """The processes that torchrun has started, by their ranks."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            rank = re.search(rb"(?:^|\0)RANK=(\d+)", (folder / "environ").read_bytes())
            if parent == launcher.pid and rank:
                found[int(rank[1])] = int(folder.name)
    return found


def kill_in_the_middle(launcher: Any, rank: int, results: Path) -> None:
    """Kill one of the processes as soon as there are some results."""
    give_up = time.monotonic() + PATIENCE
    while not (results.is_dir() and len(names_in(results)) > 1):
        assert launcher.poll() is None, launcher.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.01)
    os.kill(processes_of(launcher)[rank], signal.SIGKILL)


def ended(launcher: Any) -> tuple[int, str, list[str]]:
    """Exit status, standard output, and what our processes said on standard error."""
    stdout, stderr = launcher.communicate(timeout=PATIENCE)
    ours, _, _ = stderr.partition("Traceback")  # torchrun's own, where a process failed
    assert not re.search(r'File ".*dmsr_cli', stderr), stderr
    lines = [line for line in ours.splitlines() if not re.match(r"[EW]\d{4} |\s*$|\*{5}", line)]
    return launcher.returncode, stdout, lines


def upscale(*arguments: object) -> int:
    """The exit status of one process; here, as that is quicker than to start one."""
    return main(["upscale", "--device", "cpu", *map(str, arguments)])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def contents_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in names_in(folder)}


def hidden_in(folder: Path) -> list[str]:
    """Temporary files; what else is hidden says how the results were made."""
    return [path.name for path in folder.glob(".dmsr-*") if ".tmp" in path.name]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(tiny_model(scale=2), path)
    return path


def make_pictures(folder: Path, side: int) -> Path:
    folder.mkdir()
    for number in range(COUNT):
        picture = noise(side + number, side, 3, seed=number)
        PIL.Image.fromarray(picture).save(folder / f"p{number:02}.png")
    return folder


@dataclasses.dataclass
class Large:
    """Pictures that take long enough to do something meanwhile, and their results."""

    pictures: Path
    results: dict[str, bytes]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Large:
    folder = tmp_path_factory.mktemp("large")
    pictures = make_pictures(folder / "in", 160)
    assert upscale(pictures, "--model", weights, "-o", folder / "one") == 0
    return Large(pictures, contents_of(folder / "one"))


class TestTwoProcesses:
    def test_as_one(
        self, tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pictures = make_pictures(tmp_path / "in", 32)
        (pictures / BAD).write_bytes(b"no picture")
        arguments = [pictures, "--model", weights, "--json"]
        assert upscale(*arguments, "-o", tmp_path / "one") == 1
        one = capsys.readouterr()
        with torchrun(*arguments, "-o", tmp_path / "two") as launcher:
            status, stdout, lines = ended(launcher)
        assert status == 1
        expected = [line.replace("/one/", "/two/") for line in one.err.splitlines()]
        assert list(map(without_times, lines)) == list(map(without_times, expected))
        assert lines[-1].startswith(f"{COUNT} done, 0 skipped, 1 failed")
        assert records_of(stdout) == records_of(one.out)
        assert contents_of(tmp_path / "two") == contents_of(tmp_path / "one")
        assert not hidden_in(tmp_path / "two")

    def test_the_first_is_killed(
        self, tmp_path: Path, weights: Path, large: Large, capsys: pytest.CaptureFixture[str]
    ) -> None:
        results = tmp_path / "two"
        arguments = [large.pictures, "--model", weights, "-o", results, "--skip-existing"]
        with torchrun(*arguments) as launcher:
            kill_in_the_middle(launcher, 0, results)
            status, _, lines = ended(launcher)
        assert status != 0
        assert lines[-1] == f"dmsr: error: process 1 of 2 lost the first one: {LOST}"
        found = contents_of(results)
        assert 0 < len(found) < COUNT
        assert found.items() <= large.results.items()

        assert upscale(*arguments) == 0
        assert f"{len(found)} skipped" in capsys.readouterr().err
        assert contents_of(results) == large.results

    def test_the_other_is_killed_and_all_are_restarted(
        self, tmp_path: Path, weights: Path, large: Large
    ) -> None:
        results = tmp_path / "two"
        arguments = [large.pictures, "--model", weights, "-o", results, "--skip-existing"]
        with torchrun(*arguments, restarts=1) as launcher:
            kill_in_the_middle(launcher, 1, results)
            status, _, lines = ended(launcher)
        assert status == 0, lines
        numbers = [
            [int(number) for number in re.findall(r"\d+", without_times(line))]
            for line in lines
            if re.search(r"\d+ done", line)
        ]
        (done, _, _, not_begun), (rest, skipped, failed) = numbers
        assert done > 0
        assert done + not_begun == COUNT
        assert done <= skipped  # the one that was killed may have had no time to tell
        assert rest > 0
        assert (rest + skipped, failed) == (COUNT, 0)
        assert contents_of(results) == large.results

    def test_an_error_is_said_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        with torchrun(tmp_path, "--model", "missing.safetensors") as launcher:
            status, stdout, lines = ended(launcher)
        assert (status, stdout) == (1, "")
        assert len(lines) == 1
        assert "missing.safetensors" in lines[0]


def without_times(line: str) -> str:
    """The summary ends with them."""
    return re.sub(r" \(.*\)$", "", line)


def records_of(stdout: str) -> list[dict[str, Any]]:
    """The JSON Lines, without what is different in each run."""
    records = [json.loads(line) for line in stdout.splitlines()]
    for record in records:
        record["output"] = Path(record["output"]).name
        for name in ("seconds", "started", "finished"):
            record.pop(name, None)
    return records


class TestOfCommands:
    """What each process says by itself, where torchrun started two."""

    @pytest.fixture(autouse=True)
    def _launched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
        for name, value in started.items():
            monkeypatch.setenv(name, value)

    @pytest.mark.parametrize("arguments", [["upscale", "--bogus"], ["estimate", "a.png"]])
    def test_usage_is_explained_once(
        self,
        arguments: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("RANK", "0")
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert "bogus" in said or "cannot share estimate: leave torchrun out" in said
        monkeypatch.setenv("RANK", "1")
        assert main(arguments) == 0
        assert capsys.readouterr() == ("", "")


class TestJobs:
    def test_come_as_they_went(self) -> None:
        store = torch.distributed.HashStore()
        error = ImageError("no pictures in the folder x")
        jobs = [
            Job(Path(f"{number}.png"), Path("out") / f"{number}.jpg") for number in range(BLOCK)
        ]
        jobs.append(Job(Path(os.fsdecode(b"\xff\n.png")), Path("täst"), is_named_by_user=True))
        leave_jobs(store, [*jobs, Job(Path("x"), Path("y"), error)])
        found = Jobs(store)
        assert list(found)[:-1] == jobs
        assert found[0] == jobs[0]
        assert str(found[BLOCK + 1].error) == str(error)
        with pytest.raises(IndexError):
            found[BLOCK + 2]


@dataclasses.dataclass
class Crew:
    """Rank 0 in this process, and a store in which somebody may play rank 1."""

    store: Any
    team: Team
    jobs: list[Job]
    report: BatchReport

    def work(self, interruption: Interruption, stop_at: int = NO_MORE) -> None:
        """Do what falls to rank 0."""
        with self.team.telling(self.report, lambda: interruption.requested, record_of):
            for number, job in self.team.draw(self.jobs):
                self.report.run(record_of(job), succeed, debug=False, number=number)
                if number >= stop_at:
                    interruption.requested = True
                    break


class Other:
    """Rank 1."""

    def __init__(self, store: Any) -> None:
        self.team = Team(store, 1, 2)
        self.report = self.team.report(as_json=True)
        self.jobs = self.team.agree(lambda: [])
        self.numbers = self.team.draw(self.jobs)

    def finish(self, number: int, job: Job) -> None:
        self.report.say("so it is", number=number)
        self.report.say("of all pictures")
        self.report.run(record_of(job), succeed, debug=False, number=number)


def record_of(job: Job) -> dict[str, Any]:
    return {"input": str(job.source), "status": None, "error": None}


def succeed(record: dict[str, Any]) -> str:
    record["status"] = "ok"
    return f"{record['input']} is done"


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Crew:
    monkeypatch.setattr(sharing, "PATIENCE", 0.3)
    monkeypatch.setattr(sharing, "SHORT_PATIENCE", 0.2)
    store = torch.distributed.HashStore()
    jobs = [Job(Path(f"{number}.png"), Path(f"{number}_x2.png")) for number in range(5)]
    team = Team(store, 0, 2)
    team.agree(lambda: jobs)
    return Crew(store, team, jobs, team.report(as_json=True))


class TestMachine:
    """Two processes take no more of it than one."""

    @pytest.fixture(autouse=True)
    def _launched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "4")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    def test_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, amounts in (
            ("_linux_memory", [1000]),
            ("_cgroup_memory", [900]),
            ("_process_limits", [600]),
        ):
            monkeypatch.setattr(memory, name, lambda amounts=amounts: amounts)
        assert memory.free_memory(torch.device("cpu")) == 450

    @pytest.mark.parametrize(("said", "threads"), [("1", [4]), (None, [4]), ("3", [])])
    def test_threads(
        self, said: str | None, threads: list[int], crew: Crew, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", said) if said else monkeypatch.delenv(
            "OMP_NUM_THREADS", raising=False
        )
        monkeypatch.setattr(sharing, "_cores", lambda: 8)
        chosen: list[int] = []
        monkeypatch.setattr(torch, "set_num_threads", chosen.append)
        assert crew.team.device("cpu") == "cpu"
        assert chosen == threads


class TestFirstProcess:
    """What torchrun would end, others as srun do not."""

    def test_does_not_wait_for_one_that_has_gone(
        self, crew: Crew, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = Other(crew.store)
        other.finish(*next(other.numbers))
        next(other.numbers)
        crew.work(Interruption())
        said = capsys.readouterr()
        records = [json.loads(line) for line in said.out.splitlines()]
        assert [record["input"] for record in records] == [str(job.source) for job in crew.jobs]
        assert [record["status"] for record in records] == ["ok", "failed", "ok", "ok", "ok"]
        assert LOST in records[1]["error"]
        assert said.err.splitlines() == ["so it is", f"dmsr: error: {records[1]['error']}"]
        assert crew.report.finish(Interruption(), len(crew.jobs)) == 1

    def test_waits_for_one_that_works(self, crew: Crew, capsys: pytest.CaptureFixture[str]) -> None:
        other = Other(crew.store)
        taken = next(other.numbers)

        def work() -> None:
            for _ in range(10):
                time.sleep(0.1)
                crew.store.add("pulse/1", 1)
            other.finish(*taken)
            crew.store.add("pulse/1", LEFT)

        thread = threading.Thread(target=work)
        thread.start()
        crew.work(Interruption())
        thread.join()
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [record["status"] for record in records] == ["ok"] * 5

    def test_stops_the_others(self, crew: Crew, capsys: pytest.CaptureFixture[str]) -> None:
        other = Other(crew.store)
        next(other.numbers)
        interruption = Interruption(number=signal.SIGTERM)
        crew.work(interruption, stop_at=2)
        assert list(other.numbers) == []
        assert len(capsys.readouterr().out.splitlines()) == 2
        assert crew.report.finish(interruption, len(crew.jobs)) == 128 + signal.SIGTERM
        assert "interrupted: 2 done, 0 skipped, 0 failed, 3 not begun" in capsys.readouterr().err

    def test_ends_when_it_cannot_speak(self, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when that happens while it tells what the other has done."""
        errors = [BrokenPipeError()]

        def tell(*_: object) -> None:
            if errors:
                raise errors.pop()

        monkeypatch.setattr(crew.report, "tell", tell)
        other = Other(crew.store)
        other.finish(*next(other.numbers))

        def go_on() -> None:
            with crew.team.telling(crew.report, lambda: False, record_of):
                while errors:
                    time.sleep(0.01)
                time.sleep(0.05)
                next(crew.team.draw(crew.jobs))
                pytest.fail("it has drawn a job")

        with pytest.raises(BrokenPipeError):
            go_on()


class TestOtherProcess:
    def leave(self, store: Any) -> None:
        other = Other(store)
        with other.team.telling(other.report, lambda: True, record_of):
            pass
        assert other.team.status(143) == 0
        assert other.report.console.quiet  # on a terminal it would draw a bar

    def test_says_that_the_first_has_gone(self, crew: Crew) -> None:
        with pytest.raises(SharingError, match="process 1 of 2 lost the first one"):
            self.leave(crew.store)

    def test_leaves_without_a_word(self, crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sharing, "SHORT_PATIENCE", 5.0)
        with crew.team.pulses.beating():
            self.leave(crew.store)
        assert crew.store.add("pulse/1", 0) < 0
