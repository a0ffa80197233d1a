"""Interrupting a run, going on with it, and checkpoints that cannot be used."""

from __future__ import annotations

import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from dmsr_cli.errors import CheckpointError
from dmsr_cli.training import loop
from dmsr_cli.training.interruption import SIGNALS, watch_for_interruption
from dmsr_cli.training.loop import train
from dmsr_cli.training.settings import Recipe
from dmsr_cli.weights import load_weights
from training_runs import (
    EVERY_ITERATION,
    assert_same_run,
    checkpoint_of,
    files_of,
    log_of,
    make_pictures,
    message,
    run_until,
    tick,
    tiny_recipe,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture
def stopped(pictures: Path, tmp_path: Path) -> Path:
    """A run of 8 iterations that was interrupted after 3."""
    run_until(3, tiny_recipe(), [pictures], tmp_path / "run")
    return tmp_path / "run"


def signal_in_step(monkeypatch: pytest.MonkeyPatch, at: int, *signals: signal.Signals) -> None:
    """Send signals in the middle of step `at`: the optimizer is done, the average is not."""
    make = loop._optimizer
    count = [0]

    def watched(parts: Any, settings: Any) -> torch.optim.Adam:
        optimizer = make(parts, settings)

        def send(*_: Any) -> None:
            count[0] += 1
            if count[0] == at:
                for number in signals:
                    signal.raise_signal(number)

        optimizer.register_step_post_hook(send)
        return optimizer

    monkeypatch.setattr(loop, "_optimizer", watched)


class TestResume:
    def test_bit_for_bit(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tick(monkeypatch, 1e-4)  # the weight file tells the seconds, rounded: here none
        recipe = tiny_recipe(iterations=10)
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        expected = train(recipe, [pictures], whole, validation=pictures)
        lines: list[str] = []
        arguments: dict[str, Any] = {"validation": pictures, "on_message": lines.append}
        first = run_until(3, recipe, [pictures], parts, **arguments)
        assert (first.finished, first.iterations) == (False, 3)
        second = run_until(7, recipe, [pictures], parts, resume=True, **arguments)
        assert (second.finished, second.iterations) == (False, 7)
        last = train(recipe, [pictures], parts, resume=True, **arguments)
        assert last == dataclasses.replace(expected, weights=last.weights)
        assert last.finished
        assert_same_run(whole, parts)
        assert last.weights.read_bytes() == expected.weights.read_bytes()
        assert lines == [
            "interrupted at iteration 3; go on with --resume",
            "going on from iteration 3",
            "interrupted at iteration 7; go on with --resume",
            "going on from iteration 7",
        ]
        assert [row["iteration"] for row in log_of(parts)] == list("1234567")

    def test_interrupted_run_leaves_good_weights(self, stopped: Path) -> None:
        model = load_weights(stopped / "dmsr-x2.safetensors")
        average = checkpoint_of(stopped)["average"]
        name = "restorer.head.weight"
        assert torch.equal(model.state_dict()[name], average[name].half().float())

    def test_a_run_that_has_ended(self, pictures: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(iterations=2)
        for resume in (False, True):
            result = train(recipe, [pictures], tmp_path / "run", resume=resume)
            assert (result.finished, result.iterations) == (True, 2)
        longer = train(tiny_recipe(iterations=3), [pictures], tmp_path / "run", resume=True)
        assert longer.iterations == 3

    def test_seconds_add_up(
        self, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tick(monkeypatch, 1.0)
        output = tmp_path / "run"
        run_until(3, tiny_recipe(), [pictures], output)
        before = checkpoint_of(output)["seconds"]
        train(tiny_recipe(), [pictures], output, resume=True)
        assert checkpoint_of(output)["seconds"] > before > 3

    def test_without_checkpoint(self, pictures: Path, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="start the run without --resume") as error:
            train(tiny_recipe(), [pictures], tmp_path / "no\nrun", resume=True)
        message(error)

    def test_each_other_setting_is_named(self, pictures: Path, stopped: Path) -> None:
        before = files_of(stopped)
        recipe = tiny_recipe(batch=3, noise_levels=(0.0, 50.0))
        recipe = Recipe(dataclasses.replace(recipe.model, blocks=2), recipe.training)
        with pytest.raises(CheckpointError) as error:
            train(recipe, [pictures], stopped, resume=True)
        assert (
            "other settings: blocks was 1, is 2; batch was 2, is 3; "
            "noise_levels was (0.0, 75.0), is (0.0, 50.0); use the same" in message(error)
        )
        assert files_of(stopped) == before

    def test_settings_that_may_change(self, pictures: Path, stopped: Path) -> None:
        recipe = tiny_recipe(minutes=1e-9, validate_every=EVERY_ITERATION, compile=False)
        assert train(recipe, [pictures], stopped, resume=True).iterations == 3


class TestBadCheckpoint:
    def refused(self, pictures: Path, output: Path, expected: str = "is damaged or not") -> None:
        before = files_of(output)
        with pytest.raises(CheckpointError, match=expected) as error:
            train(tiny_recipe(), [pictures], output, resume=True)
        assert str(output / "checkpoint.pt") in message(error)
        assert files_of(output) == before

    def test_cut_short(self, pictures: Path, stopped: Path) -> None:
        path = stopped / "checkpoint.pt"
        content = path.read_bytes()
        for length in (0, 1, 100, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            self.refused(pictures, stopped)

    def test_flipped_bit_in_a_weight(self, pictures: Path, stopped: Path) -> None:
        path = stopped / "checkpoint.pt"
        weight = checkpoint_of(stopped)["model"]["restorer.head.weight"]
        stored = weight.permute(0, 2, 3, 1).contiguous().numpy().tobytes()  # channels last
        content = bytearray(path.read_bytes())
        content[content.index(stored) + 9] ^= 4
        path.write_bytes(content)
        self.refused(pictures, stopped)

    @pytest.mark.parametrize("content", [b"hello\n", b"\x80\x02}q\x00.", b"PK\x03\x04" + bytes(99)])
    def test_other_files(self, pictures: Path, stopped: Path, content: bytes) -> None:
        (stopped / "checkpoint.pt").write_bytes(content)
        self.refused(pictures, stopped)

    @pytest.mark.parametrize(
        "state", [{"w": torch.zeros(2)}, [1], torch.zeros(2), {"format": 1, "recipe": "lite"}]
    )
    def test_other_checkpoints(self, pictures: Path, stopped: Path, state: Any) -> None:
        torch.save(state, stopped / "checkpoint.pt")
        self.refused(pictures, stopped)

    def test_other_version(self, pictures: Path, stopped: Path) -> None:
        path, state = stopped / "checkpoint.pt", checkpoint_of(stopped)
        torch.save({**state, "format": 99}, path)
        self.refused(pictures, stopped, "of another version")
        for part in ("model", "optimizer", "source", "iteration"):
            torch.save({key: value for key, value in state.items() if key != part}, path)
            self.refused(pictures, stopped, "does not fit")
        weights = dict(state["model"])
        weights["restorer.old.weight"] = weights.pop("restorer.head.weight")
        torch.save({**state, "model": weights}, path)
        self.refused(pictures, stopped, "does not fit")

    @pytest.mark.parametrize("archive", [False, True])
    def test_no_code_is_run(self, pictures: Path, stopped: Path, archive: bool) -> None:
        marker, path = stopped / "code-was-run", stopped / "checkpoint.pt"

        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return (os.mkdir, (str(marker),))

        if archive:
            torch.save({**checkpoint_of(stopped), "model": Bomb()}, path)
        else:
            path.write_bytes(pickle.dumps(Bomb()))
        self.refused(pictures, stopped)
        assert not marker.exists()
        torch.load(path, weights_only=False) if archive else pickle.loads(path.read_bytes())
        assert marker.exists()  # it would have


class TestSignals:
    @pytest.mark.parametrize("number", SIGNALS)
    def test_in_the_middle_of_a_step(
        self,
        pictures: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        number: signal.Signals,
    ) -> None:
        handlers = [signal.getsignal(each) for each in SIGNALS]
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        train(tiny_recipe(), [pictures], whole)
        with monkeypatch.context() as patch:
            signal_in_step(patch, 3, number)
            result = train(tiny_recipe(), [pictures], parts)
        assert (result.finished, result.iterations) == (False, 3)
        assert checkpoint_of(parts)["iteration"] == 3
        assert [signal.getsignal(each) for each in SIGNALS] == handlers
        assert train(tiny_recipe(), [pictures], parts, resume=True).finished
        assert_same_run(whole, parts)

    def test_second_one_acts_at_once(
        self, pictures: Path, stopped: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = files_of(stopped)
        signal_in_step(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_recipe(), [pictures], stopped, resume=True)
        del before["recipe.toml"]
        assert {**files_of(stopped), **before} == files_of(stopped)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_error_restores_the_handlers(self) -> None:
        handlers = [signal.getsignal(number) for number in SIGNALS]

        def fail() -> None:
            assert all(signal.getsignal(number) not in handlers for number in SIGNALS)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), watch_for_interruption():
            fail()
        assert [signal.getsignal(number) for number in SIGNALS] == handlers

    def test_ignored_signals_stay_ignored(self) -> None:
        previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            with watch_for_interruption() as interruption:
                signal.raise_signal(signal.SIGTERM)
                assert not interruption.requested
                signal.raise_signal(signal.SIGINT)
                assert interruption.requested
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGTERM, previous)

    def test_other_threads_handle_none(self, pictures: Path, tmp_path: Path) -> None:
        results = []

        def work() -> None:
            results.append(train(tiny_recipe(iterations=1), [pictures], tmp_path / "run"))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert results[0].finished

    @pytest.mark.skipif(os.name == "nt", reason="Windows ends a process that gets SIGTERM")
    def test_from_outside(self, pictures: Path, tmp_path: Path) -> None:
        """A process that is told to stop by SIGINT, goes on, and is told again by SIGTERM."""
        program = (
            "import signal, sys\n"
            "from pathlib import Path\n"
            "from training_runs import tiny_recipe\n"
            "from dmsr_cli.training import loop\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
            "loop.REPORT_EVERY = 4\n"
            "def report(progress):\n"
            "    print(progress.iteration, flush=True)\n"
            "    sys.stdin.readline()\n"
            "for resume in (False, True):\n"
            "    result = loop.train(tiny_recipe(iterations=40), [Path(sys.argv[1])],\n"
            "        Path(sys.argv[2]), resume=resume, on_progress=report)\n"
            "    print('stopped', result.finished, result.iterations, flush=True)\n"
        )
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        python_path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        with subprocess.Popen(
            [sys.executable, "-c", program, pictures, parts],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": python_path, "OMP_NUM_THREADS": "1"},
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for number, reported in ((signal.SIGINT, "4"), (signal.SIGTERM, "8")):
                assert process.stdout.readline().strip() == reported
                process.send_signal(number)
                process.stdin.write("go on\n")
                process.stdin.flush()
                line = process.stdout.readline().split()
                assert line[:2] == ["stopped", "False"]
                assert int(reported) <= int(line[2]) < int(reported) + 4
            assert process.wait(30) == 0
        assert train(tiny_recipe(iterations=40), [pictures], parts, resume=True).finished
        train(tiny_recipe(iterations=40), [pictures], whole)
        assert_same_run(whole, parts)
