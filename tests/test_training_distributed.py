"""Several processes that train one model, as torchrun starts them.

torchrun is given this very file; what its processes do is `work`, at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from dmsr_cli.errors import SettingsError
from dmsr_cli.files import atomic_write
from dmsr_cli.model import Degradation
from dmsr_cli.processes import launched_rank, meeting_place
from dmsr_cli.training import loop
from dmsr_cli.training.data import Batch, PatchSource, load_patch_source
from dmsr_cli.training.distributed import World, join_world
from dmsr_cli.training.loop import train
from dmsr_cli.training.settings import Recipe, recipe_text
from dmsr_cli.training.step import Stepper
from dmsr_cli.weights import load_weights
from training_runs import (
    EVERY_ITERATION,
    assert_same_run,
    checkpoint_of,
    draw_no_curves,
    log_of,
    message,
    tick,
    tiny_recipe,
)

pytestmark = pytest.mark.skipif(
    os.name == "nt" or not torch.distributed.is_available(), reason="torchrun needs gloo"
)

CPU = torch.device("cpu")
PATIENCE = 120.0
"""Seconds; what has not ended by then hangs."""
CLIP = 0.05
"""Below the norms of the first gradients, so that all of them are clipped."""

RUNS: dict[str, dict[str, Any]] = {
    "clipped": {"iterations": 6, "gradient_clip": CLIP},
    "unclipped": {"iterations": 6, "gradient_clip": 0.0},
    "without": {
        "iterations": 3,
        "degradation_weight": 0.0,
        "consistency_weight": 0.0,
        "kernel_consistency_weight": 0.0,
    },
    "minutes": {"minutes": 1.0},
    "stop_after": {"iterations": 1000},
}
"""Training settings of the runs that two processes do one after the other."""
TICKS = {"minutes": (2.0, 30.0), "stop_after": (0.1, 10.0)}
"""Seconds by which the clocks of rank 0 and rank 1 move on at each look."""

ITERATIONS = 6
PAUSED = 3
"""In this iteration one process waits, so that something can be done to it."""


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


@contextlib.contextmanager
def torchrun(task: str, folder: Path, *arguments: object, restarts: int = 0) -> Iterator[Any]:
    """Two processes that `work`; none of them outlives the block."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("--local-addr=127.0.0.1", f"--max-restarts={restarts}", __file__, task, folder),
    ]
    process = subprocess.Popen(
        [*map(str, command), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE)  # the pipes close when the last process has gone


def output_of(process: Any) -> tuple[int, str]:
    """Wait for the end; returns the exit status and standard error."""
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert stdout == ""
    assert not re.search(r'File ".*dmsr_cli', stderr), stderr  # no traceback of ours
    return process.returncode, stderr


def remembered(folder: Path, name: str, rank: int) -> dict[str, Any]:
    memory: dict[str, Any] = torch.load(folder / f"{name}-{rank}.pt")
    return memory


class Watched(Stepper):
    """Remembers batches, rates, and the gradients that the optimizer gets in the first step."""

    latest: ClassVar[Watched]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.memory: dict[str, Any] = {"batches": [], "rates": [], "gradients": {}}
        self.optimizer.register_step_pre_hook(self._remember_gradients)
        Watched.latest = self

    def __call__(self, batch: Batch, iteration: int, rate: float) -> Any:
        self.memory["batches"].append(tensors_of(batch))
        self.memory["rates"].append(rate)
        return super().__call__(batch, iteration, rate)

    def _remember_gradients(self, *_: Any) -> None:
        if not self.memory["gradients"]:
            self.memory["gradients"] = {
                name: parameter.grad.clone() for name, parameter in self.model.named_parameters()
            }


def tensors_of(batch: Batch) -> list[Tensor]:
    others = [batch.prefiltered, batch.told, batch.is_told]
    return [batch.hr, batch.lr, *batch.degradation, *others]


class BothSources:
    """The batches of two processes as one, in the order of their ranks."""

    def __init__(self, folders: Sequence[Path], recipe: Recipe, device: torch.device, *_: int):
        self.sources = [load_patch_source(folders, recipe, device, rank) for rank in (0, 1)]
        self.pictures = self.sources[0].pictures

    def batch(self, iteration: int) -> Batch:
        pairs = zip(*(tensors_of(source.batch(iteration)) for source in self.sources), strict=True)
        hr, lr, kernel, noise_map, *others = map(torch.cat, pairs)
        return Batch(hr, lr, Degradation(kernel, noise_map), *others)


@pytest.fixture(scope="class")
def two(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with torchrun("compare", folder, pictures) as process:
        status, stderr = output_of(process)
    assert status == 0, stderr
    return folder


@pytest.fixture
def one(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    monkeypatch.setattr(loop, "load_patch_source", BothSources)
    monkeypatch.setattr(loop, "Stepper", Watched)

    def run(name: str) -> tuple[Path, dict[str, Any]]:
        recipe = tiny_recipe(**RUNS[name])
        rate = math.sqrt(2) * recipe.training.learning_rate
        training = dataclasses.replace(recipe.training, learning_rate=rate)
        output = tmp_path / name
        train(dataclasses.replace(recipe, training=training), [pictures], output)
        return output, Watched.latest.memory

    return run


class TestSameAsOneProcess:
    """Two processes, and one with both batches and the learning rate times sqrt(2)."""

    def test_each_process_draws_its_own_patches(self, two: Path, pictures: Path) -> None:
        drawn = [remembered(two, "clipped", rank)["batches"] for rank in (0, 1)]
        recipe = tiny_recipe(**RUNS["clipped"])
        for rank in (0, 1):
            source = load_patch_source([pictures], recipe, CPU, rank)
            for iteration, found in enumerate(drawn[rank], start=1):
                wanted = tensors_of(source.batch(iteration))
                assert all(map(torch.equal, found, wanted))
        for first, second in zip(*drawn, strict=True):
            for mine, other in zip(first[:-1], second[:-1], strict=True):  # the last is yes or no
                assert not any(torch.equal(a, b) for a in mine for b in other)

    @pytest.mark.parametrize("name", ["clipped", "unclipped", "without"])
    def test_first_gradients(
        self, name: str, two: Path, one: Callable[[str], tuple[Path, dict[str, Any]]]
    ) -> None:
        _, wanted = one(name)
        assert all(gradient.any() for gradient in wanted["gradients"].values())
        for rank in (0, 1):
            found = remembered(two, name, rank)["gradients"]
            torch.testing.assert_close(found, wanted["gradients"], rtol=1e-4, atol=1e-7)

    def test_all_that_was_clipped_has_the_norm_of_the_clip(self, two: Path) -> None:
        gradients = remembered(two, "clipped", 1)["gradients"]
        extractor = [value for name, value in gradients.items() if name.startswith("extractor.")]
        norm = torch.cat([gradient.flatten() for gradient in extractor]).norm()
        torch.testing.assert_close(norm.item(), CLIP, rtol=1e-4, atol=0.0)

    @pytest.mark.parametrize("name", ["clipped", "unclipped", "without"])
    def test_rates_weights_average_and_optimizer(
        self, name: str, two: Path, one: Callable[[str], tuple[Path, dict[str, Any]]]
    ) -> None:
        output, memory = one(name)
        wanted, found = checkpoint_of(output), checkpoint_of(two / name)
        rates = remembered(two, name, 0)["rates"]
        assert rates == pytest.approx(memory["rates"], rel=1e-12)
        assert len(rates) == wanted["iteration"] == found["iteration"]
        for part in ("model", "average"):
            # Adam's steps are as large for a gradient that is hardly more than rounding.
            torch.testing.assert_close(found[part], wanted[part], rtol=1e-4, atol=1e-5)
        for index, state in wanted["optimizer"]["state"].items():
            mine = found["optimizer"]["state"][index]
            torch.testing.assert_close(mine, state, rtol=1e-3, atol=1e-7)

    @pytest.mark.parametrize("name", ["clipped", "unclipped", "without"])
    def test_all_processes_have_the_same_weights(self, name: str, two: Path) -> None:
        wanted = checkpoint_of(two / name)["model"]
        for rank in (0, 1):
            found = remembered(two, name, rank)["model"]
            assert all(torch.equal(found[key], wanted[key]) for key in wanted)

    def test_minutes_are_those_of_the_first_clock(
        self,
        two: Path,
        one: Callable[[str], tuple[Path, dict[str, Any]]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        tick(monkeypatch, TICKS["minutes"][0])
        wanted = checkpoint_of(one("minutes")[0])["iteration"]
        assert wanted > 60 / TICKS["minutes"][1]
        for rank in (0, 1):
            memory = remembered(two, "minutes", rank)
            assert (memory["iterations"], memory["finished"]) == (wanted, True)
            assert len(memory["rates"]) == wanted

    def test_whichever_clock_says_stop_all_stop(self, two: Path) -> None:
        ends = [remembered(two, "stop_after", rank) for rank in (0, 1)]
        assert ends[0]["iterations"] == ends[1]["iterations"] < 10
        assert not ends[0]["finished"]
        assert checkpoint_of(two / "stop_after")["iteration"] == ends[0]["iterations"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that validates and saves after each step."""
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    settings = {"iterations": ITERATIONS, "validate_every": EVERY_ITERATION}
    path.write_text(recipe_text(tiny_recipe(**settings)))
    return path


@dataclasses.dataclass
class Command:
    """`dmsr train` in two processes."""

    folder: Path
    recipe: Path
    pictures: Path

    @property
    def output(self) -> Path:
        return self.folder / "run"

    def start(
        self, *options: str, paused: int = -1, restarts: int = 0, task: str = "command"
    ) -> contextlib.AbstractContextManager[Any]:
        """With the options given; the process of rank `paused` waits to be told to stop."""
        arguments = ["train", "--data", self.pictures, "--val", self.pictures, "--device", "cpu"]
        arguments += ["--recipe", self.recipe, "-s", "2", "-o", self.output, *options]
        for name in ("ended-0", "ended-1", "paused"):
            (self.folder / name).unlink(missing_ok=True)
        return torchrun(task, self.folder, paused, *arguments, restarts=restarts)

    def wait_for_pause(self, process: Any) -> int:
        """Wait until the process that is to pause does; returns its number."""
        paused = self.folder / "paused"
        give_up = time.monotonic() + PATIENCE
        while not paused.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < give_up
            time.sleep(0.01)
        return int(paused.read_text())

    def ends(self) -> list[str]:
        """How each process ended that was not killed."""
        return [path.read_text() for path in sorted(self.folder.glob("ended-*"))]


@pytest.fixture
def command(tmp_path: Path, recipe: Path, pictures: Path) -> Command:
    return Command(tmp_path, recipe, pictures)


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, recipe: Path, pictures: Path
) -> tuple[Command, list[str]]:
    """A run that nothing happened to, and the lines that it printed."""
    command = Command(tmp_path_factory.mktemp("whole"), recipe, pictures)
    with command.start() as process:
        status, stderr = output_of(process)
    assert status == 0, stderr
    assert command.ends() == [f"{ITERATIONS} True, status 0"] * 2
    return command, stderr.splitlines()


class TestFirstProcess:
    def test_it_alone_speaks(self, whole: tuple[Command, list[str]]) -> None:
        lines = whole[1]
        assert "2 processes: 4 patches a step, learning rate times 1.41" in lines
        starts = ("training ", "2 processes: ", "iteration ", f"{ITERATIONS} iterations")
        counts = [sum(line.startswith(start) for line in lines) for start in starts]
        assert counts == [1, 1, ITERATIONS, 1]

    def test_it_alone_writes(
        self, whole: tuple[Command, list[str]], pictures: Path, tmp_path: Path
    ) -> None:
        command = whole[0]
        train(
            tiny_recipe(iterations=ITERATIONS, validate_every=EVERY_ITERATION),
            [pictures],
            tmp_path / "one",
            validation=pictures,
        )
        left = [
            {path.relative_to(folder) for path in folder.rglob("*")}
            for folder in (command.output, tmp_path / "one")
        ]
        assert left[0] == left[1]
        assert [row["iteration"] for row in log_of(command.output)] == list("123456")
        load_weights(command.output / "dmsr-x2.safetensors")
        assert not (command.folder / "elsewhere").exists()  # the other's output folder


class TestInterrupted:
    def test_again_and_again(self, command: Command, whole: tuple[Command, list[str]]) -> None:
        """In the end it is a run in one piece, bit for bit: with two processes a + b is b + a."""
        with command.start(paused=0) as process:
            command.wait_for_pause(process)
            process.send_signal(signal.SIGTERM)
            status, stderr = output_of(process)
        assert status != 0
        assert "stopped at iteration 3; go on with --resume" in stderr.splitlines()
        assert command.ends() == ["3 False, status 130"] * 2
        assert checkpoint_of(command.output)["iteration"] == 3

        with command.start("--resume", paused=1) as process:
            command.wait_for_pause(process)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            status, stderr = output_of(process)
        assert status != 0
        assert "going on from iteration 3" in stderr.splitlines()
        assert command.ends() == ["4 False, status 130"] * 2
        assert checkpoint_of(command.output)["iteration"] == 4
        load_weights(command.output / "dmsr-x2.safetensors")

        with command.start("--resume", paused=0, restarts=1) as process:
            os.kill(command.wait_for_pause(process), signal.SIGKILL)
            status, stderr = output_of(process)
        assert status == 0, stderr
        assert stderr.splitlines().count("going on from iteration 4") == 2
        assert command.ends() == [f"{ITERATIONS} True, status 0"] * 2
        assert_same_run(whole[0].output, command.output)

    def test_the_other_process_was_killed(self, command: Command) -> None:
        with command.start(paused=1, task="deaf") as process:
            os.kill(command.wait_for_pause(process), signal.SIGKILL)
            status, stderr = output_of(process)
        assert status != 0
        errors = [line for line in stderr.splitlines() if line.startswith("dmsr: ")]
        assert errors == ["dmsr: error: process 0 of 2 lost the others: go on with --resume"]
        assert command.ends() == ["status 1"]
        assert checkpoint_of(command.output)["iteration"] == PAUSED - 1
        load_weights(command.output / "dmsr-x2.safetensors")


class TestMeeting:
    def test_each_start_has_a_part_of_the_store_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever the processes before, which torchrun has ended, left in it."""
        server = torch.distributed.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
        started = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.port), "RANK": "1"}
        started |= {"WORLD_SIZE": "3", "TORCHELASTIC_USE_AGENT_STORE": "True"}
        for name, value in started.items():
            monkeypatch.setenv(name, value)

        def start() -> list[torch.distributed.Store]:
            stores: dict[int, torch.distributed.Store] = {}

            def meet(rank: int) -> None:
                stores[rank] = meeting_place(rank, 3)

            threads = [threading.Thread(target=meet, args=(rank,), daemon=True) for rank in (2, 1)]
            for thread in threads:
                thread.start()
            time.sleep(0.1)  # they have asked, or soon will
            threads.append(threading.Thread(target=meet, args=(0,), daemon=True))
            threads[-1].start()
            for thread in threads:
                thread.join(PATIENCE)
            return [stores[rank] for rank in range(3)]

        server.set("dmsr/question/1", "of one that went away before it had an answer")
        for address in (b"first", b"second"):
            stores = start()
            assert not any(store.check(["address"]) for store in stores)
            stores[0].set("address", address)
            assert [store.get("address") for store in stores] == [address] * 3


class TestJoining:
    """What is refused before a process looks for the others."""

    @pytest.fixture(autouse=True)
    def _launched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        started = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_WORLD_SIZE": "4", "LOCAL_RANK": "2"}
        for name, value in {**started, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
            monkeypatch.setenv(name, value)

    def refused(self, device: str) -> str:
        with pytest.raises(SettingsError) as error, join_world(torch.device(device)):
            pytest.fail("it was not refused")
        return message(error)

    @pytest.mark.parametrize("local_rank", ["0", "3"])
    def test_more_processes_than_gpus(
        self, local_rank: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All of them say so, not only the last one."""
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
        monkeypatch.setenv("LOCAL_RANK", local_rank)
        expected = "more processes than there are GPUs here (3): use --nproc-per-node=3"
        assert expected in self.refused("cuda")

    @pytest.mark.parametrize("device", ["cuda:1", "mps"])
    def test_one_device_for_all(self, device: str) -> None:
        assert f"cannot share {device}: use --device cuda" in self.refused(device)

    def test_started_by_something_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RANK")
        assert launched_rank() == 0
        assert "WORLD_SIZE is 4, but RANK is not set: use torchrun" in self.refused("cpu")

    def test_one_process_is_a_world_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for size in ("1", None):
            monkeypatch.setenv("WORLD_SIZE", size) if size else monkeypatch.delenv("WORLD_SIZE")
            assert launched_rank() == 0
            with join_world(CPU) as (world, device):
                assert (world, device) == (World(), CPU)
                assert world.leads
                assert world.agree(0.5, True) == (0.5, True)
            assert not torch.distributed.is_initialized()


def work() -> None:
    """What a process of torchrun does."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    task, folder, *arguments = sys.argv[1:]
    {"compare": _compare, "command": _command, "deaf": _deaf}[task](Path(folder), arguments)


def _end_with(parent: int) -> None:
    """torchrun gives each process a session of its own, so that a killed one leaves orphans."""
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(1)


def _compare(folder: Path, arguments: list[str]) -> None:
    """Do all `RUNS`, and write down what each process saw."""
    with join_world(CPU) as (world, device), pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "join_world", lambda _: contextlib.nullcontext((world, device)))
        patch.setattr(loop, "Stepper", Watched)
        draw_no_curves(patch)
        for name, settings in RUNS.items():
            with pytest.MonkeyPatch.context() as clock:
                if name in TICKS:
                    tick(clock, TICKS[name][world.rank])
                stop_after = 1.0 if name == "stop_after" else None
                pictures = [Path(arguments[0])]
                recipe = tiny_recipe(**settings)
                result = train(recipe, pictures, folder / name, stop_after=stop_after)
            memory = {
                **Watched.latest.memory,
                "model": Watched.latest.model.state_dict(),
                "iterations": result.iterations,
                "finished": result.finished,
            }
            torch.save(memory, folder / f"{name}-{world.rank}.pt")


def _command(folder: Path, arguments: list[str]) -> None:
    """`python -m dmsr_cli`, in which one process may pause once, until it is told to stop."""
    paused, *arguments = arguments
    rank = int(os.environ["RANK"])
    watch, draw, run = loop.watch_for_interruption, PatchSource.batch, loop.train
    watched, ended = [], []
    if rank > 0 and "--resume" not in arguments:  # it has nothing to read there
        arguments[arguments.index("-o") + 1] = str(folder / "elsewhere")

    @contextlib.contextmanager
    def remember() -> Iterator[Any]:
        with watch() as interruption:
            watched.append(interruption)
            yield interruption

    def pause(source: PatchSource, iteration: int) -> Batch:
        note = folder / "paused"
        if rank == int(paused) and iteration >= PAUSED and not note.exists():
            with atomic_write(note) as temporary:
                temporary.write_text(str(os.getpid()))
            while not watched[0].requested:
                time.sleep(0.01)
        return draw(source, iteration)

    def tell(**keywords: Any) -> Any:
        result = run(**keywords)
        ended.append(f"{result.iterations} {result.finished}")
        return result

    with pytest.MonkeyPatch.context() as patch:
        draw_no_curves(patch)
        patch.setattr(loop, "watch_for_interruption", remember)
        patch.setattr(PatchSource, "batch", pause)
        patch.setattr(loop, "train", tell)
        patch.setattr(sys, "argv", ["dmsr", *arguments])
        try:
            runpy.run_module("dmsr_cli", run_name="__main__")
        except SystemExit as error:
            ended.append(f"status {error.code}")
            (folder / f"ended-{rank}").write_text(", ".join(ended))
            raise


def _deaf(folder: Path, arguments: list[str]) -> None:
    """Like `_command`, but the SIGTERM of torchrun cannot come before the last word."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _command(folder, arguments)


if __name__ == "__main__":
    work()
