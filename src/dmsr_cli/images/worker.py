"""A process that decodes: its handle here, and what runs there.

Pixels come through a pipe as they are; not pickled, which would copy them, and not by way of
shared memory, of which containers have little.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from dmsr_cli.errors import DmsrError, ImageError
from dmsr_cli.files import display_name
from dmsr_cli.images.limits import Limits
from dmsr_cli.images.picture import Image
from dmsr_cli.images.reading import read_image
from dmsr_cli.images.sequences import Frame, Sequence, open_sequence

if sys.platform != "win32":
    import resource

SECONDS = 10
"""Time that a request has to decode a file of no size, in seconds of the processor."""
SECONDS_PER_MEGABYTE = 20
"""What is added for a million bytes; slow formats, as AVIF and JPEG 2000, take a tenth of it."""
WALL_FACTOR = 6
"""How many times as long a request may take by the clock, if the system limits processor time."""

SEQUENCE_FIELDS = ("format", "count", "loop", "is_paged", "comment", "warnings")
"""What is told of an open sequence, besides its frames."""

_CHUNK = 2**20  # bytes of pixels in a message: what is received takes so much memory twice
_CURABLE = "the file is damaged or malicious; convert it with another program first"


class Worker:
    """The handle of a decoding process. One thread at a time may use it."""

    def __init__(self) -> None:
        """Starts the process, without waiting until it is ready."""
        context = multiprocessing.get_context("spawn")  # a fork would copy locks, and torch
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        with _ctrl_c_held_back():
            self._process.start()
        theirs.close()
        self._in_step = True
        atexit.register(self.end)  # before multiprocessing waits for it

    @property
    def usable(self) -> bool:
        """It waits for a request: it has not ended, and no exchange was broken off."""
        return self._in_step and self._process.is_alive()

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
        if isinstance(value, _Failure):
            raise ImageError(value.text) if value.is_expected else RuntimeError(value.text)
        return value.content

    def _received(self) -> _Failure | _Answer:
        answer: _Failure | _Answer = self._connection.recv()
        if not isinstance(answer, _Answer) or answer.shapes is None:
            return answer
        planes = [self._plane(shape) for shape in answer.shapes]
        return _Answer(_with_planes(answer.content, planes))

    def _plane(self, shape: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        plane = np.empty(shape, np.float32)
        content = plane.data.cast("B")
        for start in range(0, len(content), _CHUNK):
            self._connection.recv_bytes_into(content[start : start + _CHUNK])
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
def _ctrl_c_held_back() -> Iterator[None]:
    """A process that is started inherits it; here, Ctrl-C comes when the block ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What runs in the other process


@dataclasses.dataclass(frozen=True)
class _Failure:
    text: str
    is_expected: bool


@dataclasses.dataclass(frozen=True)
class _Answer:
    content: Any
    """Pictures in it have planes without pixels, if `shapes` are given."""
    shapes: list[tuple[int, ...]] | None = None
    """Of the planes of pixels that follow."""


class _Server:
    """What can be asked for, by the names of the methods."""

    def __init__(self) -> None:
        self._sequence: Sequence | None = None
        self._frames: Iterator[Frame] = iter(())

    def read_image(self, source: Path, limits: Limits) -> Image:
        return read_image(source, limits)

    def open_sequence(self, source: Path, limits: Limits) -> dict[str, Any] | None:
        self._sequence = open_sequence(source, limits)
        if self._sequence is None:
            return None
        return {field: getattr(self._sequence, field) for field in SEQUENCE_FIELDS}

    def frames(self, start: int, stop: int | None) -> None:
        assert self._sequence is not None, "none is open"
        self._frames = self._sequence.frames(start, stop)

    def next_frame(self) -> Frame | None:
        return next(self._frames, None)

    def close_sequence(self) -> None:
        assert self._sequence is not None, "none is open"
        self._sequence.close()
        self._sequence, self._frames = None, iter(())


def serve(connection: Connection) -> None:
    """Answer requests until the other end is closed."""
    _settle()
    server = _Server()
    with contextlib.suppress(EOFError, OSError):  # nobody is there to answer
        while True:
            folder, allowance, name, arguments = connection.recv()
            if Path.cwd() != folder:
                os.chdir(folder)
            _limit_time(allowance)
            _answer(connection, getattr(server, name), arguments)


def _answer(
    connection: Connection, method: Callable[..., Any], arguments: tuple[object, ...]
) -> None:
    try:
        content = method(*arguments)
    except DmsrError as error:
        connection.send(_Failure(str(error), is_expected=True))
        return
    except Exception as error:  # a mistake of ours, which the other process reports as such
        text = f"{type(error).__name__}: {error}"
        connection.send(_Failure(text, is_expected=False))
        return
    planes = _planes_of(content)
    if not planes:
        connection.send(_Answer(content))
        return
    none = [np.empty(0, np.float32) for _ in planes]
    connection.send(_Answer(_with_planes(content, none), [plane.shape for plane in planes]))
    for plane in planes:
        pixels = np.ascontiguousarray(plane).data.cast("B")
        for start in range(0, len(pixels), _CHUNK):
            connection.send_bytes(pixels[start : start + _CHUNK])


def _planes_of(content: object) -> list[np.ndarray[Any, Any]]:
    image = content.image if isinstance(content, Frame) else content
    if not isinstance(image, Image):
        return []
    return [image.pixels] if image.alpha is None else [image.pixels, image.alpha]


def _with_planes(content: Any, planes: list[np.ndarray[Any, Any]]) -> Any:
    """The same picture or frame with other planes."""
    if isinstance(content, Frame):
        return dataclasses.replace(content, image=_with_planes(content.image, planes))
    return dataclasses.replace(content, pixels=planes[0], alpha=planes[1] if planes[1:] else None)


def _settle() -> None:
    """Make this process one that harms no other."""
    # Whoever stops the batch means the other process, which ends this one when it needs no more.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # libraries print remarks, for developers
        os.dup2(nowhere, descriptor)
    if sys.platform != "win32":
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no file behind
    with contextlib.suppress(OSError):  # where memory runs out, Linux ends this one first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this runs in a child"
    parent.join()
    os._exit(1)


def _limit_time(allowance: int) -> None:
    """Let the system end this process after so many more seconds of the processor."""
    if sys.platform == "win32":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(time.process_time()) + allowance
    bounded = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (bounded, hard))
