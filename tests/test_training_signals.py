"""Signals: a run that is told to stop ends between two steps, with its state saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dmsr_cli.interruption import SIGNALS, watch_for_interruption
from dmsr_cli.training import step
from dmsr_cli.training.loop import train
from dmsr_cli.weights import load_weights
from training_runs import (
    assert_same_run,
    checkpoint_of,
    draw_no_curves,
    files_of,
    run_until,
    tiny_recipe,
)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    draw_no_curves(monkeypatch)


@pytest.fixture(autouse=True)
def _sigterm_fails_the_test() -> Iterator[None]:
    """Where nobody watches; by default it would end all tests."""

    def fail(*_: object) -> None:
        raise AssertionError("SIGTERM acted at once")

    previous = signal.signal(signal.SIGTERM, fail)
    yield
    signal.signal(signal.SIGTERM, previous)


def signal_in_step(monkeypatch: pytest.MonkeyPatch, at: int, *signals: signal.Signals) -> None:
    """Send signals in the middle of step `at`: the optimizer is done, the average is not."""
    make = step._optimizer
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

    monkeypatch.setattr(step, "_optimizer", watched)


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

    @pytest.mark.parametrize(
        "signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)]
    )
    def test_ctrl_c_after_another_signal_acts_at_once(
        self,
        pictures: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        signals: tuple[signal.Signals, ...],
    ) -> None:
        output = tmp_path / "run"
        run_until(3, tiny_recipe(), [pictures], output)
        before = files_of(output)
        handlers = [signal.getsignal(each) for each in SIGNALS]
        signal_in_step(monkeypatch, 2, *signals)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_recipe(), [pictures], output, resume=True)
        del before["recipe.toml"]
        assert {**files_of(output), **before} == files_of(output)
        assert [signal.getsignal(each) for each in SIGNALS] == handlers

    @pytest.mark.parametrize(
        "signals",
        [(signal.SIGTERM,) * 3, (signal.SIGINT, signal.SIGTERM, signal.SIGTERM)],
    )
    def test_sigterm_after_another_signal_changes_nothing(
        self,
        pictures: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        signals: tuple[signal.Signals, ...],
    ) -> None:
        """Job schedulers send it more than once, and the state is still to be saved."""
        signal_in_step(monkeypatch, 2, *signals)
        result = train(tiny_recipe(), [pictures], tmp_path / "run")
        assert (result.finished, result.iterations) == (False, 2)
        assert checkpoint_of(tmp_path / "run")["iteration"] == 2
        load_weights(result.weights)

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

    def test_ignored_ctrl_c_stays_ignored_after_sigterm(self) -> None:
        """As under nohup."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with watch_for_interruption() as interruption:
                signal.raise_signal(signal.SIGTERM)
                assert interruption.requested
                assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, previous)

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
            "from dmsr_cli.training import keeper, loop\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
            "keeper.REPORT_EVERY = 4\n"
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
