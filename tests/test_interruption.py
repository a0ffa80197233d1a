"""Signals: the first may wait for the running work, the second ends the process without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dmsr_cli import interruption
from dmsr_cli.interruption import (
    SIGNALS,
    end_at_once,
    finish_first,
    watch_for_interruption,
)
from threads import threads_of_ours

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are other ones there")

WRITES = """
import hashlib, sys, threading, time
from dmsr_cli import interruption
from dmsr_cli.files import atomic_write
from dmsr_cli.interruption import end_at_once, finish_first

interruption.SAME_REQUEST = 0.05

def write(number):
    while True:
        with atomic_write(f"{sys.argv[1]}/result{number}.png") as temporary:
            temporary.write_bytes(b"all of it")
            time.sleep(0.001)

def compute():
    hashlib.pbkdf2_hmac("sha256", b"word", b"salt", 10**9)

def say():
    print("asked", flush=True)
    time.sleep(60)  # as it may, when a thread that writes keeps it waiting

with end_at_once():
    for number in range(3):
        threading.Thread(target=write, args=(number,), daemon=True).start()
    if sys.argv[2] == "finish":
        with finish_first(say):
            print("writing", flush=True)
            compute()  # the main thread does not come back from here to call a handler
    print("writing", flush=True)
    compute()
"""


@pytest.fixture
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """It writes to result0.png to result2.png, all the time, in threads, and computes."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(tmp_path), request.param],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            time.sleep(0.1)
            yield process
        finally:
            process.kill()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_ended(process: subprocess.Popen[str], number: int, folder: Path) -> None:
    _, said = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert said == "dmsr: interrupted\n"
    assert names_in(folder) <= {f"result{number}.png" for number in range(3)}
    for path in folder.iterdir():
        assert path.read_bytes() == b"all of it"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("process", ["at once"], indirect=True)
def test_a_signal_ends_it_at_once(
    process: subprocess.Popen[str], tmp_path: Path, number: int
) -> None:
    process.send_signal(number)
    assert_ended(process, number, tmp_path)


@pytest.mark.parametrize("process", ["finish"], indirect=True)
def test_the_second_signal_ends_what_the_first_does_not(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert process.stdout is not None
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "asked\n"
    time.sleep(0.1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert_ended(process, signal.SIGTERM, tmp_path)


def wait_until(condition: threading.Event) -> None:
    assert condition.wait(10)


class TestFinishFirst:
    @pytest.fixture(autouse=True)
    def _no_end(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """What would have ended this process."""
        self.ended: list[int] = []
        self.has_ended = threading.Event()

        def end(number: int) -> None:
            self.ended.append(number)
            self.has_ended.set()

        monkeypatch.setattr(interruption, "_end", end)
        return self.ended

    def test_signals_that_come_together_are_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = threading.Event()
        now = [100.0]
        monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
        with finish_first(asked.set) as state:
            assert state.status == 0
            signal.raise_signal(signal.SIGTERM)
            wait_until(asked)
            assert (state.requested, state.status) == (True, 143)
            handler = signal.getsignal(signal.SIGINT)
            assert isinstance(handler, interruption._Watched)
            now[0] += interruption.SAME_REQUEST / 2
            handler.act(signal.SIGINT)
            assert self.ended == []
            now[0] += interruption.SAME_REQUEST
            handler.act(signal.SIGINT)
            assert self.ended == [signal.SIGINT]
            assert state.status == 143

    def test_a_command_that_watches_itself_is_ended_by_the_second_ctrl_c(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not by the first, nor by the same that torchrun passes on."""
        now = [100.0]
        monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
        with end_at_once(), watch_for_interruption() as state:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)  # the watching thread has seen it
            assert (state.requested, self.ended) == (True, [])
            now[0] += interruption.SAME_REQUEST / 2
            signal.raise_signal(signal.SIGINT)
            assert self.ended == []
            now[0] += interruption.SAME_REQUEST
            signal.raise_signal(signal.SIGTERM)
            assert self.ended == []
            signal.raise_signal(signal.SIGINT)
            assert self.ended == [signal.SIGINT]

    def test_handlers_come_back_and_the_outer_one_acts_again(self) -> None:
        handlers = [signal.getsignal(number) for number in SIGNALS]
        asked = threading.Event()
        with end_at_once():
            outer = signal.getsignal(signal.SIGTERM)
            with finish_first(asked.set):
                signal.raise_signal(signal.SIGTERM)
                wait_until(asked)
            assert self.ended == []
            assert signal.getsignal(signal.SIGTERM) is outer
            signal.raise_signal(signal.SIGTERM)
            wait_until(self.has_ended)
        assert self.ended == [signal.SIGTERM]
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
        assert signal.set_wakeup_fd(-1) == -1
        assert threads_of_ours() == []

    def test_what_is_ignored_stays_ignored(self) -> None:
        """As under nohup."""
        previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with finish_first() as state:
                signal.raise_signal(signal.SIGHUP)
                assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert not state.requested
        finally:
            signal.signal(signal.SIGHUP, previous)

    def test_other_threads_handle_none(self) -> None:
        states = []

        def work() -> None:
            with finish_first() as state:
                states.append(state)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert not states[0].requested

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_forked_child_ends_as_any_process(self) -> None:
        with finish_first() as state:
            child = os.fork()
            if child == 0:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(1)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WTERMSIG(status) == signal.SIGTERM
        assert not state.requested
