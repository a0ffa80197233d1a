"""The handle of a process that decodes.

Pixels come through a pipe as they are; not pickled, which would copy them, and not by way of
shared memory, of which containers have little.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dmsr_cli.errors import ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images.serving import CHUNK, Answer, Failure, Server, serve, with_planes
from dmsr_cli.interruption import SIGNALS

SECONDS = 10
"""Time that a request has to decode a file of no size, in seconds of the processor."""
SECONDS_PER_MEGABYTE = 20
"""What is added for a million bytes; slow formats, as AVIF and JPEG 2000, take a tenth of it."""
WALL_FACTOR = 6
"""How many times as long a request may take by the clock, if the system limits processor time."""

SERVER: type[Server] = Server
"""What answers in the process; tests put another in its place."""

_CURABLE = "the file is damaged or malicious; convert it with another program first"


class Worker:
    """The handle of a decoding process. One thread at a time may use it."""

    def __init__(self) -> None:
        """Starts the process, without waiting until it is ready."""
        context = multiprocessing.get_context("spawn")  # a fork would copy locks, and torch
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, SERVER), daemon=True)
        with _signals_held_back():
            self._process.start()
        theirs.close()
        self._in_step = True
        atexit.register(self.end)  # before multiprocessing waits for it

    @property
    def usable(self) -> bool:
        """It waits for a request: it has not ended, and no exchange was broken off."""
        return self._in_step and self._process.is_alive()

    @property
    def process_id(self) -> int | None:
        """As the system counts."""
        return self._process.pid

    def answers(self) -> bool:
        """It is usable, and not about to end: the system counts a dying process with the living."""
        if not self.usable:
            return False
        self._in_step = False
        try:
            self._connection.send((Path.cwd(), SECONDS, "greet", ()))
            if self._connection.poll(SECONDS * WALL_FACTOR):
                self._connection.recv()
                self._in_step = True
        except (EOFError, OSError):
            pass  # it has ended
        return self._in_step

    def end(self) -> None:
        """End the process, whatever it does."""
        atexit.unregister(self.end)
        self._process.kill()
        self._process.join()
        self._connection.close()

    def ask(self, source: Path, name: str, *arguments: object) -> Any:
        """What a method of the server returns; pixels are received into memory of this process.

        Raises:
            ImageError: the method's; or, after which the worker is not usable, the process crashed
                or took longer than a file of this size may.
        """
        self._in_step = False
        allowance = allowed_seconds(source)
        try:
            self._connection.send((Path.cwd(), allowance, name, arguments))
            limit = allowance * (1 if sys.platform == "win32" else WALL_FACTOR)
            # Twice, because the first is over at once after a Ctrl-Z that lasted.
            done = self._connection.poll(limit) or self._connection.poll(SECONDS)
            value = self._received() if done else None
        except (EOFError, OSError):
            raise ImageError(self._obituary(source, allowance)) from None
        if value is None:
            self._process.kill()
            raise ImageError(_too_slow(source, allowance))
        self._in_step = True
        if isinstance(value, Failure):
            raise ImageError(value.text) if value.is_expected else RuntimeError(value.text)
        return value.content

    def _received(self) -> Failure | Answer:
        answer: Failure | Answer = self._connection.recv()
        if not isinstance(answer, Answer) or answer.shapes is None:
            return answer
        planes = [self._plane(shape) for shape in answer.shapes]
        return Answer(with_planes(answer.content, planes))

    def _plane(self, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        plane = np.empty(shape, np.float32)
        content = plane.data.cast("B")
        for start in range(0, len(content), CHUNK):
            self._connection.recv_bytes_into(content[start : start + CHUNK])
        return plane

    def _obituary(self, source: Path, allowance: int) -> str:
        self._process.join(WALL_FACTOR)
        code, name = self._process.exitcode, display_name(source)
        if code is None or code >= 0:
            return f"cannot read {name}: its decoder ended (exit status {code}); {_CURABLE}"
        if -code == getattr(signal, "SIGXCPU", None):
            return _too_slow(source, allowance)
        how = signal.Signals(-code).name
        if how == "SIGKILL":
            return f"cannot read {name}: its decoder was killed, as when memory is short; free some"
        return f"cannot read {name}: its decoder crashed ({how}); {_CURABLE}"


def allowed_seconds(source: Path) -> int:
    """How long the decoder may compute on a file, or on one frame of it."""
    try:
        size = source.stat().st_size
    except OSError:
        size = 0  # for the reading to find out
    return SECONDS + math.ceil(SECONDS_PER_MEGABYTE * size / 1e6)


def _too_slow(source: Path, allowance: int) -> str:
    return (
        f"cannot read {display_name(source)}: decoding took more than {allowance} s, too long for "
        "a file of its size; if it is sound, give it alone, which has no limit"
    )


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """A process that is started inherits it; here, signals come when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
