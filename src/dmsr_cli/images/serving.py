"""What runs in a process that decodes: requests come in, pictures go out."""

from __future__ import annotations

import contextlib
import ctypes
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

from dmsr_cli.errors import DmsrError
from dmsr_cli.images.limits import Limits
from dmsr_cli.images.picture import Image
from dmsr_cli.images.reading import read_image
from dmsr_cli.images.sequences import Frame, Sequence, open_sequence
from dmsr_cli.interruption import SIGNALS

if sys.platform != "win32":
    import resource

CHUNK = 2**20
"""Bytes of pixels in a message: what is received takes so much memory twice."""

_KEPT = 2**28  # bytes of memory that the process may have between two pictures

SEQUENCE_FIELDS = ("format", "count", "loop", "is_paged", "comment", "warnings")
"""What is told of an open sequence, besides its frames."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """The error of a method."""

    text: str
    is_expected: bool


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a method returned."""

    content: Any
    """Pictures in it have planes without pixels, if `shapes` are given."""
    shapes: list[tuple[int, ...]] | None = None
    """Of the planes of pixels that follow."""


class Server:
    """What can be asked for, by the names of the methods."""

    def __init__(self) -> None:
        self._sequence: Sequence | None = None
        self._frames: Iterator[Frame] = iter(())

    def greet(self) -> None:
        """Shows by its answer that the process is well."""

    def read_image(self, source: Path, limits: Limits) -> Image:
        """As the function of this name."""
        return read_image(source, limits)

    def open_sequence(self, source: Path, limits: Limits) -> dict[str, Any] | None:
        """Its SEQUENCE_FIELDS; None for what is none. One is open at a time."""
        self._sequence = open_sequence(source, limits)
        if self._sequence is None:
            return None
        return {field: getattr(self._sequence, field) for field in SEQUENCE_FIELDS}

    def frames(self, start: int, stop: int | None) -> None:
        """Begin with these frames."""
        assert self._sequence is not None, "none is open"
        self._frames = self._sequence.frames(start, stop)

    def next_frame(self) -> Frame | None:
        """The next one, or None."""
        return next(self._frames, None)

    def close_sequence(self) -> None:
        """Close its file."""
        assert self._sequence is not None, "none is open"
        self._sequence.close()
        self._sequence, self._frames = None, iter(())


def serve(connection: Connection, kind: type[Server]) -> None:
    """Answer requests until the other end is closed."""
    _settle()
    server = kind()
    with contextlib.suppress(EOFError, OSError):  # nobody is there to answer
        while True:
            folder, allowance, name, arguments = connection.recv()
            if Path.cwd() != folder:
                os.chdir(folder)
            _limit_time(allowance)
            _answer(connection, getattr(server, name), arguments)
            _free_memory()


def _answer(
    connection: Connection, method: Callable[..., Any], arguments: tuple[object, ...]
) -> None:
    try:
        content = method(*arguments)
    except DmsrError as error:
        connection.send(Failure(str(error), is_expected=True))
        return
    except Exception as error:  # a mistake of ours, which the other process reports as such
        text = f"{type(error).__name__}: {error}"
        connection.send(Failure(text, is_expected=False))
        return
    planes = _planes_of(content)
    if not planes:
        connection.send(Answer(content))
        return
    none = [np.empty(0, np.float32) for _ in planes]
    connection.send(Answer(with_planes(content, none), [plane.shape for plane in planes]))
    for plane in planes:
        pixels = np.ascontiguousarray(plane).data.cast("B")
        for start in range(0, len(pixels), CHUNK):
            connection.send_bytes(pixels[start : start + CHUNK])


def _free_memory() -> None:
    """Give back what the C library keeps of a large picture for the next; nobody waits for it."""
    with contextlib.suppress(OSError, AttributeError):  # only Linux can, with its usual library
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        if pages * resource.getpagesize() > _KEPT:
            ctypes.CDLL(None).malloc_trim(0)


def _planes_of(content: object) -> list[np.ndarray[Any, Any]]:
    image = content.image if isinstance(content, Frame) else content
    if not isinstance(image, Image):
        return []
    return [image.pixels] if image.alpha is None else [image.pixels, image.alpha]


def with_planes(content: Any, planes: list[np.ndarray[Any, Any]]) -> Any:
    """The same picture or frame with other planes."""
    if isinstance(content, Frame):
        return dataclasses.replace(content, image=with_planes(content.image, planes))
    return dataclasses.replace(content, pixels=planes[0], alpha=planes[1] if planes[1:] else None)


def _settle() -> None:
    """Make this process one that harms no other."""
    # Whoever stops the batch means the other process, which ends this one when it needs no more.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
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
